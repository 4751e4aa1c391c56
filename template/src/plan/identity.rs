//! New identities of a machine, always the same for the same machine.
//!
//! Each is derived from the seed of the machine's binding under its own label, so no identity
//! reveals another. A second run writes the same values.

use blake3::derive_key;
use std::fmt::Write as _;

fn draw<const N: usize>(label: &'static str, seed: &[u8; 12]) -> [u8; N] {
    let key = derive_key(label, seed);
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(key) {
        *to = from;
    }
    out
}

/// A machine SID `S-1-5-21-a-b-c`: three 32-bit numbers, none of them 0, different from `old`.
pub(super) fn sid(seed: &[u8; 12], old: &str) -> String {
    let parts: [u8; 24] = draw("diskcast template 2026 machine SID", seed);
    let text = |numbers: &[u8]| {
        let mut text = String::from("S-1-5-21");
        for part in numbers.chunks_exact(4) {
            let number = part
                .iter()
                .fold(0u32, |number, byte| number << 8 | u32::from(*byte));
            let _ = write!(text, "-{}", number.max(1));
        }
        text
    };
    let (first, second) = parts.split_at(12);
    let sid = text(first);
    if sid == old { text(second) } else { sid }
}

/// `MachineGuid` of Windows.
pub(super) fn machine_guid(seed: &[u8; 12]) -> String {
    uuid(draw("diskcast template 2026 MachineGuid", seed))
}

/// Host id of NVMe over Fabrics, by which storage knows a Linux machine.
pub(super) fn host_id(seed: &[u8; 12]) -> String {
    uuid(draw("diskcast template 2026 storage host id", seed))
}

/// A version 4 UUID (RFC 9562 section 5.4) in lower case.
fn uuid(mut bytes: [u8; 16]) -> String {
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    let digits = hex(&bytes);
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default().to_owned();
    [
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    ]
    .join("-")
}

/// Instance id of cloud-init. It differs from the master's, so that cloud-init does its work again.
pub(super) fn instance_id(seed: &[u8; 12]) -> String {
    let bytes: [u8; 8] = draw("diskcast template 2026 cloud-init instance", seed);
    format!("diskcast-{}", hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_and_another_another() {
        let (a, b) = ([7; 12], [8; 12]);
        assert_eq!(sid(&a, "x"), sid(&a, "y"));
        assert_ne!(sid(&a, ""), sid(&b, ""));
        assert_ne!(sid(&a, &sid(&a, "")), sid(&a, ""));
        assert_ne!(machine_guid(&a), machine_guid(&b));
        let guid = machine_guid(&a);
        assert_eq!((guid.len(), guid.get(14..15)), (36, Some("4")));
        assert_eq!(instance_id(&a).len(), "diskcast-".len() + 16);
        let numbers: Vec<u32> = sid(&a, "")
            .split('-')
            .skip(4)
            .map(|n| n.parse().unwrap())
            .collect();
        assert_eq!(numbers.len(), 3);
    }
}
