//! `diskcast target`: the machines the console knows.

use super::Context;
use super::pxe::{about, machine_table};
use super::table::{Align, Columns, clean, count, or_dash};
use api::select::{Selector, SelectorError};
use api::{
    ApiError, ErrorCode, FirstStart, IdentifyRequest, MachineView, RenameRequest, SCHEMA_VERSION,
    TargetList, TargetView,
};
use clap::{Args, Subcommand};
use client::{Client, segment};
use facts::boot::Stage;
use facts::target::TargetState;
use facts::units;
use terminal::exit::{Ended, Exit};
use terminal::output::Output;

/// `diskcast target ...`
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List targets by name
    #[command(
        after_help = "Examples:\n  diskcast target list\n  diskcast target list state:ready,state:discovered"
    )]
    List(ListArgs),
    /// Show everything known about a target
    Show(TargetArgs),
    /// Let targets in that wait for approval
    #[command(
        after_help = "Examples:\n  diskcast target approve lab-01 lab-02\n  diskcast target approve all\n  diskcast target approve 'ip:10.0.0.0/24'"
    )]
    Approve(TargetsArgs),
    /// Give a target another name
    Rename(RenameArgs),
    /// Say which machine a target is that is unidentified
    ///
    /// A machine with a new card or a new board looks like another one with
    /// the same UUID or serial number. It waits as unidentified until a
    /// technician says which it is; nobody loses a name or address meanwhile.
    #[command(
        after_help = "Examples:\n  diskcast target identify lab-07-2 --is lab-07   a part of lab-07 was changed\n  diskcast target identify lab-07-2 --new         another machine"
    )]
    Identify(IdentifyArgs),
    /// Forget targets that are gone
    Forget(TargetsArgs),
    /// Start machines by Wake-on-LAN; booting from the network they get the
    /// agent, for an hour
    #[command(after_help = "Examples:\n  diskcast target wake lab-01 lab-02")]
    Wake(TargetsArgs),
}

/// The target a command is about.
#[derive(Debug, Args)]
pub(super) struct TargetArgs {
    /// Name or id
    target: String,
}

/// Options of `target list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only these [default: every target the console knows]
    #[arg(value_parser = selector)]
    selector: Option<Selector>,
}

/// The targets a command is about.
#[derive(Debug, Args)]
pub(super) struct TargetsArgs {
    /// Targets, by name or selector
    #[arg(required = true, value_name = "SELECTOR", value_parser = selector)]
    selectors: Vec<Selector>,
}

/// Options of `target identify`.
#[derive(Debug, Args)]
pub(super) struct IdentifyArgs {
    /// Name or id of the target in question
    target: String,
    /// It is this one: it gets back its name, id and address
    #[arg(long, value_name = "TARGET", required_unless_present = "new")]
    is: Option<String>,
    /// It is a machine of its own
    #[arg(long, conflicts_with = "is")]
    new: bool,
}

/// Options of `target rename`.
#[derive(Debug, Args)]
pub(super) struct RenameArgs {
    /// Name or id
    target: String,
    /// New name: letters, digits, - _ and .
    name: String,
}

