//! Fuzz target: any packet from a raw IGMP socket, and the querier's rules after it. Never a panic;
//! a querier that has heard a lower address does not stay one.
#![no_main]

use net::igmp;
use net::igmp_querier::{Role, Watch};
use libfuzzer_sys::fuzz_target;
use multicast::{Duration, Instant};
use std::net::Ipv4Addr;

const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

fuzz_target!(|data: &[u8]| {
    let _ = igmp::parse(data);
    let interval = Duration::from_secs(60);
    let mut watch = Watch::new(OWN, Role::Querier { interval }, Instant::ZERO);
    // Eight bytes a step: seconds to wait, last byte of the source address, maximum response code,
    // and the byte of the query that is changed, with the bits to flip; the rest is unused.
    let mut now = Instant::ZERO;
    for step in data.chunks_exact(8) {
        now = now + Duration::from_secs(u64::from(step[0]));
        let mut packet = igmp::query(Ipv4Addr::new(10, 0, 0, step[1]), step[2]);
        packet[usize::from(step[3]) % igmp::PACKET_BYTES] ^= step[4];
        if let Ok(read) = igmp::parse(&packet)
            && let Some(source) = read.general_query()
        {
            watch.handle_query(now, source);
            let lower = !source.is_unspecified() && source < OWN;
            assert!(
                !(lower && watch.is_querier()),
                "{source} has the lower address"
            );
        }
        let _ = watch.poll_send(now);
        let _ = watch.poll_notice(now);
        assert!(!(watch.is_querier() && watch.silent_for(now).is_some()));
    }
});
