//! A plan as text.

use crate::step::{
    Action, AfterApply, FirstBootAction, FirstBootEnd, FirstBootStep, MachinePlan, When,
};

/// The plan in lines: name and address, refusals, steps, notes, and what follows.
pub fn lines(plan: &MachinePlan) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(name) = &plan.hostname {
        lines.push(format!("name     {name}"));
    }
    if let Some(address) = plan.address {
        lines.push(format!("address  {address}"));
    }
    for reason in &plan.refused {
        lines.push(format!("refused  {reason}"));
    }
    for step in &plan.steps {
        let when = match step.when {
            When::Offline => "offline",
            When::AnswerFile => "answers",
            When::FirstBoot => "boot",
        };
        lines.push(format!("{when:<8} {}: {}", step.id, step.what));
        if let Action::FirstBoot { job, .. } = &step.action {
            lines.extend(job.steps.iter().map(first_boot));
            if job.report {
                let mut line = "         reports its first start to the console".to_owned();
                if !plan.consoles.is_empty() {
                    line.push_str(&format!(", also at {}", plan.consoles.join(", ")));
                }
                lines.push(line);
            }
            lines.push(format!(
                "         then {}",
                match job.end {
                    FirstBootEnd::None => "stay up",
                    FirstBootEnd::Restart => "restart",
                    FirstBootEnd::Shutdown => "shut down",
                }
            ));
        }
    }
    for note in &plan.notes {
        lines.push(format!("note     {note}"));
    }
    if plan.after == AfterApply::RestartForFirstBoot {
        lines.push("after    restart into first boot".into());
    }
    lines
}

fn first_boot(step: &FirstBootStep) -> String {
    let what = match &step.action {
        FirstBootAction::Network(nic) => {
            format!(
                "card {} gets {}",
                nic.mac,
                super::network::describe(&nic.config)
            )
        }
        FirstBootAction::User(user) => format!("account {}", user.name),
        FirstBootAction::Join { .. } => "join the domain, restart".into(),
        FirstBootAction::InstallDrivers => "install the drivers".into(),
        FirstBootAction::Run { command, .. } => format!("run {command}"),
    };
    format!("         {}: {what}", step.id)
}