/// Runs the command.
///
/// # Errors
/// The failure, with the exit code that belongs to it.
pub(super) async fn run(command: Command, context: &Context) -> Ended {
    let out = &context.out;
    let client = context.client();
    match command {
        Command::List(args) => {
            let mut list = list(&client).await?;
            let known = list.targets.len();
            if let Some(selector) = &args.selector {
                list.targets.retain(|target| selector.matches(target));
            }
            match (out.json(), list.targets.is_empty()) {
                (true, _) => out.result_json(&list),
                (false, true) if known > 0 => {
                    out.note(format!("none of {} fits", count(known, "target")))
                }
                (false, true) => out.note(
                    "no targets yet; an agent that finds this console appears here by itself",
                ),
                (false, false) => {
                    out.line(target_table(&list.targets));
                    for target in &list.targets {
                        for note in [target.asks.clone(), target.question()]
                            .into_iter()
                            .flatten()
                        {
                            out.note(clean(&format!("{} {note}", target.name)));
                        }
                    }
                }
            }
            // Machines that booted from the network and never joined are not targets yet, but a
            // technician may wait for them.
            if !out.json() && args.selector.is_none() && !list.machines.is_empty() {
                let table = machine_table(&list.machines);
                out.line(format!("\nbooting, not joined:\n{table}"));
            }
            Ok(Exit::OK)
        }
        Command::Show(args) => {
            let view = find(&list(&client).await?.targets, &args.target)?.clone();
            if out.json() {
                out.result_json(&view);
            } else {
                out.line(target_text(&view));
            }
            Ok(Exit::OK)
        }
        Command::Approve(args) => {
            let known = list(&client).await?.targets;
            let chosen = select(&known, &args.selectors)?;
            // `approve all` selects waiting targets only; the others need no approval.
            let waiting: Vec<&TargetView> = chosen
                .into_iter()
                .filter(|target| target.state == TargetState::WaitingApproval)
                .collect();
            if waiting.is_empty() {
                return Err(ApiError::new(
                    ErrorCode::NothingMatched,
                    "none of these targets waits for approval",
                ));
            }
            each(&client, out, &waiting, "approve").await
        }
        Command::Forget(args) => {
            let known = list(&client).await?.targets;
            each(&client, out, &select(&known, &args.selectors)?, "forget").await
        }
        Command::Wake(args) => {
            let known = list(&client).await?.targets;
            each(&client, out, &select(&known, &args.selectors)?, "wake").await
        }
        Command::Identify(args) => {
            let known = list(&client).await?.targets;
            let id = find(&known, &args.target)?.id.clone();
            let is = match &args.is {
                Some(is) => Some(find(&known, is)?.id.clone()),
                None => None,
            };
            let path = format!("/v1/targets/{}/identify", segment(&id));
            let view: TargetView = client.post(&path, &IdentifyRequest { is }).await?;
            show_changed(out, vec![view]);
            Ok(Exit::OK)
        }
        Command::Rename(args) => {
            let known = list(&client).await?.targets;
            let id = find(&known, &args.target)?.id.clone();
            let view: TargetView = client
                .post(
                    &format!("/v1/targets/{}/rename", segment(&id)),
                    &RenameRequest { name: args.name },
                )
                .await?;
            show_changed(out, vec![view]);
            Ok(Exit::OK)
        }
    }
}

async fn list(client: &Client) -> Result<TargetList, ApiError> {
    client.get("/v1/targets").await
}

/// Does one action for each target; successes before a failure are shown first.
async fn each(client: &Client, out: &Output, targets: &[&TargetView], verb: &str) -> Ended {
    let mut changed = Vec::new();
    for target in targets {
        let path = format!("/v1/targets/{}/{verb}", segment(&target.id));
        match client.post(&path, &serde_json::json!({})).await {
            Ok(view) => changed.push(view),
            Err(error) => {
                show_changed(out, changed);
                return Err(error);
            }
        }
    }
    show_changed(out, changed);
    Ok(Exit::OK)
}

fn show_changed(out: &Output, targets: Vec<TargetView>) {
    if targets.is_empty() {
        return;
    }
    if out.json() {
        out.result_json(&TargetList {
            schema_version: SCHEMA_VERSION,
            targets,
            machines: Vec::new(),
        });
    } else {
        out.line(target_table(&targets));
    }
}

/// The target with this id, else with this name.
fn find<'a>(targets: &'a [TargetView], wanted: &str) -> Result<&'a TargetView, ApiError> {
    let by_id = targets.iter().find(|target| target.id == wanted);
    if let Some(found) = by_id.or_else(|| targets.iter().find(|target| target.name == wanted)) {
        return Ok(found);
    }
    let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
    let error = ApiError::new(
        ErrorCode::NothingMatched,
        format!("no target is called `{wanted}`"),
    );
    Err(match super::paths::did_you_mean(wanted, &names) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint("`diskcast target list` shows their names and ids"),
    })
}

/// The targets that any of the selectors matches, in the list's order.
///
/// # Errors
/// `NothingMatched` when there is none: an empty selection is never all.
fn select<'a>(
    targets: &'a [TargetView],
    selectors: &[Selector],
) -> Result<Vec<&'a TargetView>, ApiError> {
    let chosen: Vec<&TargetView> = targets
        .iter()
        .filter(|target| selectors.iter().any(|selector| selector.matches(target)))
        .collect();
    if chosen.is_empty() {
        let error = ApiError::new(
            ErrorCode::NothingMatched,
            format!("none of {} fits", count(targets.len(), "target")),
        );
        return Err(error.hint("`diskcast target list` shows their names; a machine that is switched off is meant by its whole name only"));
    }
    Ok(chosen)
}

