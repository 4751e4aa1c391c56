//! Places and reports that the tests of this module begin with.

use super::place::Place;
use crate::row::JobTargetRow;
use api::PlannedTarget;
use facts::target::TargetState;
use protocol::control::{Counters, Outcome, Progress};

/// Root of the image that these jobs send.
pub(super) const ROOT: &str = "abababababababababababababababababababababababababababababababab";

/// A place that was never ordered, in this state.
pub(super) fn place(state: TargetState) -> Place {
    let planned = PlannedTarget {
        id: "t-1".to_owned(),
        name: "pc-1".to_owned(),
        mac: None,
        disk: None,
        refused: None,
        facts_age_seconds: None,
        personal: None,
    };
    let mut place = Place::new(JobTargetRow::planned(&planned, 100));
    place.row.view.state = state;
    place
}

/// An outcome in this state, with the root of what was read back.
pub(super) fn outcome(state: TargetState, root: Option<&str>) -> Outcome {
    Outcome {
        job: "7".to_owned(),
        state,
        reason: None,
        step: None,
        disk: String::new(),
        disk_now: None,
        bytes_written: u64::MAX,
        seconds: f64::NAN,
        root: root.map(str::to_owned),
        counters: Counters::default(),
    }
}

/// A report in this state, with so many bytes done.
pub(super) fn progress(state: TargetState, done_bytes: u64) -> Progress {
    Progress {
        job: "7".to_owned(),
        state,
        deaf: false,
        done_bytes,
        total_bytes: 100,
        counters: Counters::default(),
        note: None,
        bottleneck: None,
        beat: 0,
    }
}
