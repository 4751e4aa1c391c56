//! What a session is given: groups, cipher, rate.
//!
//! Pure decisions, apart from the file that says how fast the console's own interface is.

use api::DeployRequest;
use facts::target::Facts;
use multicast::Suite;
use std::collections::BTreeSet;
use std::net::SocketAddrV4;

/// Sessions at once. Each takes two groups upward of the first pair.
pub const MAX_SESSIONS: u8 = 64;

/// When nobody says how fast the slowest interface is: gigabit Ethernet, the slowest thing still sold. The session's own rate
/// control goes down from there.
const UNKNOWN_RATE_BYTES_PER_S: u64 = 125_000_000;
/// 200 Mbit/s: a quarter of a second of it is less than a cheap switch drops at once, and doubling reaches a gigabit in two steps.
const CAUTIOUS_START_BYTES_PER_S: u64 = 25_000_000;
/// Share of a known link that a session may fill: reports and repair over TCP live in the rest.
const LINK_SHARE_PERCENT: u64 = 97;
/// A cap below this is a slip of the keyboard: an image would take months.
const MIN_RATE_BYTES_PER_S: u64 = 12_500;

/// Where the sessions of several jobs go: job k takes `base + 2k` on the same ports. Packets carry their session's number, so
/// a group that somebody else uses as well is wasteful and not wrong.
pub fn lanes(main: SocketAddrV4, second: SocketAddrV4, slot: u8) -> (SocketAddrV4, SocketAddrV4) {
    let up = |address: SocketAddrV4| {
        let group = address.ip().to_bits().wrapping_add(2 * u32::from(slot));
        SocketAddrV4::new(group.into(), address.port())
    };
    (up(main), up(second))
}

/// The lowest free slot.
pub fn take_slot(taken: &mut BTreeSet<u8>) -> Option<u8> {
    let slot = (0..MAX_SESSIONS).find(|slot| !taken.contains(slot))?;
    taken.insert(slot);
    Some(slot)
}

/// AES where everybody has it in hardware.
pub fn suite<'f>(facts: impl IntoIterator<Item = &'f Facts>) -> Suite {
    if facts.into_iter().all(|facts| facts.aes) {
        Suite::Aes128Gcm
    } else {
        Suite::ChaCha20Poly1305
    }
}

/// The cap on the wire as far as anybody knows one: what the technician said, else the slowest of the targets' interfaces and
/// the console's own.
pub fn known_rate_cap<'f>(
    request: &DeployRequest,
    facts: impl IntoIterator<Item = &'f Facts>,
    own_mbit_per_s: Option<u32>,
) -> Option<u64> {
    if let Some(bits) = request.rate_bits_per_s {
        return Some((bits / 8).max(MIN_RATE_BYTES_PER_S));
    }
    // A machine with several interfaces is reached by its fastest: the one that was plugged in on purpose.
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

/// The cap a session starts with.
pub fn rate_cap(known: Option<u64>) -> u64 {
    known.unwrap_or(UNKNOWN_RATE_BYTES_PER_S)
}

/// Where a session starts: at a cap the technician vouched for; otherwise low, since an interface knows nothing of the switch
/// behind it. The rate doubles from there until the first loss.
pub fn start_rate(request: &DeployRequest, known: Option<u64>) -> u64 {
    first_rate(request.rate_bits_per_s.is_some(), rate_cap(known))
}

/// The same, of a cap that a technician vouched for or not.
pub fn first_rate(vouched: bool, cap: u64) -> u64 {
    if vouched {
        cap
    } else {
        cap.min(CAUTIOUS_START_BYTES_PER_S)
    }
}

/// Speed of an interface of this machine in Mbit/s, where the kernel knows it.
pub fn interface_speed(name: &str) -> Option<u32> {
    // The name came from the kernel's own list. Virtual interfaces have no device behind them, and a speed that is made up:
    // veth says 10000 whatever carries it.
    let folder = std::path::Path::new("/sys/class/net").join(name);
    if !folder.join("device").exists() {
        return None;
    }
    let text = std::fs::read_to_string(folder.join("speed")).ok()?;
    text.trim().parse().ok().filter(|speed| *speed > 0)
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