/// clap's value parser of a selector.
fn selector(text: &str) -> Result<Selector, SelectorError> {
    text.parse()
}

fn target_table(targets: &[TargetView]) -> String {
    let mut columns = Columns::new(&[
        ("NAME", Align::Left),
        ("STATE", Align::Left),
        ("JOB", Align::Left),
        ("ADDRESS", Align::Left),
        ("MAC", Align::Left),
        ("MULTICAST", Align::Left),
        ("DISKS", Align::Left),
        ("ID", Align::Left),
    ]);
    for target in targets {
        let disks: Vec<String> = target
            .facts
            .disks
            .iter()
            .map(|disk| units::bytes(disk.size))
            .collect();
        columns.row([
            target.name.clone(),
            state_text(target),
            or_dash(target.job.as_deref()),
            or_dash(target.address.as_deref()),
            or_dash(target.facts.nics.first().map(|nic| nic.mac.as_str())),
            (if !target.connected {
                "-"
            } else if target.multicast {
                "yes"
            } else {
                "no"
            })
            .to_owned(),
            or_dash(Some(&disks.join(", "))),
            target.id.clone(),
        ]);
    }
    columns.text()
}

/// The state of a target; for a disconnected one that boots, its stage.
fn state_text(target: &TargetView) -> String {
    let booting = |machine: &&MachineView| !matches!(machine.stage, Stage::Joined | Stage::Local);
    match target.boot.as_ref().filter(booting) {
        Some(machine) if !target.connected && machine.error.is_some() => {
            format!("{} (boot failed)", target.state)
        }
        Some(machine) if !target.connected => format!("{} (boot: {})", target.state, machine.stage),
        // What came of it last, of a machine that is at work.
        _ => match &target.first_start {
            Some(known) if !target.connected => {
                clean(&format!("{} ({})", target.state, known.line()))
            }
            _ => target.state.to_string(),
        },
    }
}

/// Lines about the first start that a machine reported.
fn first_start_lines(known: &FirstStart) -> Vec<(&'static str, String)> {
    let said = [
        known.heard.as_ref().map(|time| format!("at {time}")),
        known.system.clone(),
        known.sid.as_ref().map(|sid| format!("SID {sid}")),
        known
            .machine_id
            .as_ref()
            .map(|id| format!("machine-id {id}")),
    ];
    let said: Vec<String> = said.into_iter().flatten().collect();
    let mut lines = Vec::new();
    if !said.is_empty() {
        lines.push(("", said.join(", ")));
    }
    lines.extend(known.addresses.iter().map(|address| ("", address.clone())));
    lines
}

