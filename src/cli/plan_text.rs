//! A plan as text: what a deployment would do, to which disks, before anything is touched.
//!
//! Values in, text out. Every disk is shown with path, model, serial, size and present contents:
//! the technician's last chance to notice a wrong one.

use super::table::{Align, Columns, clean, count, or_dash};
use api::{Plan, PlannedTarget, StartRule};
use disk::partition_words::is_about;
use facts::look::contents as contents_of;
use facts::order::{EndAction, Grow, Reuse};
use facts::target::DiskFacts;
use facts::units;
use multicast::Pace;

/// The targets that will be written, and those that cannot take the image.
pub(super) fn split(plan: &Plan) -> (Vec<&PlannedTarget>, Vec<&PlannedTarget>) {
    plan.targets
        .iter()
        .partition(|target| target.refused.is_none())
}

/// The text of a whole plan.
pub(super) fn plan_text(plan: &Plan) -> String {
    let (taken, refused) = split(plan);
    let mut lines = image_lines(plan);
    lines.extend(option_lines(plan));
    if !taken.is_empty() {
        lines.push(String::new());
        lines.push(disk_table(&taken, plan.request.choice.onto));
    }
    lines.extend(personal_lines(&taken));
    if !refused.is_empty() {
        lines.push(String::new());
        lines.push(format!(
            "{} cannot take the image:",
            count(refused.len(), "target")
        ));
        lines.extend(
            refused
                .iter()
                .map(|target| format!("  {}", refusal(target))),
        );
    }
    lines.push(String::new());
    lines.extend(
        plan.notes
            .iter()
            .map(|note| format!("note: {}", clean(note))),
    );
    lines.push(closing(plan, taken.len()));
    lines.join("\n")
}

/// A refused target in one line: `pc-03 (/dev/sda, ..., 10.0 GB): disk is smaller than ...`.
pub(super) fn refusal(target: &PlannedTarget) -> String {
    let disk = target
        .disk
        .as_ref()
        .map(|disk| format!(" ({})", clean(&disk.title())))
        .unwrap_or_default();
    format!(
        "{}{disk}: {}",
        clean(&target.name),
        clean(target.refused.as_deref().unwrap_or("no reason was given"))
    )
}

fn image_lines(plan: &Plan) -> Vec<String> {
    let image = &plan.image;
    let mut lines = vec![
        format!("image   {}", clean(&image.path)),
        format!(
            "        captured {}, root {}",
            clean(&image.created),
            clean(&image.root)
        ),
        format!(
            "        {} disk with {} byte sectors",
            units::bytes(image.disk_bytes),
            image.sector_size
        ),
        format!(
            "        {} to write, {} to send",
            units::bytes(image.used_bytes),
            units::bytes(image.wire_bytes)
        ),
    ];
    lines.extend(
        image
            .set
            .iter()
            .map(|set| format!("        disk {} of the set {}", set.disk, clean(&set.id))),
    );
    lines.extend(
        image
            .partitions
            .iter()
            .map(|partition| format!("        {}", clean(partition))),
    );
    lines.extend(
        image
            .signed_by
            .iter()
            .map(|key| format!("signed  by {}", clean(key))),
    );
    lines.push(match (&image.checked, plan.request.no_check) {
        (Some(checked), _) => format!("check   every stored byte was whole, {}", clean(checked)),
        (None, true) => "check   none: --no-check".to_owned(),
        (None, false) => "check   before any disk is touched".to_owned(),
    });
    lines
}

