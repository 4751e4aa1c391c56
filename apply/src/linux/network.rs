//! Network configuration of a machine: our file for the renderer in use; the master's files are set
//! aside.
//!
//! Files that are set aside lie below [`super::edits::SET_ASIDE`] afterwards. Leases, DHCP ids and
//! the master's names for its cards are removed: two machines that show the same id are given the
//! same address.

use super::edits::Edits;
use super::renderers::{self, Card};
use crate::context::Context;
use crate::error::{Result, StepError};
use crate::guest::{Kind, Owner};
use template::findings::Renderer;
use template::step::Nic;

const NETPLAN: &str = "/etc/netplan";
const NETPLAN_OURS: &str = "90-diskcast.yaml";
const PROFILES: &str = "/etc/NetworkManager/system-connections";
const NETWORKD: &str = "/etc/systemd/network";
const INTERFACES: &str = "/etc/network/interfaces";
const SCRIPTS: &str = "/etc/sysconfig/network-scripts";

/// Prefix of our files for networkd and udev, so that they sort before most others.
const FIRST: &str = "05-diskcast-";

/// Notes the missing changes.
pub(super) fn missing(
    edits: &mut Edits<'_>,
    context: &mut Context<'_>,
    renderer: Renderer,
    nics: &[Nic],
) -> Result<()> {
    let cards = nics.iter().map(Card::new).collect::<Result<Vec<_>, _>>()?;
    match renderer {
        Renderer::Netplan => netplan(edits, context, &cards)?,
        Renderer::NetworkManager => network_manager(edits, &cards)?,
        Renderer::Networkd => networkd(edits, &cards)?,
        Renderer::Ifupdown => ifupdown(edits, context, &cards)?,
        Renderer::Ifcfg => ifcfg(edits, &cards)?,
    }
    old_traces(edits)
}

fn netplan(edits: &mut Edits<'_>, context: &mut Context<'_>, cards: &[Card<'_>]) -> Result<()> {
    let ours = format!("{NETPLAN}/{NETPLAN_OURS}");
    // Once the master's files are set aside, our file names the renderer that they had named.
    let named = match edits.text(&ours)? {
        Some(text) => renderers::netplan_renderer(&text),
        None => None,
    };
    let masters = masters_netplan(edits, context)?;
    let renderer = named.or(masters);
    edits.exact_file(
        &ours,
        &renderers::netplan(cards, renderer),
        Owner::root(0o600),
    )
}

/// Sets the master's netplan files for wired cards aside; returns the renderer that they named.
fn masters_netplan(
    edits: &mut Edits<'_>,
    context: &mut Context<'_>,
) -> Result<Option<&'static str>> {
    let mut renderer = None;
    for name in edits.list(NETPLAN)? {
        if !name.ends_with(".yaml") || name == NETPLAN_OURS {
            continue;
        }
        let path = format!("{NETPLAN}/{name}");
        let text = edits.text(&path)?.unwrap_or_default();
        renderer = renderer.or_else(|| renderers::netplan_renderer(&text));
        match renderers::netplan_kinds(&text) {
            Ok(kinds) if kinds.iter().any(|kind| kind == "ethernets") => {
                if kinds.len() > 1 {
                    context.note(format!(
                        "{path} of the master also configures {}; all of it is set aside",
                        kinds
                            .join(", ")
                            .replace("ethernets, ", "")
                            .replace(", ethernets", "")
                    ));
                }
            }
            Ok(_) => continue,
            // One unreadable file makes netplan reject all of them.
            Err(error) => context.note(format!("{path} of the master is set aside: {error}")),
        }
        edits.set_aside(&path)?;
    }
    Ok(renderer)
}

/// Notes the removal of configuration that conflicts with cloud-init's, for each of its renderers.
pub(super) fn cleared(edits: &mut Edits<'_>, context: &mut Context<'_>) -> Result<()> {
    masters_netplan(edits, context)?;
    edits.gone(&format!("{NETPLAN}/{NETPLAN_OURS}"))?;
    masters_profiles(edits, &[])?;
    // Name of the file that cloud-init writes for networkd.
    set_aside_before_ours(edits, ".network", &["10-cloud-init".to_owned()])?;
    if edits.exists(INTERFACES)? {
        masters_interfaces(edits, &[])?;
    }
    old_traces(edits)
}

fn network_manager(edits: &mut Edits<'_>, cards: &[Card<'_>]) -> Result<()> {
    let ours: Vec<String> = cards
        .iter()
        .map(|card| format!("diskcast-{}.nmconnection", card.id()))
        .collect();
    masters_profiles(edits, &ours)?;
    for (card, name) in cards.iter().zip(&ours) {
        edits.exact_file(
            &format!("{PROFILES}/{name}"),
            &renderers::network_manager(card),
            Owner::root(0o600),
        )?;
    }
    Ok(())
}

/// Sets aside all profiles of wired cards except `ours`.
fn masters_profiles(edits: &mut Edits<'_>, ours: &[String]) -> Result<()> {
    for name in edits.list(PROFILES)? {
        let path = format!("{PROFILES}/{name}");
        if !ours.contains(&name)
            && edits.is(&path, Kind::File)?
            && renderers::is_wired_profile(&edits.text(&path)?.unwrap_or_default())
        {
            edits.set_aside(&path)?;
        }
    }
    // NetworkManager also reads profiles of the older ifcfg kind.
    set_aside_ifcfg(edits, &[])
}