/// All facts about one target, one on each line.
fn target_text(target: &TargetView) -> String {
    let facts = &target.facts;
    let mut lines: Vec<(&str, String)> = vec![
        ("name", target.name.clone()),
        ("id", target.id.clone()),
        ("state", target.state.to_string()),
        (
            "connected",
            if target.connected {
                "yes".to_owned()
            } else {
                format!("no, last seen {}", target.last_seen)
            },
        ),
        ("address", or_dash(target.address.as_deref())),
        (
            "multicast",
            (if target.multicast {
                "reaches it"
            } else {
                "does not reach it"
            })
            .to_owned(),
        ),
        ("job", or_dash(target.job.as_deref())),
        ("asks", or_dash(target.asks.as_deref())),
        ("host", or_dash(Some(&facts.hostname))),
        ("model", or_dash(facts.model.as_deref())),
        ("serial", or_dash(facts.serial.as_deref())),
        ("uuid", or_dash(facts.uuid.as_deref())),
        ("firmware", or_dash(Some(&facts.firmware))),
        ("memory", units::bytes(facts.memory_bytes)),
        (
            "threads",
            format!("{}{}", facts.cpus, if facts.aes { ", AES" } else { "" }),
        ),
    ];
    if let Some(known) = &target.first_start {
        lines.push(("start", known.line()));
        lines.extend(first_start_lines(known));
    }
    if let Some(question) = target.question() {
        lines.push(("identity", question));
    }
    for value in &target.identity.not_unique {
        lines.push((
            "not unique",
            format!("{value}: other machines have it too, so it decides nothing"),
        ));
    }
    if let Some(boot) = &target.boot {
        let firmware = boot.firmware.as_deref().unwrap_or("firmware unknown");
        lines.push((
            "boot",
            format!("{} at {} ({firmware}, {})", boot.stage, boot.time, boot.mac),
        ));
        if boot.error.is_some() || boot.detail.is_some() {
            lines.push(("", about(boot)));
        }
    }
    for nic in &facts.nics {
        let speed = nic
            .speed_mbit_per_s
            .map(|mbit| format!(", {mbit} Mbit/s"))
            .unwrap_or_default();
        lines.push((
            "nic",
            format!(
                "{} {}{speed} {}",
                nic.name,
                nic.mac,
                nic.addresses.join(" ")
            ),
        ));
    }
    for disk in &facts.disks {
        let mut marks = Vec::new();
        if disk.removable {
            marks.push("removable".to_owned());
        }
        if disk.read_only {
            marks.push("read-only".to_owned());
        }
        if disk.file_backed {
            marks.push("file".to_owned());
        }
        if !disk.holders.is_empty() {
            marks.push(format!("in use by {}", disk.holders.join(", ")));
        }
        let marks = if marks.is_empty() {
            String::new()
        } else {
            format!(" ({})", marks.join("; "))
        };
        lines.push(("disk", format!("{}{marks}", disk.title())));
        lines.extend(disk.contents.iter().map(|content| ("", content.clone())));
    }
    lines
        .iter()
        .map(|(label, value)| {
            format!("{label:<10} {}", clean(value))
                .trim_end()
                .to_owned()
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample() -> Vec<TargetView> {
        serde_json::from_value(json!([
            {"id": "4c4c4544", "name": "lab-01", "state": "ready", "connected": true, "address": "10.0.0.7:41000", "multicast": true, "last_seen": "t",
             "facts": {"hostname": "pre-os", "uuid": "4C4C", "firmware": "uefi", "memory_bytes": 8_000_000_000_u64, "cpus": 4, "aes": true,
                       "nics": [{"name": "eth0", "mac": "52:54:00:00:00:01", "addresses": ["10.0.0.7"], "speed_mbit_per_s": 1000}],
                       "disks": [{"path": "/dev/sda", "model": "QEMU", "serial": "Q1", "size": 64_000_000_000_u64, "logical_sector": 512, "holders": ["/mnt"], "contents": ["1 ext4 \"old\""]}]}},
            {"id": "b", "name": "lab-02", "state": "waiting-approval", "connected": false, "last_seen": "2026-11-21T03:00:00Z", "facts": {}}
        ]))
        .unwrap()
    }

    #[test]
    fn the_list() {
        assert_eq!(
            target_table(&sample()),
            "NAME    STATE             JOB  ADDRESS         MAC                MULTICAST  DISKS    ID\n\
             lab-01  ready             -    10.0.0.7:41000  52:54:00:00:00:01  yes        64.0 GB  4c4c4544\n\
             lab-02  waiting-approval  -    -               -                  -          -        b"
        );
    }

    #[test]
    fn one_target() {
        let text = target_text(&sample()[0]);
        assert!(
            text.contains(
                "disk       /dev/sda, QEMU, Q1, 64.0 GB (in use by /mnt)\n           1 ext4 \"old\""
            ),
            "{text}"
        );
        assert!(
            text.contains("nic        eth0 52:54:00:00:00:01, 1000 Mbit/s 10.0.0.7"),
            "{text}"
        );
        assert!(
            target_text(&sample()[1]).contains("connected  no, last seen 2026-11-21T03:00:00Z")
        );
    }

    #[test]
    fn names_and_ids() {
        let known = sample();
        assert_eq!(find(&known, "lab-02").unwrap().id, "b");
        assert_eq!(find(&known, "4c4c4544").unwrap().name, "lab-01");
        let error = find(&known, "lab02").unwrap_err();
        assert_eq!(
            (error.code, error.hint.as_deref()),
            (ErrorCode::NothingMatched, Some("did you mean `lab-02`?"))
        );
        let chosen =
            |text: &str| select(&known, &[selector(text).unwrap()]).map(|chosen| chosen.len());
        // lab-02 is switched off: a pattern skips it, its name does not.
        assert_eq!(
            (
                chosen("all").unwrap(),
                chosen("lab-*").unwrap(),
                chosen("lab-01,lab-02").unwrap()
            ),
            (1, 1, 2)
        );
        assert_eq!(chosen("pc-*").unwrap_err().code, ErrorCode::NothingMatched);
        assert!(selector("").is_err() && selector("nic:eth0").is_err());
    }
}
