//! A room of machines as scripts for bash; makes the text and never runs it.
//!
//! ```text
//!   PREFIX-con 10.77.0.1 --veth--+
//!   PREFIX-t1  10.77.1.1 --veth--+-- br0 in PREFIX-sw (snooping, querier)
//!   PREFIX-tN  10.77.1.N --veth--+
//! ```
//!
//! Every link is shaped by a token bucket in both directions, so a switch port has a finite queue
//! and drops its tail like a real one. Loss is an iptables rule in each target: UDP only, a
//! different random draw for each. The kernel here may lack netem, so there is no delay and no
//! reordering; the session's simulator has both.
//!
//! Facts that cost a day each to find: a bridge floods every group until its own querier has run
//! for one response interval, so the interval is made short before the querier starts; veth passes
//! 64 KiB segments through the shaper unless GSO is switched off; a peer that asks DNS for a name
//! waits ten seconds if no server answers, so every machine has a hosts file; and if br_netfilter
//! is loaded every frame on every port runs through iptables, which no switch does, so it is
//! switched off for this one.
//!
//! Included by the black-box tests and, by path, by `xtask`: only `std`, only text.

/// The console's address in every room.
pub(crate) const CONSOLE: &str = "10.77.0.1";

/// Name of a machine: 0 is the console, targets count from 1.
pub(crate) fn who(number: usize) -> String {
    if number == 0 {
        "con".to_owned()
    } else {
        format!("t{number}")
    }
}

/// The network namespace of `who`; that of the switch is `sw`.
pub(crate) fn namespace(prefix: &str, who: &str) -> String {
    format!("{prefix}-{who}")
}

/// The address of a machine. Rooms hold at most 250 targets.
pub(crate) fn address(number: usize) -> String {
    if number == 0 {
        CONSOLE.to_owned()
    } else {
        format!("10.77.1.{number}")
    }
}

/// Makes the switch.
pub(crate) fn switch(prefix: &str) -> String {
    let switch = namespace(prefix, "sw");
    format!(
        "ip netns add {switch}
         ip -n {switch} link set lo up
         ip -n {switch} link add br0 type bridge stp_state 0 forward_delay 0
         ip -n {switch} link set br0 type bridge mcast_query_response_interval 20 mcast_query_interval 1000 \
            mcast_startup_query_interval 50 mcast_query_use_ifaddr 1 mcast_snooping 1
         ip -n {switch} link set br0 type bridge mcast_querier 1
         ip -n {switch} addr add 10.77.255.254/16 dev br0
         ip -n {switch} link set br0 up
         for setting in $(ls /proc/sys/net/bridge/bridge-nf-call-* 2>/dev/null); do
           ip netns exec {switch} bash -c \"echo 0 > $setting\"
         done\n"
    )
}

/// Makes one machine and its link to the switch; `rate_bits_per_s` shapes both ends.
pub(crate) fn machine(prefix: &str, number: usize, targets: usize, rate_bits_per_s: u64) -> String {
    let switch = namespace(prefix, "sw");
    let who = who(number);
    let here = namespace(prefix, &who);
    let address = address(number);
    let up = shape(&here, "eth0", rate_bits_per_s);
    let down = shape(&switch, &who, rate_bits_per_s);
    format!(
        "mkdir -p /etc/netns/{here}
         {{ echo 127.0.0.1 localhost; echo {CONSOLE} con
            for i in $(seq 1 {targets}); do echo 10.77.1.$i t$i; done; }} > /etc/netns/{here}/hosts
         ip netns add {here}
         ip link add eth0 netns {here} type veth peer name {who} netns {switch}
         ip -n {here} link set lo up
         ip -n {here} addr add {address}/16 brd 10.77.255.255 dev eth0
         ip -n {here} link set eth0 up
         ip -n {here} route add 224.0.0.0/4 dev eth0
         ip -n {here} route add default via 10.77.255.254
         ip -n {switch} link set {who} master br0 up
         ip -n {here} link set dev eth0 gso_max_segs 1
         ip -n {switch} link set dev {who} gso_max_segs 1
         {up}{down}"
    )
}

/// Shapes the output of `device`: 4 ms of burst (at least 16 frames), 50 ms of queue.
pub(crate) fn shape(namespace: &str, device: &str, rate_bits_per_s: u64) -> String {
    let burst = (rate_bits_per_s / 8 / 250).max(16 * 1500);
    format!(
        "tc -n {namespace} qdisc replace dev {device} root tbf rate {rate_bits_per_s}bit burst {burst} latency 50ms\n"
    )
}

/// Shapes the switch's port towards a target, which limits its reception.
pub(crate) fn shape_port(prefix: &str, number: usize, rate_bits_per_s: u64) -> String {
    shape(&namespace(prefix, "sw"), &who(number), rate_bits_per_s)
}

/// Makes a target lose this share of the UDP packets it receives; 0 removes the rule.
pub(crate) fn lose(prefix: &str, number: usize, share: f64) -> String {
    let here = namespace(prefix, &who(number));
    let rule = if share > 0.0 {
        format!(
            "ip netns exec {here} iptables -A INPUT -p udp -m statistic --mode random --probability {share:.6} -j DROP\n"
        )
    } else {
        String::new()
    };
    format!("ip netns exec {here} iptables -F INPUT\n{rule}")
}

/// Ends the processes inside one of our own namespaces. Never fails.
pub(crate) fn clear(namespace: &str) -> String {
    format!(
        "for pid in $(ip netns pids {namespace} 2>/dev/null); do kill -KILL $pid 2>/dev/null || true; done\n"
    )
}

/// Takes the room down: ends the processes inside our own namespaces, then the namespaces. Never
/// fails.
pub(crate) fn down(prefix: &str, targets: usize) -> String {
    (0..=targets)
        .map(who)
        .chain(["sw".to_owned()])
        .map(|who| {
            let name = namespace(prefix, &who);
            let clear = clear(&name);
            format!("{clear}ip netns del {name} 2>/dev/null || true\nrm -rf /etc/netns/{name}\n")
        })
        .collect()
}
