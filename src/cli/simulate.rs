//! `deploy --simulate N`: estimates a deployment to a larger room; no PCs needed.
//!
//! Runs the real session, with the blocks of the real image, in virtual time ([`rehearsal`]). Owns
//! the words and the translation of options into a room; needs no console, target or network. The
//! output names the parts that are not rehearsed: planning, proof and commit add about two seconds.

use super::words::share;
use super::{Context, secret, table};
use api::{ApiError, ErrorCode, SCHEMA_VERSION};
use clap::Args;
use disk::fit::wanted;
use disk::restore;
use facts::target::Choice;
use facts::units;
use jobs::rate;
use multicast::Layout;
use rehearsal::{Faults, Report, Room, Target};
use serde::Serialize;
use std::path::Path;
use terminal::exit::{Ended, Exit, failed};

/// Most targets of a rehearsal.
const MOST_TARGETS: usize = 5000;
/// Longest rehearsal, in microseconds of the room's time: one day.
const LIMIT_US: u64 = 86_400_000_000;

/// Options that only a rehearsal has.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Rehearsal")]
pub(super) struct SimulateArgs {
    /// Rehearse with so many targets and touch nothing: how long would it take?
    #[arg(long, value_name = "N", conflicts_with_all = ["targets", "dry_run", "yes", "detach"])]
    simulate: Option<usize>,
    /// Share of the packets that each target loses, 0 to 0.5
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share, requires = "simulate")]
    loss: f64,
    /// Packets lost in a row, on average
    #[arg(long, value_name = "PACKETS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000), requires = "simulate")]
    loss_burst: u64,
    /// Number of targets with a slow disk
    #[arg(long, value_name = "K", default_value_t = 0, requires = "simulate")]
    slow: usize,
    /// Bytes a second that a slow disk writes
    #[arg(long, value_name = "SIZE", default_value = "40M", value_parser = units::parse_size, requires = "simulate")]
    slow_disk: u64,
    /// Bytes a second that the other disks write
    #[arg(long, value_name = "SIZE", default_value = "400M", value_parser = units::parse_size, requires = "simulate")]
    disk_rate: u64,
    /// Number of targets that come when a third of the image is sent
    #[arg(long, value_name = "K", default_value_t = 0, requires = "simulate")]
    late: usize,
    /// Every decision of a rehearsal comes from this number
    #[arg(long, value_name = "N", default_value_t = 1, requires = "simulate")]
    seed: u64,
}

/// The deployment to rehearse, besides the rehearsal's own options.
pub(super) struct Deployment<'a> {
    pub(super) image: &'a Path,
    pub(super) password_file: Option<&'a Path>,
    /// Rate in bits a second, if given.
    pub(super) rate: Option<u64>,
    pub(super) pace: multicast::Pace,
    pub(super) choice: &'a Choice,
}

/// The result of a rehearsal, in the form of `--json`.
#[derive(Debug, Serialize)]
struct Rehearsal {
    r#type: &'static str,
    schema_version: u32,
    targets: usize,
    /// Bytes of the image as sent, compressed.
    image_bytes: u64,
    /// Cap of the session's rate, in bytes a second.
    rate_bytes_per_s: u64,
    /// Seconds that one transmission of the image takes at that rate.
    limit_seconds: f64,
    /// Seconds until the first, half, nine tenths and all of the targets have everything.
    first_seconds: f64,
    half_seconds: f64,
    nine_tenths_seconds: f64,
    all_seconds: f64,
    /// Seconds until every target that is neither slow nor late has everything.
    punctual_seconds: f64,
    /// Packets sent for each packet of the image.
    transmissions: f64,
    wire_bytes: u64,
    passes: u64,
    bulk_blocks: u64,
    set_aside: usize,
    skipped_blocks: u64,
}

impl SimulateArgs {
    /// Number of targets; `None` when this is no rehearsal.
    pub(super) fn targets(&self) -> Option<usize> {
        self.simulate
    }
}

