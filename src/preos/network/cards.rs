//! The network cards, and which of them the pre-OS uses.
//!
//! The card that booted is the only one known to reach the boot server. "The first card" is whichever driver was quicker, so it is never taken: without a word about
//! the card that booted, every wired card with a link is tried.

use facts::Mac;
use std::fs;
use std::path::Path;

/// How long the card that booted may take to appear: slow firmware loads and USB hubs. Then any card with a link is better than none.
pub const PATIENCE_SECONDS: u64 = 30;

/// One card.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Card {
    /// Kernel name.
    pub name: String,
    /// Number of the interface.
    pub index: u32,
    /// Address.
    pub mac: Mac,
}

/// The cards to use now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Choice {
    /// The one that booted.
    Booted(Card),
    /// Nobody said which one booted, or it did not appear: all of these.
    All(Vec<Card>),
    /// The one that booted is not here yet.
    Wait(Mac),
}

/// Which cards to use, `seconds` after the start.
pub fn choose(cards: &[Card], booted: Option<Mac>, seconds: u64) -> Choice {
    match booted {
        // Bridges and VLANs repeat the address of their card; the card itself came first.
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

/// Wired cards of this machine.
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
    /// Whether there is a signal on the cable. Nothing while the card is down.
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