fn option_lines(plan: &Plan) -> Vec<String> {
    let request = &plan.request;
    let start = match &request.start {
        StartRule::All => "when every selected target is ready".to_owned(),
        StartRule::Now => "at once".to_owned(),
        StartRule::Count(number) => format!(
            "when {} ready",
            if *number == 1 {
                "1 target is".to_owned()
            } else {
                format!("{number} targets are")
            }
        ),
        StartRule::At(time) => format!("at {}", clean(time)),
        StartRule::Manual => "when someone says `diskcast job start`".to_owned(),
    };
    let template = request.template.as_ref();
    let mut lines: Vec<String> = template
        .map(|template| format!("as      template {}", clean(&template.name)))
        .into_iter()
        .collect();
    lines.push(format!("start   {start}"));
    lines.push(match also_new(plan) {
        Some(rule) => format!("new     {rule}"),
        None => match request.start {
            StartRule::Count(_) | StartRule::At(_) | StartRule::Manual => {
                "new     machines that come later wait until `diskcast job add` confirms them"
                    .to_owned()
            }
            StartRule::All | StartRule::Now => String::new(),
        },
    });
    lines.retain(|line| !line.is_empty());
    if let Some(grow) = request.grow {
        lines.push(format!(
            "grow    {} into the free space",
            match grow {
                Grow::Last => "the last partition".to_owned(),
                Grow::Number(number) => format!("partition {number}"),
            }
        ));
    }
    let chosen: Vec<String> = request
        .choice
        .partitions
        .iter()
        .map(u32::to_string)
        .collect();
    match request.choice.onto {
        _ if chosen.is_empty() => {}
        None => lines.push(format!(
            "parts   {} of the image; every other partition is cleared",
            chosen.join(", ")
        )),
        Some(onto) => lines.push(format!(
            "parts   {} of the image onto {onto} of each disk; everything else on it stays",
            chosen.join(", ")
        )),
    }
    if let Some(seconds) = request.stall_limit_seconds {
        lines.push(format!(
            "stall   a target without progress for {} has failed",
            units::span(f64::from(seconds))
        ));
    }
    if let Some(seconds) = request.time_limit_seconds {
        lines.push(format!(
            "limit   the job ends {} after its session began",
            units::span(f64::from(seconds))
        ));
    }
    if let Some(rate) = request.rate_bits_per_s {
        lines.push(format!("rate    at most {}", units::bits_per_s(rate)));
    }
    match request.reuse {
        Reuse::Auto => {}
        Reuse::Always => lines.push("reuse   what the disks hold of it already".to_owned()),
        Reuse::Never => lines.push("reuse   nothing: everything is sent and written".to_owned()),
    }
    match request.pace {
        Pace::Balanced => {}
        Pace::Fastest => lines.push("pace    that of the fastest disk".to_owned()),
        Pace::Everyone => lines.push("pace    that of the slowest disk".to_owned()),
    }
    match request.end {
        EndAction::None => {}
        EndAction::Restart => lines.push("end     restart each machine that is done".to_owned()),
        EndAction::Shutdown => lines.push("end     power off each machine that is done".to_owned()),
    }
    lines
}

/// The line for machines not yet seen that would be written too, if the request says so.
pub(super) fn also_new(plan: &Plan) -> Option<String> {
    let request = &plan.request;
    let disk = request.disk.clone().unwrap_or_default().to_string();
    let named = |target: &PlannedTarget| {
        let own = target.personal.as_ref();
        own.is_some_and(|own| own.hostname.is_some())
    };
    let template = request.template.as_ref();
    let name = template
        .filter(|_| plan.targets.iter().any(named))
        .map(|template| {
            let name = clean(&template.name);
            format!("; it gets the next free name of template {name}")
        });
    request.also_new.then(|| {
        format!(
            "the {} disk of every machine that matches {} and comes before the start, when that disk is blank{}",
            clean(&disk),
            clean(&request.targets),
            name.unwrap_or_default()
        )
    })
}

/// The personal steps of each target: all are listed, because they differ from machine to machine.
pub(super) fn personal_lines(targets: &[&PlannedTarget]) -> Vec<String> {
    let mut lines = Vec::new();
    for target in targets {
        let Some(plan) = &target.personal else {
            continue;
        };
        lines.push(String::new());
        lines.push(clean(&target.name));
        let own = template::plan::lines(plan);
        lines.extend(own.iter().map(|line| format!("  {}", clean(line))));
    }
    lines
}

fn disk_table(targets: &[&PlannedTarget], onto: Option<u32>) -> String {
    let mut columns = Columns::new(&[
        ("TARGET", Align::Left),
        ("MAC", Align::Left),
        ("DISK", Align::Left),
        ("MODEL", Align::Left),
        ("SERIAL", Align::Left),
        ("SIZE", Align::Right),
        ("NOW ON IT", Align::Left),
    ]);
    for target in targets {
        let disk = target.disk.as_ref();
        let contents = disk
            .map(|disk| lost(disk, onto))
            .filter(|text| !text.trim().is_empty());
        columns.row([
            target.name.clone(),
            or_dash(target.mac.as_deref()),
            or_dash(disk.map(|disk| disk.path.as_str())),
            or_dash(disk.and_then(|disk| disk.model.as_deref())),
            or_dash(disk.and_then(|disk| disk.serial.as_deref())),
            disk.map_or_else(|| "-".to_owned(), |disk| units::bytes(disk.size)),
            age_of(
                target,
                contents.unwrap_or_else(|| {
                    disk.map_or_else(|| "nothing known".to_owned(), contents_of)
                }),
            ),
        ]);
    }
    columns.text()
}

