//! Groups, cipher and rate of a session.

use api::DeployRequest;
use facts::target::Facts;
use multicast::Suite;
use std::collections::BTreeSet;
use std::net::SocketAddrV4;

/// Maximum number of sessions at once. Each takes two groups above the first pair.
pub const MAX_SESSIONS: u8 = 64;

/// Rate cap in bytes per second if no interface speed is known: gigabit Ethernet, the slowest still
/// sold. Rate control goes down from there.
const UNKNOWN_RATE_BYTES_PER_S: u64 = 125_000_000;
/// First rate of a session in bytes per second, unless the technician gave one: 200 Mbit/s. Three
/// doublings exceed a gigabit.
const CAUTIOUS_START_BYTES_PER_S: u64 = 25_000_000;
/// Share of a known link in percent that a session may use; reports and repair over TCP use the
/// rest.
const LINK_SHARE_PERCENT: u64 = 97;
/// Lowest rate cap in bytes per second. A lower one is a typing mistake: an image would take
/// months.
const MIN_RATE_BYTES_PER_S: u64 = 12_500;

/// Returns the two groups of a session: slot k uses `base + 2k` on the same ports.
///
/// Packets carry the id of their session, so a group that others use as well wastes bandwidth but
/// does no harm.
pub fn lanes(main: SocketAddrV4, second: SocketAddrV4, slot: u8) -> (SocketAddrV4, SocketAddrV4) {
    let up = |address: SocketAddrV4| {
        let group = address.ip().to_bits().wrapping_add(2 * u32::from(slot));
        SocketAddrV4::new(group.into(), address.port())
    };
    (up(main), up(second))
}

/// Takes the lowest free slot.
pub fn take_slot(taken: &mut BTreeSet<u8>) -> Option<u8> {
    let slot = (0..MAX_SESSIONS).find(|slot| !taken.contains(slot))?;
    taken.insert(slot);
    Some(slot)
}

/// Returns AES-128-GCM if every machine has AES in hardware, else ChaCha20-Poly1305.
pub fn suite<'f>(facts: impl IntoIterator<Item = &'f Facts>) -> Suite {
    if facts.into_iter().all(|facts| facts.aes) {
        Suite::Aes128Gcm
    } else {
        Suite::ChaCha20Poly1305
    }
}

/// Returns the known rate cap in bytes per second: the technician's, else the slowest of the
/// targets' interfaces and the console's own.
pub fn known_rate_cap<'f>(
    request: &DeployRequest,
    facts: impl IntoIterator<Item = &'f Facts>,
    own_mbit_per_s: Option<u32>,
) -> Option<u64> {
    if let Some(bits) = request.rate_bits_per_s {
        return Some((bits / 8).max(MIN_RATE_BYTES_PER_S));
    }
    // A machine with several interfaces is reached by its fastest, which was plugged in on purpose.
    let of_target = |facts: &Facts| {
        facts
            .nics
            .iter()
            .filter_map(|nic| nic.speed_mbit_per_s)
            .filter(|s| *s > 0)
            .max()
    };
    let slowest = facts
        .into_iter()
        .filter_map(of_target)
        .chain(own_mbit_per_s.filter(|s| *s > 0))
        .min()?;
    Some(u64::from(slowest) * 125_000 * LINK_SHARE_PERCENT / 100)
}

/// Returns the rate cap that a session begins with, in bytes per second.
pub fn rate_cap(known: Option<u64>) -> u64 {
    known.unwrap_or(UNKNOWN_RATE_BYTES_PER_S)
}

/// Returns the first rate of a session in bytes per second: the technician's cap, otherwise a low
/// rate.
///
/// An interface's speed does not tell what the switch behind it can carry. The rate doubles until
/// the first loss.
pub fn start_rate(request: &DeployRequest, known: Option<u64>) -> u64 {
    first_rate(request.rate_bits_per_s.is_some(), rate_cap(known))
}

/// Returns the first rate for a cap; `vouched` means that a technician gave it.
pub fn first_rate(vouched: bool, cap: u64) -> u64 {
    if vouched {
        cap
    } else {
        cap.min(CAUTIOUS_START_BYTES_PER_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use facts::target::NicFacts;

    fn request(rate: Option<u64>) -> DeployRequest {
        DeployRequest {
            targets: "all".to_owned(),
            rate_bits_per_s: rate,
            ..DeployRequest::default()
        }
    }

    fn with(aes: bool, speeds: &[Option<u32>]) -> Facts {
        let nics = speeds
            .iter()
            .map(|speed| NicFacts {
                speed_mbit_per_s: *speed,
                ..NicFacts::default()
            })
            .collect();
        Facts {
            aes,
            nics,
            ..Facts::default()
        }
    }

    #[test]
    fn jobs_take_groups_upward() {
        let main: SocketAddrV4 = "239.254.1.1:5002".parse().unwrap();
        let second: SocketAddrV4 = "239.254.1.2:5004".parse().unwrap();
        assert_eq!(lanes(main, second, 0), (main, second));
        let (main1, second1) = lanes(main, second, 1);
        assert_eq!(
            (main1.to_string(), second1.to_string()),
            ("239.254.1.3:5002".into(), "239.254.1.4:5004".into())
        );
        let mut taken = BTreeSet::new();
        assert_eq!(
            (take_slot(&mut taken), take_slot(&mut taken)),
            (Some(0), Some(1))
        );
        taken.remove(&0);
        assert_eq!(take_slot(&mut taken), Some(0));
        taken.extend(0..MAX_SESSIONS);
        assert_eq!(take_slot(&mut taken), None);
    }

    #[test]
    fn the_slowest_link_sets_the_cap_and_the_technician_overrules_it() {
        let room = [
            with(true, &[Some(100), Some(1000)]),
            with(true, &[Some(2500)]),
            with(false, &[None]),
        ];
        assert_eq!(
            known_rate_cap(&request(None), &room, None),
            Some(121_250_000)
        );
        assert_eq!(
            known_rate_cap(&request(None), &room, Some(100)),
            Some(12_125_000)
        );
        assert_eq!(
            known_rate_cap(&request(Some(200_000_000)), &room, Some(100)),
            Some(25_000_000)
        );
        assert_eq!(
            known_rate_cap(&request(Some(1)), &room, None),
            Some(MIN_RATE_BYTES_PER_S)
        );
        assert_eq!(known_rate_cap(&request(None), &room[2..], None), None);
        assert_eq!(suite(&room), Suite::ChaCha20Poly1305);
        assert_eq!(suite(&room[..2]), Suite::Aes128Gcm);
    }
}
