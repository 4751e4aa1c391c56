//! A room of machines in network namespaces: a console, targets, and a switch that snoops IGMP.
//!
//! ```text
//!   PREFIX-con 10.77.0.1 --veth--+
//!   PREFIX-t1  10.77.1.1 --veth--+-- br0 in PREFIX-sw (snooping, querier)
//!   PREFIX-tN  10.77.1.N --veth--+
//! ```
//!
//! Every link is shaped by a token bucket in both directions, so a switch port has a finite queue and drops its
//! tail as a real one does. Loss is an iptables rule in each target: UDP only, a different draw for each. The kernel
//! here may lack netem, so there is no delay and no reordering; the session's simulator has both.
//!
//! Two facts that cost a day each when unknown: a bridge floods every group until its own querier has run for one
//! response interval, so the interval is made short before the querier starts; and veth passes 64 KiB segments through
//! the shaper unless GSO is switched off.

use std::os::fd::AsFd;

use super::process::bash;

/// The room; taken down when dropped.
pub(crate) struct Room {
    prefix: String,
    pub(crate) targets: usize,
}

/// The console's address in every room.
pub(crate) const CONSOLE: &str = "10.77.0.1";

impl Room {
    /// `rate` as tc says it (`200mbit`), `loss` from 0 to 1.
    #[track_caller]
    pub(crate) fn new(label: &str, targets: usize, rate: &str, loss: f64) -> Self {
        let room = Self {
            prefix: format!("dct{}{label}", std::process::id()),
            targets,
        };
        let switch = room.name("sw");
        let burst = "100000"; // 4 ms at 200 Mbit/s
        bash(&format!(
            "ip netns add {switch}
             ip -n {switch} link set lo up
             ip -n {switch} link add br0 type bridge stp_state 0 forward_delay 0
             ip -n {switch} link set br0 type bridge mcast_query_response_interval 20 mcast_query_interval 1000 \
                mcast_startup_query_interval 50 mcast_query_use_ifaddr 1 mcast_snooping 1
             ip -n {switch} link set br0 type bridge mcast_querier 1
             ip -n {switch} addr add 10.77.255.254/16 dev br0
             ip -n {switch} link set br0 up"
        ));
        for i in 0..=targets {
            let (who, address) = if i == 0 {
                ("con".to_owned(), CONSOLE.to_owned())
            } else {
                (format!("t{i}"), format!("10.77.1.{i}"))
            };
            let here = room.name(&who);
            let drop = if i > 0 && loss > 0.0 {
                format!(
                    "ip netns exec {here} iptables -A INPUT -p udp -m statistic --mode random --probability {loss} -j DROP"
                )
            } else {
                String::new()
            };
            bash(&format!(
                "ip netns add {here}
                 ip link add eth0 netns {here} type veth peer name {who} netns {switch}
                 ip -n {here} link set lo up
                 ip -n {here} addr add {address}/16 brd 10.77.255.255 dev eth0
                 ip -n {here} link set eth0 up
                 ip -n {here} route add 224.0.0.0/4 dev eth0
                 ip -n {here} route add default via 10.77.255.254
                 ip -n {switch} link set {who} master br0 up
                 for side in '{here} eth0' '{switch} {who}'; do
                   set -- $side
                   ip -n $1 link set dev $2 gso_max_segs 1
                   tc -n $1 qdisc add dev $2 root tbf rate {rate} burst {burst} latency 50ms
                 done
                 {drop}"
            ));
        }
        room
    }

    fn name(&self, who: &str) -> String {
        format!("{}-{who}", self.prefix)
    }

    pub(crate) fn console(&self) -> String {
        self.name("con")
    }

    /// Target `number` from 1.
    pub(crate) fn target(&self, number: usize) -> String {
        self.name(&format!("t{number}"))
    }

    /// The switch: its ports have the names of the machines (`con`, `t1`, ...).
    pub(crate) fn switch(&self) -> String {
        self.name("sw")
    }

    /// Runs `work` on a thread that lives in a machine of the room.
    pub(crate) fn inside<T: Send + 'static>(
        namespace: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let file = std::fs::File::open(format!("/var/run/netns/{namespace}"))
            .unwrap_or_else(|e| panic!("namespace {namespace}: {e}"));
        std::thread::spawn(move || {
            let kind = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(file.as_fd(), Some(kind))
                .expect("root enters a network namespace");
            work()
        })
    }

    /// Bytes that a machine has sent: headers of Ethernet included.
    pub(crate) fn sent_bytes(&self, namespace: &str) -> u64 {
        let said = bash(&format!("ip -n {namespace} -s -j link show eth0"));
        let all: serde_json::Value = serde_json::from_str(&said).expect("JSON of ip");
        all[0]["stats64"]["tx"]["bytes"]
            .as_u64()
            .expect("a counter")
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut names = vec![self.name("con")];
        names.extend((1..=self.targets).map(|i| self.target(i)));
        names.push(self.name("sw"));
        for name in names {
            // Only processes inside our own namespaces.
            let script = format!(
                "for pid in $(ip netns pids {name} 2>/dev/null); do kill -KILL $pid; done; ip netns del {name}"
            );
            let _ = std::process::Command::new("bash")
                .args(["-c", &script])
                .output();
        }
    }
}