/// Contents of a disk, with their age if the machine was not connected to report them.
fn age_of(target: &PlannedTarget, contents: String) -> String {
    match target.facts_age_seconds {
        Some(age) => format!("{contents} (said {} ago)", units::span(age)),
        None => contents,
    }
}

/// The present contents of the disk that will be lost.
fn lost(disk: &DiskFacts, onto: Option<u32>) -> String {
    let own = |line: &&String| match onto {
        None => true,
        Some(number) => is_about(line, number),
    };
    let lines: Vec<&str> = disk
        .contents
        .iter()
        .filter(own)
        .map(String::as_str)
        .collect();
    lines.join("\n")
}

fn closing(plan: &Plan, taken: usize) -> String {
    let mut text = match (taken, plan.request.choice.onto) {
        (0, _) => return "No disk would be written.".to_owned(),
        (1, None) => "1 disk will be erased and written".to_owned(),
        (_, None) => format!("{taken} disks will be erased and written"),
        (_, Some(onto)) => format!(
            "Partition {onto} of {} will be erased and written",
            count(taken, "disk")
        ),
    };
    if let Some(seconds) = plan.expected_seconds {
        text.push_str(&format!(
            "; sending takes about {} without loss",
            units::span(seconds)
        ));
    }
    text.push('.');
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn sample_plan() -> Plan {
        serde_json::from_value(json!({
            "type": "plan", "schema_version": 1,
            "request": {"image": "/srv/lab.dcimg", "targets": "all", "grow": "last", "rate_bits_per_s": 200_000_000, "end": "restart", "start": {"when": "count", "value": 2}},
            "image": {"path": "/srv/lab.dcimg", "root": "aabb", "file_bytes": 1, "disk_bytes": 64_000_000_000_u64, "sector_size": 512, "used_bytes": 20_000_000_000_u64,
                      "wire_bytes": 11_000_000_000_u64, "created": "2026-11-20T10:00:00Z", "checked": "2026-11-20T11:00:00Z", "partitions": ["1 EFI vfat 100 MB", "2 Windows ntfs 63.9 GB"]},
            "targets": [
                {"id": "1", "name": "pc-01", "mac": "52:54:00:00:00:01", "disk": {"path": "/dev/nvme0n1", "model": "Samsung 980", "serial": "S1", "size": 256_000_000_000_u64,
                 "logical_sector": 512, "contents": ["1 ESP vfat", "2 ntfs \"Daten\""]}},
                {"id": "2", "name": "pc-02", "disk": {"path": "/dev/sda", "size": 128_000_000_000_u64, "logical_sector": 512}},
                {"id": "3", "name": "pc-03", "disk": {"path": "/dev/sda", "serial": "X9", "size": 10_000_000_000_u64, "logical_sector": 512}, "refused": "disk is too small"}
            ],
            "expected_seconds": 474.0
        }))
        .unwrap()
    }

    #[test]
    fn a_plan_names_every_disk() {
        assert_eq!(
            plan_text(&sample_plan()),
            r#"image   /srv/lab.dcimg
        captured 2026-11-20T10:00:00Z, root aabb
        64.0 GB disk with 512 byte sectors
        20.0 GB to write, 11.0 GB to send
        1 EFI vfat 100 MB
        2 Windows ntfs 63.9 GB
check   every stored byte was whole, 2026-11-20T11:00:00Z
start   when 2 targets are ready
new     machines that come later wait until `diskcast job add` confirms them
grow    the last partition into the free space
rate    at most 200 Mbit/s
end     restart each machine that is done

TARGET  MAC                DISK          MODEL        SERIAL    SIZE  NOW ON IT
pc-01   52:54:00:00:00:01  /dev/nvme0n1  Samsung 980  S1      256 GB  1 ESP vfat
                                                                      2 ntfs "Daten"
pc-02   -                  /dev/sda      -            -       128 GB  no table or file system that is known

1 target cannot take the image:
  pc-03 (/dev/sda, X9, 10.0 GB): disk is too small

2 disks will be erased and written; sending takes about 7 min 54 s without loss."#
        );
    }

    #[test]
    fn nothing_to_write() {
        let mut plan = sample_plan();
        plan.targets.truncate(0);
        assert!(plan_text(&plan).ends_with("No disk would be written."));
    }
}