/// Runs the rehearsal.
///
/// # Errors
/// The image cannot be read, or the simulated session fails, which is a fault of this program.
pub(super) fn run(args: &SimulateArgs, deployment: &Deployment<'_>, context: &Context) -> Ended {
    let out = &context.out;
    let count = args.simulate.unwrap_or(0);
    if !(1..=MOST_TARGETS).contains(&count) {
        return Err(ApiError::new(
            ErrorCode::Usage,
            format!("a rehearsal has 1 to {MOST_TARGETS} targets, not {count}"),
        ));
    }
    if args.slow + args.late > count {
        return Err(ApiError::new(
            ErrorCode::Usage,
            format!(
                "{} slow and {} late targets are more than {count}",
                args.slow, args.late
            ),
        ));
    }
    let (room, image_bytes) = room(args, count, deployment)?;
    let waiting = out.progress("rehearse", None);
    let report = rehearsal::rehearse(&room).map_err(|error| failed("rehearsing", error))?;
    drop(waiting);
    let result = summarise(args, &room, &report, image_bytes);
    if out.json() {
        out.result_json(&result);
    } else {
        out.line(text(args, deployment, &result));
    }
    Ok(Exit::OK)
}

fn room(
    args: &SimulateArgs,
    count: usize,
    deployment: &Deployment<'_>,
) -> Result<(Room, u64), ApiError> {
    let password = deployment
        .password_file
        .map(secret::read_password)
        .transpose()?;
    let password = password.as_ref().map(|password| password.as_str());
    let image = restore::open_image(deployment.image, password)?;
    let manifest = image.manifest();
    let wanted = wanted(manifest, deployment.image, deployment.choice)?;
    let chosen = || {
        let entries = manifest.entries.iter().enumerate();
        entries.filter(|(index, _)| wanted.contains(*index))
    };
    let layout = multicast::pack(chosen().map(|(_, entry)| entry.body_len));
    let encoded = manifest
        .encode()
        .map_err(|error| failed("encoding the manifest", error))?;
    let manifest_len = u32::try_from(encoded.len()).unwrap_or(u32::MAX);
    let (sent, plain) = (
        layout.total_bytes(),
        chosen()
            .map(|(_, entry)| u64::from(entry.mask.used_bytes()))
            .sum::<u64>(),
    );
    // Disks write decompressed bytes; the session counts sent ones.
    let in_sent = |rate: u64| {
        let scaled = u128::from(rate) * u128::from(sent.max(1)) / u128::from(plain.max(1));
        u64::try_from(scaled).unwrap_or(u64::MAX).max(1)
    };
    let ppm = parts_per_million(args.loss);
    let cap = rate::rate_cap(deployment.rate.map(|bits| (bits / 8).max(1)));
    let start = rate::first_rate(deployment.rate.is_some(), cap);
    let mut room = Room::new(args.seed, layout.symbol_counts(), Vec::new());
    room.manifest = Layout::single(manifest_len).symbol_counts();
    room.rate_cap_bytes_per_s = cap;
    room.start_rate_bytes_per_s = start;
    room.pace = deployment.pace;
    room.limit_us = LIMIT_US;
    let late_us = room.pass_us() / 3;
    room.targets = (0..count)
        .map(|index| Target {
            faults: match args.loss_burst {
                1 => Faults::loss(ppm),
                length => Faults::bursts(ppm, length),
            },
            disk_bytes_per_s: in_sent(if is_slow(args, index) {
                args.slow_disk
            } else {
                args.disk_rate
            }),
            join_us: if is_late(args, count, index) {
                late_us
            } else {
                0
            },
            ..Target::default()
        })
        .collect();
    Ok((room, sent))
}

/// True for the first targets: they are slow, the last ones are late.
fn is_slow(args: &SimulateArgs, index: usize) -> bool {
    index < args.slow
}

fn is_late(args: &SimulateArgs, count: usize, index: usize) -> bool {
    index >= count - args.late
}

