//! Checks whether this machine can run the tests: root, loop devices, FUSE, network namespaces with
//! shaped links.
//!
//! Each probe really does its operation once and undoes it, because in a container the presence of
//! a device node or a capability bit is no proof.

use std::fs::OpenOptions;

use crate::scratch::Scratch;
use crate::shell::{Failure, bash, output};

/// Runs all probes; the error has every reason, not only the first.
pub(crate) fn check() -> Result<(), Failure> {
    if output("id", &["-u"])?.trim() != "0" {
        return Err(Failure::new(
            "not root: loop devices and network namespaces need it; run as root or in a disposable machine",
        ));
    }
    let mut reasons = Vec::new();
    for (what, probe) in [
        ("loop devices", loop_device as fn() -> Result<(), Failure>),
        ("FUSE", fuse),
        ("network namespaces", namespaces),
    ] {
        match probe() {
            Ok(()) => println!("machine: {what}: fine"),
            Err(reason) => {
                println!("machine: {what}: {reason}");
                reasons.push(format!("{what}: {reason}"));
            }
        }
    }
    if reasons.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(reasons.join("; ")))
    }
}

/// Probes a loop device with 4096-byte sectors and an ext4 mount on it.
fn loop_device() -> Result<(), Failure> {
    let scratch = Scratch::new(&std::env::temp_dir(), "probe-loop")?;
    let (file, mount) = (scratch.file("disk"), scratch.file("mount"));
    bash(&format!(
        "truncate -s 16M {file}; mkdir {mount}
         dev=$(losetup --find --show --sector-size 4096 {file})
         trap 'losetup --detach $dev' EXIT
         test $(blockdev --getss $dev) = 4096
         mke2fs -q -t ext4 $dev
         mount -t ext4 $dev {mount}
         umount {mount}"
    ))
    .map(drop)
    .map_err(|failure| {
        Failure::new(format!(
            "{failure}; in a container: run it privileged, with /dev/loop-control"
        ))
    })
}

/// Probes whether `/dev/fuse` opens.
fn fuse() -> Result<(), Failure> {
    let open = || OpenOptions::new().read(true).write(true).open("/dev/fuse");
    if open().is_err() {
        let _ = output("modprobe", &["fuse"]);
    }
    open()
        .map(drop)
        .map_err(|error| Failure::new(format!("opening /dev/fuse: {error}; ntfs-3g needs it")))
}

/// Probes a veth link between two namespaces with a token bucket and a loss rule on it.
fn namespaces() -> Result<(), Failure> {
    let (a, b) = (
        format!("dcprobe-{}-a", std::process::id()),
        format!("dcprobe-{}-b", std::process::id()),
    );
    bash(&format!(
        "trap 'ip netns del {a} 2>/dev/null; ip netns del {b} 2>/dev/null; true' EXIT
         ip netns add {a}; ip netns add {b}
         ip link add eth0 netns {a} type veth peer name port netns {b}
         ip netns exec {b} ip link add br0 type bridge mcast_snooping 1
         ip netns exec {b} ip link set port master br0
         ip netns exec {a} tc qdisc add dev eth0 root tbf rate 200mbit burst 100kb latency 50ms
         ip netns exec {a} iptables -A INPUT -p udp -m statistic --mode random --probability 0.01 -j DROP"
    ))
    .map(drop)
}
