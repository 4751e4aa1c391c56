//! Plans: the effect of a deployment on each target, before anything is changed.
//!
//! Owns the choice of the disk by rule, and every reason for a refusal that the console can see.
//! Pure: the same request, image and targets give the same plan. Invariant: a planned target
//! without a refusal names exactly one disk. Agents check everything again before the first write,
//! because facts become old.

use crate::naming;
use api::select::Selector;
use api::{
    ApiError, DeployRequest, ErrorCode, ImageSummary, Plan, PlannedTarget, SCHEMA_VERSION,
    StartRule, TargetView,
};
use diskmap::{Grow, Partition, PartitionTable, plan_commit, refuse_onto, refuse_sectors};
use facts::disk_rule::DiskRule;
use facts::target::{DiskFacts, TargetState};
use imagefmt::FsMeta;

/// Share of the wire rate that is payload: 1408 of 1514 bytes (docs/protocol.md, Packet).
const WIRE_EFFICIENCY: f64 = 0.930;

/// The part of an image that a plan deploys.
pub struct Chosen {
    /// Summary for display; its byte counts are those of the part.
    pub summary: ImageSummary,
    /// Partition table that is written to the disks.
    pub table: PartitionTable,
    /// A partition of the image, and the number of the disk's partition that it replaces; the disk
    /// keeps its table.
    pub onto: Option<(Partition, u32)>,
    /// File system of that partition in the image.
    pub onto_fs: Option<FsMeta>,
    /// Notes for the technician about the choice.
    pub notes: Vec<String>,
}

impl Chosen {
    /// Returns true if a partition of the image belongs to the part.
    pub fn holds(&self, number: u32) -> bool {
        match &self.onto {
            Some((partition, _)) => partition.number == number,
            None => self.table.partition(number).is_some(),
        }
    }

    /// Returns the number of the partition that grows.
    pub fn grown(&self, grow: Grow) -> Option<u32> {
        let partitions = self.table.partitions.iter();
        match (&self.onto, grow) {
            (Some((partition, _)), _) => Some(partition.number),
            (None, Grow::Last) => partitions
                .filter(|partition| !partition.is_extended())
                .max_by_key(|partition| partition.start)
                .map(|partition| partition.number),
            (None, Grow::Number(number)) => Some(number),
        }
    }
}

/// A candidate target of a plan.
pub struct Candidate {
    /// View that lists show.
    pub view: TargetView,
    /// True if a technician or the console's policy let it in.
    pub approved: bool,
}

/// Makes the plan of a request for the known targets. A target that cannot take the image is in the
/// plan with the reason.
///
/// # Errors
/// `Usage` for an invalid request, `NothingMatched` if the selector matches no target.
pub fn make(
    request: &DeployRequest,
    image: &Chosen,
    candidates: &[Candidate],
    rate_cap_bytes_per_s: Option<u64>,
) -> Result<Plan, ApiError> {
    let selector: Selector = request
        .targets
        .parse()
        .map_err(|error| ApiError::new(ErrorCode::Usage, format!("--targets: {error}")))?;
    let rule = request.disk.clone().unwrap_or_default();
    let mut targets: Vec<PlannedTarget> = candidates
        .iter()
        .filter(|candidate| selector.matches(&candidate.view))
        .map(|candidate| plan_target(candidate, &rule, request.grow, image, &request.start))
        .collect();
    if targets.is_empty() {
        let known = candidates.len();
        let connected = candidates.iter().filter(|c| c.view.connected).count();
        return Err(ApiError::new(
            ErrorCode::NothingMatched,
            format!(
                "no target matches {:?} ({connected} connected, {known} known)",
                request.targets
            ),
        )
        .hint(
            "diskcast target list shows the targets; start diskcast-agent on the machines first",
        ));
    }
    targets.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.id.cmp(&b.id)));
    let expected_seconds = rate_cap_bytes_per_s
        .filter(|rate| *rate > 0)
        .map(|rate| image.summary.wire_bytes as f64 / (rate as f64 * WIRE_EFFICIENCY));
    Ok(Plan {
        r#type: "plan".to_owned(),
        schema_version: SCHEMA_VERSION,
        request: request.without_secrets(),
        image: image.summary.clone(),
        targets,
        expected_seconds,
        files: Vec::new(),
        notes: image.notes.clone(),
    })
}