fn networkd(edits: &mut Edits<'_>, cards: &[Card<'_>]) -> Result<()> {
    let ours: Vec<String> = cards
        .iter()
        .map(|card| format!("{FIRST}{}.network", card.id()))
        .collect();
    set_aside_before_ours(edits, ".network", &ours)?;
    for (card, name) in cards.iter().zip(&ours) {
        edits.exact_file(
            &format!("{NETWORKD}/{name}"),
            &renderers::networkd(card),
            Owner::root(0o644),
        )?;
    }
    Ok(())
}

fn ifupdown(edits: &mut Edits<'_>, context: &mut Context<'_>, cards: &[Card<'_>]) -> Result<()> {
    if !edits.has_systemd()? && !edits.exists("/lib/systemd/systemd-udevd")? {
        return Err(StepError::refused(
            "ifupdown knows cards by name only, and without systemd's udev none can be named by its MAC",
            "install udev or another network service on the master, or leave [network] out of the template",
        ));
    }
    masters_interfaces(edits, cards)?;
    let ours: Vec<String> = cards
        .iter()
        .map(|card| format!("{FIRST}{}.link", card.id()))
        .collect();
    set_aside_before_ours(edits, ".link", &ours)?;
    for ((card, name), number) in cards.iter().zip(&ours).zip(0_u32..) {
        edits.exact_file(
            &format!("{NETWORKD}/{name}"),
            &renderers::link(card, &format!("lan{number}")),
            Owner::root(0o644),
        )?;
    }
    if let Some(text) = renderers::resolv_conf(cards) {
        if edits.is("/etc/resolv.conf", Kind::Link)? {
            context.note(
                "/etc/resolv.conf is a symbolic link: whoever it leads to learns the name servers from ifupdown".into(),
            );
        } else {
            edits.file("/etc/resolv.conf", &text, Owner::root(0o644))?;
        }
    }
    Ok(())
}

/// Replaces the master's interfaces file with one for these cards; its other files are set aside.
fn masters_interfaces(edits: &mut Edits<'_>, cards: &[Card<'_>]) -> Result<()> {
    let text = renderers::ifupdown(cards);
    if edits.text(INTERFACES)?.as_deref() != Some(&text) {
        edits.set_aside(INTERFACES)?;
    }
    for name in edits.list("/etc/network/interfaces.d")? {
        edits.set_aside(&format!("/etc/network/interfaces.d/{name}"))?;
    }
    edits.exact_file(INTERFACES, &text, Owner::root(0o644))
}

fn ifcfg(edits: &mut Edits<'_>, cards: &[Card<'_>]) -> Result<()> {
    let ours: Vec<String> = cards
        .iter()
        .map(|card| format!("ifcfg-diskcast-{}", card.id()))
        .collect();
    set_aside_ifcfg(edits, &ours)?;
    for (card, name) in cards.iter().zip(&ours) {
        edits.exact_file(
            &format!("{SCRIPTS}/{name}"),
            &renderers::ifcfg(card),
            Owner::root(0o644),
        )?;
    }
    Ok(())
}

fn set_aside_ifcfg(edits: &mut Edits<'_>, ours: &[String]) -> Result<()> {
    for name in edits.list(SCRIPTS)? {
        let path = format!("{SCRIPTS}/{name}");
        if name.starts_with("ifcfg-")
            && name != "ifcfg-lo"
            && !ours.contains(&name)
            && edits.is(&path, Kind::File)?
            && renderers::is_wired_ifcfg(&edits.text(&path)?.unwrap_or_default())
        {
            edits.set_aside(&path)?;
        }
    }
    Ok(())
}

/// Sets aside files that would take effect instead of ours. The first file that matches a card
/// counts (systemd.network(5), systemd.link(5)), so only files that sort before ours conflict, and
/// our own files for cards of an earlier plan.
fn set_aside_before_ours(edits: &mut Edits<'_>, suffix: &str, ours: &[String]) -> Result<()> {
    for name in edits.list(NETWORKD)? {
        let before = ours.iter().any(|ours| name < *ours);
        let stale = name.starts_with(FIRST);
        if name.ends_with(suffix) && (before || stale) && !ours.contains(&name) {
            edits.set_aside(&format!("{NETWORKD}/{name}"))?;
        }
    }
    Ok(())
}

/// Removes the master's leases, DHCP ids and card names.
fn old_traces(edits: &mut Edits<'_>) -> Result<()> {
    edits.gone("/etc/udev/rules.d/70-persistent-net.rules")?;
    for file in [
        "/var/lib/NetworkManager/secret_key",
        "/var/lib/dhcpcd/duid",
        "/etc/dhcpcd.duid",
        "/var/lib/wicked/duid.xml",
        "/var/lib/wicked/iaid.xml",
    ] {
        edits.gone(file)?;
    }
    for folder in [
        "/var/lib/dhcp",
        "/var/lib/dhcp3",
        "/var/lib/dhclient",
        "/var/lib/dhcpcd",
        "/var/lib/NetworkManager",
        "/var/lib/wicked",
    ] {
        edits.gone_where(folder, |name| {
            name.ends_with(".lease") || name.ends_with(".leases") || name.starts_with("lease-")
        })?;
    }
    Ok(())
}