fn summarise(args: &SimulateArgs, room: &Room, report: &Report, image_bytes: u64) -> Rehearsal {
    let seconds = |micros: u64| micros as f64 / 1e6;
    let count = report.targets.len();
    let mut done: Vec<u64> = report.targets.iter().map(|target| target.done_us).collect();
    done.sort_unstable();
    // The time of the target that completes this share of the room.
    let at = |tenths: usize| {
        let index = (count * tenths).div_ceil(10).max(1) - 1;
        seconds(done.get(index).copied().unwrap_or(0))
    };
    let punctual = report
        .targets
        .iter()
        .enumerate()
        .filter(|(index, _)| !is_slow(args, *index) && !is_late(args, count, *index))
        .map(|(_, target)| target.done_us)
        .max();
    Rehearsal {
        r#type: "rehearsal",
        schema_version: SCHEMA_VERSION,
        targets: count,
        image_bytes,
        rate_bytes_per_s: room.rate_cap_bytes_per_s,
        limit_seconds: seconds(room.pass_us()),
        first_seconds: at(0),
        half_seconds: at(5),
        nine_tenths_seconds: at(9),
        all_seconds: at(10),
        punctual_seconds: seconds(punctual.unwrap_or(0)),
        transmissions: report.transmissions(),
        wire_bytes: report.wire_bytes,
        passes: report.passes.max(1),
        bulk_blocks: report.bulk_blocks(),
        set_aside: report
            .targets
            .iter()
            .filter(|target| target.demoted > 0)
            .count(),
        skipped_blocks: report.targets.iter().map(|target| target.skipped).sum(),
    }
}

fn text(args: &SimulateArgs, deployment: &Deployment<'_>, result: &Rehearsal) -> String {
    let mut room = vec![format!(
        "{} at {}",
        table::count(result.targets, "target"),
        units::bits_per_s(result.rate_bytes_per_s.saturating_mul(8))
    )];
    if args.loss > 0.0 {
        room.push(format!("each losing {}", units::share(args.loss)));
    }
    if args.slow > 0 {
        room.push(format!(
            "{} with a disk of {}",
            args.slow,
            units::bytes_per_s(args.slow_disk)
        ));
    }
    if args.late > 0 {
        room.push(format!("{} late", args.late));
    }
    let mut lines = vec![
        format!(
            "rehearsal of {}, {} to send: {}",
            table::clean(&deployment.image.display().to_string()),
            units::bytes(result.image_bytes),
            room.join(", ")
        ),
        format!(
            "  the network alone    {}",
            units::span(result.limit_seconds)
        ),
        format!(
            "  half of them         {}",
            units::span(result.half_seconds)
        ),
        format!(
            "  nine tenths          {}",
            units::span(result.nine_tenths_seconds)
        ),
    ];
    if args.slow + args.late > 0 && result.punctual_seconds > 0.0 {
        let except = match (args.slow, args.late) {
            (_, 0) => "without the slow    ",
            (0, _) => "without the late    ",
            _ => "without slow and late",
        };
        lines.push(format!(
            "  {except} {}",
            units::span(result.punctual_seconds)
        ));
    }
    lines.push(format!(
        "  all                  {}",
        units::span(result.all_seconds)
    ));
    lines.push(format!(
        "{:.3} packets sent for each of the image, {} on the wire, {}{}{}",
        result.transmissions,
        units::bytes(result.wire_bytes),
        table::count(usize::try_from(result.passes).unwrap_or(usize::MAX), "pass"),
        if result.bulk_blocks > 0 {
            format!(", {} blocks over TCP 5003", result.bulk_blocks)
        } else {
            String::new()
        },
        if result.set_aside > 0 {
            format!(", {} set aside for a while", result.set_aside)
        } else {
            String::new()
        },
    ));
    lines.push("planning, proof and commit come to about two seconds more".to_owned());
    lines.join("\n")
}

fn parts_per_million(share: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and half a million"
    )]
    let ppm = (share.clamp(0.0, 0.5) * 1e6).round() as u64;
    ppm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_has_its_parts_per_million() {
        assert_eq!(parts_per_million(0.015), 15_000);
    }
}