fn plan_target(
    candidate: &Candidate,
    rule: &DiskRule,
    grow: Option<Grow>,
    image: &Chosen,
    start: &StartRule,
) -> PlannedTarget {
    let view = &candidate.view;
    let mut planned = PlannedTarget {
        id: view.id.clone(),
        name: view.name.clone(),
        mac: naming::first_mac(&view.facts),
        disk: None,
        refused: None,
        facts_age_seconds: None,
        personal: None,
    };
    match rule.choose(&view.facts.disks) {
        Ok(disk) => {
            planned.disk = Some(disk.clone());
            planned.refused =
                refuse_machine(candidate, start).or_else(|| refuse_disk(disk, grow, image));
        }
        Err(reason) => planned.refused = Some(reason.to_string()),
    }
    planned
}

fn refuse_machine(candidate: &Candidate, start: &StartRule) -> Option<String> {
    let view = &candidate.view;
    if let Some(question) = view.question() {
        return Some(question);
    }
    if !candidate.approved || view.state == TargetState::WaitingApproval {
        return Some(format!(
            "not approved yet; diskcast target approve {}",
            view.name
        ));
    }
    if let Some(job) = &view.job {
        return Some(format!("is in job {job}"));
    }
    (!view.connected && *start == StartRule::Now).then(|| "not connected".to_owned())
}

