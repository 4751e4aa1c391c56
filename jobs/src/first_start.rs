//! Comparison of a first-start report with the plan.

use api::{FirstStart, FirstStartState};
use firstboot::report::{Outcome, Report, System};
use template::step::{Action, MachinePlan};

/// Returns the first start of a machine from its report: failed if the report says so, or if name
/// or SID differ from the plan. `heard` is the time of arrival.
pub fn judged(report: &Report, plan: Option<&MachinePlan>, heard: String) -> FirstStart {
    let (step, reason) = match &report.result {
        Outcome::Done => (None, None),
        Outcome::Failed { step, reason } => (step.clone(), Some(reason.clone())),
    };
    let (system, sid, machine_id) = match &report.system {
        System::Windows { sid } => ("windows", sid.clone(), None),
        System::Linux { machine_id } => ("linux", None, machine_id.clone()),
    };
    let planned_name = plan
        .and_then(|plan| plan.hostname.clone())
        .filter(|planned| !is_named(&report.name, planned));
    let planned_sid = plan
        .and_then(planned_sid)
        // An unreadable SID does not count as a different one.
        .filter(|planned| sid.as_ref().is_some_and(|sid| sid != planned));
    let fine = reason.is_none() && planned_name.is_none() && planned_sid.is_none();
    FirstStart {
        state: match fine {
            true => FirstStartState::Started,
            false => FirstStartState::Failed,
        },
        heard: Some(heard),
        step,
        reason,
        name: Some(report.name.clone()),
        planned_name,
        system: Some(system.to_owned()),
        sid,
        planned_sid,
        machine_id,
        addresses: report.addresses.iter().map(ToString::to_string).collect(),
    }
}

/// Compares names without regard to case; a Linux may report its full name.
fn is_named(name: &str, planned: &str) -> bool {
    let first = name.split('.').next().unwrap_or_default();
    name.eq_ignore_ascii_case(planned) || first.eq_ignore_ascii_case(planned)
}

/// Returns the SID that the agent wrote.
fn planned_sid(plan: &MachinePlan) -> Option<String> {
    plan.steps.iter().find_map(|step| match &step.action {
        Action::WindowsSid { new, .. } => Some(new.clone()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(name: &str, result: Outcome) -> Report {
        Report {
            job: 7,
            target: "t".to_owned(),
            result,
            name: name.to_owned(),
            system: System::Linux {
                machine_id: Some("00".to_owned()),
            },
            addresses: vec![],
        }
    }

    #[test]
    fn what_is_reported_is_held_against_the_plan() {
        let plan = MachinePlan {
            hostname: Some("LAB-07".to_owned()),
            ..MachinePlan::default()
        };
        let failed = || Outcome::Failed {
            step: Some("run.2".to_owned()),
            reason: "exit code 3".to_owned(),
        };
        let whole = Outcome::Failed {
            step: None,
            reason: "the job is damaged".to_owned(),
        };
        for (name, result, state, line) in [
            (
                "LAB-07",
                Outcome::Done,
                FirstStartState::Started,
                "started as LAB-07",
            ),
            (
                "lab-07.lab.example",
                Outcome::Done,
                FirstStartState::Started,
                "started as lab-07.lab.example",
            ),
            (
                "LAB-99",
                Outcome::Done,
                FirstStartState::Failed,
                "started as LAB-99, planned LAB-07",
            ),
            (
                "LAB-07",
                failed(),
                FirstStartState::Failed,
                "first start failed: run.2: exit code 3",
            ),
            (
                "LAB-07",
                whole,
                FirstStartState::Failed,
                "first start failed: the job is damaged",
            ),
            (
                "LAB-99",
                failed(),
                FirstStartState::Failed,
                "first start failed: run.2: exit code 3; started as LAB-99, planned LAB-07",
            ),
        ] {
            let view = judged(&report(name, result), Some(&plan), "T".to_owned());
            assert_eq!((view.state, view.line().as_str()), (state, line));
        }
        let free = judged(&report("any", Outcome::Done), None, "T".to_owned());
        assert_eq!(free.line(), "started as any");
        assert_eq!(FirstStart::default().line(), "first start not heard of");
    }

    #[test]
    fn another_sid_than_planned_is_said() {
        let planned = "S-1-5-21-1-2-3".to_owned();
        let view = |sid: Option<&str>| {
            let plan = MachinePlan {
                steps: vec![template::step::Step {
                    id: "sid".to_owned(),
                    what: String::new(),
                    when: template::step::When::Offline,
                    action: Action::WindowsSid {
                        partition: 1,
                        old: "S-1-5-21-7-7-7".to_owned(),
                        new: planned.clone(),
                    },
                }],
                ..MachinePlan::default()
            };
            let report = Report {
                system: System::Windows {
                    sid: sid.map(str::to_owned),
                },
                ..report("PC", Outcome::Done)
            };
            judged(&report, Some(&plan), "T".to_owned())
        };
        assert_eq!(view(Some(&planned)).state, FirstStartState::Started);
        assert_eq!(view(None).state, FirstStartState::Started);
        let other = view(Some("S-1-5-21-9-9-9"));
        assert_eq!(other.state, FirstStartState::Failed);
        assert_eq!(
            other.line(),
            "started as PC, SID S-1-5-21-9-9-9, planned S-1-5-21-1-2-3"
        );
    }
}
