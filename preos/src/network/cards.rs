//! Finds the network cards, and chooses the ones the pre-OS uses.
//!
//! Only the card that booted is known to reach the boot server. "The first card" would depend on
//! which driver was faster, so it is never used: if the command line does not name the card, every
//! wired card with a link is tried.

use facts::Mac;
use std::fs;
use std::path::Path;

/// Seconds for the card that booted to appear, because of slow firmware loads and USB hubs. After
/// that any card with a link is better than none.
pub const PATIENCE_SECONDS: u64 = 30;

/// One card.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Card {
    /// Name in the kernel.
    pub name: String,
    /// Index of the interface.
    pub index: u32,
    /// MAC address.
    pub mac: Mac,
}

/// The cards to use now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Choice {
    /// The card that booted.
    Booted(Card),
    /// The card that booted is not known, or did not appear: all of these.
    All(Vec<Card>),
    /// The card that booted has not appeared yet.
    Wait(Mac),
}

/// Chooses the cards to use, `seconds` after the start.
pub fn choose(cards: &[Card], booted: Option<Mac>, seconds: u64) -> Choice {
    match booted {
        // Bridges and VLANs repeat the address of their card; the card itself comes first.
        Some(mac) => match cards
            .iter()
            .filter(|card| card.mac == mac)
            .min_by_key(|c| c.index)
        {
            Some(card) => Choice::Booted(card.clone()),
            None if seconds < PATIENCE_SECONDS => Choice::Wait(mac),
            None => Choice::All(cards.to_vec()),
        },
        None => Choice::All(cards.to_vec()),
    }
}

/// The wired cards of this machine.
pub fn list() -> Vec<Card> {
    let mut cards: Vec<Card> = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| card(&entry.path()))
        .collect();
    cards.sort_by_key(|card| card.index);
    cards
}

fn card(folder: &Path) -> Option<Card> {
    /// `ARPHRD_ETHER`.
    const ETHERNET: &str = "1";
    let text = |name: &str| {
        fs::read_to_string(folder.join(name))
            .ok()
            .map(|text| text.trim().to_owned())
    };
    let wireless = folder.join("wireless").exists() || folder.join("phy80211").exists();
    let real = folder.join("device").exists();
    if !real || wireless || text("type")? != ETHERNET {
        return None;
    }
    Some(Card {
        name: folder.file_name()?.to_str()?.to_owned(),
        index: text("ifindex")?.parse().ok()?,
        mac: text("address")?.parse().ok()?,
    })
}

impl Card {
    /// True when there is a signal on the cable; `None` while the card is down.
    pub fn has_link(&self) -> Option<bool> {
        let text = fs::read_to_string(format!("/sys/class/net/{}/carrier", self.name)).ok()?;
        Some(text.trim() == "1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(index: u32) -> Card {
        Card {
            name: format!("eth{index}"),
            index,
            mac: Mac([2, 0, 0, 0, 0, u8::try_from(index).unwrap()]),
        }
    }

    #[test]
    fn the_card_that_booted_and_no_other() {
        let cards = [card(2), card(3)];
        let booted = Some(cards[1].mac);
        assert_eq!(choose(&cards, booted, 0), Choice::Booted(card(3)));
        assert_eq!(
            choose(&cards[..1], booted, 5),
            Choice::Wait(cards[1].mac),
            "it may still appear"
        );
        assert_eq!(
            choose(&cards[..1], booted, PATIENCE_SECONDS),
            Choice::All(vec![card(2)])
        );
        assert_eq!(choose(&cards, None, 0), Choice::All(cards.to_vec()));
        let twin = Card {
            mac: cards[1].mac,
            ..card(9)
        };
        assert_eq!(
            choose(&[twin, card(3)], booted, 0),
            Choice::Booted(card(3)),
            "a VLAN on the card"
        );
    }
}