fn refuse_disk(disk: &DiskFacts, grow: Option<Grow>, image: &Chosen) -> Option<String> {
    let title = disk.title();
    if disk.read_only {
        return Some(format!("{title} is read-only"));
    }
    if disk.removable {
        return Some(format!("{title} is removable"));
    }
    if !disk.holders.is_empty() {
        return Some(format!("{title} is in use: {}", disk.holders.join(", ")));
    }
    // The functions that later make the writes decide whether they fit.
    let Some((source, onto)) = &image.onto else {
        return plan_commit(&image.table, disk.size, disk.logical_sector, grow)
            .err()
            .map(|error| format!("{title}: {error}"));
    };
    let target = disk.partitions.iter().find(|p| p.number == *onto);
    refuse_onto(source, *onto, grow, target.map(|target| target.length))
        .and_then(|()| {
            // A file in place of a disk has the sector size of the image.
            let own = match disk.file_backed {
                true => image.summary.sector_size,
                false => disk.logical_sector,
            };
            let fs = image.onto_fs.as_ref();
            let fs = fs.map(|fs| (fs.kind.as_str(), fs.block_size));
            refuse_sectors(fs, image.summary.sector_size, own)
        })
        .err()
        .map(|reason| format!("{title}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use facts::target::Facts;

    const GIB: u64 = 1 << 30;

    fn disk(path: &str, size: u64) -> DiskFacts {
        DiskFacts {
            path: path.to_owned(),
            size,
            logical_sector: 512,
            ..DiskFacts::default()
        }
    }

    fn candidate(name: &str, disks: Vec<DiskFacts>) -> Candidate {
        Candidate {
            view: TargetView {
                id: format!("t-{name}"),
                name: name.to_owned(),
                state: TargetState::Ready,
                connected: true,
                address: None,
                multicast: true,
                job: None,
                last_seen: String::new(),
                boot: None,
                first_start: None,
                asks: None,
                identity: Default::default(),
                facts_time: String::new(),
                facts: Facts {
                    disks,
                    ..Facts::default()
                },
            },
            approved: true,
        }
    }

    fn request(targets: &str) -> DeployRequest {
        DeployRequest {
            image: "/images/lab.dcimg".to_owned(),
            password: Some("secret".to_owned()),
            targets: targets.to_owned(),
            ..DeployRequest::default()
        }
    }

    /// Makes a disk without a partition table, 2 GiB: the smallest thing a plan can be about.
    fn image() -> (ImageSummary, PartitionTable) {
        let summary = ImageSummary {
            path: "/images/lab.dcimg".to_owned(),
            root: "00".repeat(32),
            file_bytes: GIB,
            disk_bytes: 2 * GIB,
            sector_size: 512,
            used_bytes: GIB,
            wire_bytes: 930_000_000,
            created: String::new(),
            partitions: Vec::new(),
            chosen_root: None,
            signed_by: Vec::new(),
            set: None,
            checked: None,
        };
        let zeros = vec![0; 512];
        let table = diskmap::table_from_regions([(0, zeros.as_slice())], 2 * GIB, 512).unwrap();
        (summary, table)
    }

    fn plan(request: &DeployRequest, candidates: &[Candidate]) -> Result<Plan, ApiError> {
        let (summary, table) = image();
        let chosen = Chosen {
            summary,
            table,
            onto: None,
            onto_fs: None,
            notes: Vec::new(),
        };
        make(request, &chosen, candidates, Some(1_000_000_000))
    }

    fn refusal(candidate: Candidate, rule: Option<&str>) -> String {
        let mut request = request("all");
        request.disk = rule.map(|rule| rule.parse().unwrap());
        plan(&request, &[candidate]).unwrap().targets[0]
            .refused
            .clone()
            .unwrap_or_default()
    }

    #[test]
    fn each_reason_to_refuse_is_said_by_name() {
        let good = || disk("/dev/sda", 4 * GIB);
        assert_eq!(refusal(candidate("a", vec![good()]), None), "");
        let with = |change: fn(&mut DiskFacts)| {
            let mut one = good();
            change(&mut one);
            candidate("a", vec![one])
        };
        let path = Some("path:/dev/sda");
        for (candidate, rule, words) in [
            (
                with(|d| d.size = GIB),
                None,
                vec!["/dev/sda", "1073741824", "2147483648"],
            ),
            (
                with(|d| d.logical_sector = 4096),
                None,
                vec!["512-byte", "4096-byte"],
            ),
            (
                with(|d| d.holders = vec!["/ (ext4)".to_owned()]),
                None,
                vec!["in use", "/ (ext4)"],
            ),
            (
                with(|d| d.removable = true),
                None,
                vec!["no internal disk", "/dev/sda"],
            ),
            (
                with(|d| d.removable = true),
                path,
                vec!["/dev/sda", "removable"],
            ),
            (with(|d| d.read_only = true), path, vec!["read-only"]),
            (
                with(|_| ()),
                Some("serial:X"),
                vec!["no disk with serial X"],
            ),
            (
                with(|_| ()),
                Some("path:/dev/sdz"),
                vec!["no disk /dev/sdz", "/dev/sda"],
            ),
            (self::candidate("a", vec![]), None, vec!["no disk"]),
        ] {
            let said = refusal(candidate, rule);
            for word in words {
                assert!(said.contains(word), "{said:?} lacks {word:?}");
            }
        }
        let mut busy = candidate("a", vec![good()]);
        busy.view.job = Some("7".to_owned());
        assert_eq!(refusal(busy, None), "is in job 7");
        let mut stranger = candidate("a", vec![good()]);
        stranger.approved = false;
        assert!(refusal(stranger, None).contains("target approve a"));
    }

    #[test]
    fn nobody_is_an_error_and_the_password_stays_out() {
        let room = [
            candidate("pc-2", vec![disk("/d", 4 * GIB)]),
            candidate("pc-1", vec![disk("/d", 4 * GIB)]),
        ];
        assert_eq!(
            plan(&request("printer"), &room).unwrap_err().code,
            ErrorCode::NothingMatched
        );
        assert_eq!(
            plan(&request("a:b"), &room).unwrap_err().code,
            ErrorCode::Usage
        );
        let plan = plan(&request("all"), &room).unwrap();
        assert_eq!(plan.request.password, None);
        let names: Vec<_> = plan.targets.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["pc-1", "pc-2"]);
        assert!((plan.expected_seconds.unwrap() - 1.0).abs() < 1e-9);
    }

    /// Makes a table of two partitions in an MBR.
    fn two_partitions() -> PartitionTable {
        let mut sector = vec![0; 512];
        for (slot, start) in [2048_u32, 1 << 20].into_iter().enumerate() {
            let at = 446 + 16 * slot;
            sector[at + 4] = 0x83;
            sector[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
            sector[at + 12..at + 16].copy_from_slice(&4096_u32.to_le_bytes());
        }
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        diskmap::table_from_regions([(0, sector.as_slice())], 2 * GIB, 512).unwrap()
    }

    #[test]
    fn what_is_not_chosen_is_neither_looked_at_nor_grown() {
        let (summary, _) = image();
        let table = two_partitions();
        let whole = Chosen {
            summary,
            table: table.clone(),
            onto: None,
            onto_fs: None,
            notes: Vec::new(),
        };
        assert!(whole.holds(1) && whole.holds(2) && !whole.holds(3));
        assert_eq!(whole.grown(Grow::Last), Some(2));
        // The table of the disk stays, so no other system of the image comes with it.
        let first = table.partition(1).unwrap().clone();
        let onto = Chosen {
            onto: Some((first, 7)),
            ..whole
        };
        assert!(onto.holds(1) && !onto.holds(2));
        assert_eq!(onto.grown(Grow::Last), Some(1));
    }

    #[test]
    fn a_target_that_is_off_waits_unless_now_was_said() {
        let mut off = candidate("pc-1", vec![disk("/d", 4 * GIB)]);
        off.view.connected = false;
        off.view.state = TargetState::Discovered;
        let room = [off];
        assert_eq!(
            plan(&request("pc-1"), &room).unwrap().targets[0].refused,
            None
        );
        let mut now = request("pc-1");
        now.start = StartRule::Now;
        assert_eq!(
            plan(&now, &room).unwrap().targets[0].refused.as_deref(),
            Some("not connected")
        );
    }
}
