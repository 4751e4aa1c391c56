//! Summary page: every choice of a template, including defaults, in the order of the guide.

use super::{DriverMatch, JoinMethod, LinuxMethod, NetworkMode, SidChoice, Template, group_name};
use crate::values::{NicChoice, Word};
use facts::disk_rule::DiskRule;
use facts::order::Grow;

/// One line of the summary.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Line {
    /// Name of the choice: `Master image`.
    pub what: &'static str,
    /// The choice as text. It names the source of a secret, never the secret.
    pub value: String,
    /// The template does not set it.
    pub default: bool,
}

/// Every choice of a template, in the order of the guide: image, disk and partitions, users, names,
/// membership, addresses, SID, files, programs, drivers, end action; then the transmission.
pub fn summary(template: &Template) -> Vec<Line> {
    let mut page = Page(Vec::new());
    page.optional("Template", template.name.as_deref(), "named by its file");
    page.optional(
        "Master image",
        template.image.as_deref(),
        "given when it is deployed",
    );
    let share = match (&template.share_user, &template.share_password) {
        (Some(user), Some(password)) => Some(format!("{user}, password from {password}")),
        (user, _) => user.clone(),
    };
    page.optional("Account of its share", share.as_deref(), "none");
    page.optional(
        "Target disk",
        template.disk.as_ref().map(DiskRule::to_string).as_deref(),
        "first internal disk",
    );
    let chosen: Vec<String> = template.partitions.iter().map(u32::to_string).collect();
    page.add(
        "Partitions",
        match (chosen.join(", "), template.onto) {
            (all, _) if all.is_empty() => "all of the image".into(),
            (some, None) => format!("{some}; the others are cleared"),
            (one, Some(onto)) => {
                format!("{one} of the image onto {onto} of the disk; the others stay")
            }
        },
        template.partitions.is_empty(),
    );
    page.add(
        "Free space",
        match template.grow {
            None => "partitions keep their size".into(),
            Some(Grow::Last) => "the last partition grows".into(),
            Some(Grow::Number(number)) => format!("partition {number} grows"),
        },
        template.grow.is_none(),
    );
    users(&mut page, template);
    identity(&mut page, template);
    network(&mut page, template);
    systems(&mut page, template);
    content(&mut page, template);
    let first_start = &template.first_start;
    let mut report = match first_start.report {
        Some(true) => "reported to this console".to_owned(),
        Some(false) => "not reported".to_owned(),
        None => "reported to this console where something runs at it".to_owned(),
    };
    if !first_start.console.is_empty() {
        let also: Vec<String> = first_start
            .console
            .iter()
            .map(ToString::to_string)
            .collect();
        report.push_str(&format!(", also at {}", also.join(", ")));
    }
    page.add(
        "First start",
        report,
        *first_start == super::FirstStart::default(),
    );
    page.add(
        "End action",
        match template.end {
            super::End::Shutdown => "shut down",
            super::End::Restart => "restart",
            super::End::None => "nothing",
        }
        .into(),
        template.end == super::End::default(),
    );
    page.optional("Start", template.start.as_deref(), "all (all are ready)");
    page.optional("Rate", template.rate.as_deref(), "not capped");
    page.add(
        "Reuse",
        template.reuse.as_str().into(),
        template.reuse == super::Reuse::default(),
    );
    page.add(
        "Pace",
        template.pace.as_str().into(),
        template.pace == super::Pace::default(),
    );
    page.optional("Stall limit", template.stall_limit.as_deref(), "10m");
    page.optional("Time limit", template.time_limit.as_deref(), "none");
    page.add(
        "Image with holes",
        match template.accept_holes {
            true => "taken",
            false => "refused",
        }
        .into(),
        !template.accept_holes,
    );
    page.0
}

struct Page(Vec<Line>);

impl Page {
    fn add(&mut self, what: &'static str, value: String, default: bool) {
        self.0.push(Line {
            what,
            value,
            default,
        });
    }

    fn optional(&mut self, what: &'static str, value: Option<&str>, otherwise: &str) {
        self.add(what, value.unwrap_or(otherwise).to_owned(), value.is_none());
    }
}

fn users(page: &mut Page, template: &Template) {
    if template.users.is_empty() {
        page.add("Local users", "as the image has them".into(), true);
    }
    for user in &template.users {
        let groups: Vec<&str> = user.groups.iter().map(group_name).collect();
        let mut line = user.name.clone();
        if let Some(full_name) = &user.full_name {
            line.push_str(&format!(" ({full_name})"));
        }
        if !groups.is_empty() {
            line.push_str(&format!(", in {}", groups.join(", ")));
        }
        match &user.password {
            Some(password) => line.push_str(&format!(", password from {password}")),
            None => line.push_str(", without a password"),
        }
        line.push_str(&format!(", {} if it is there", user.on_exists.word()));
        page.add("Local user", line, false);
    }
}

fn identity(page: &mut Page, template: &Template) {
    let identity = &template.identity;
    let mut names = match &identity.hostname {
        Some(pattern) if pattern.numbered() => format!("{pattern}, from {}", identity.start),
        Some(pattern) => pattern.to_string(),
        None if identity.list.is_some() => "from the list".into(),
        None => "as the image has it".into(),
    };
    if identity.names() && identity.case != super::Case::Keep {
        names.push_str(&format!(", {} case", identity.case.word()));
    }
    page.add("Computer names", names, !identity.names());
    page.optional("List of machines", identity.list.as_deref(), "none");
    let membership = &template.membership;
    let line = match (&membership.workgroup, &membership.domain) {
        (Some(workgroup), _) => format!("workgroup {workgroup}"),
        (None, Some(domain)) => {
            let mut line = format!("domain {domain}");
            if let Some(ou) = &membership.ou {
                line.push_str(&format!(", in {ou}"));
            }
            match membership.method {
                JoinMethod::Blob => line.push_str(&format!(
                    ", by NAME.blob of {}",
                    membership.blobs.as_deref().unwrap_or("?")
                )),
                JoinMethod::Samba => line.push_str(", joined by Samba on the console"),
            }
            if let Some(credential) = &membership.credential {
                line.push_str(&format!(", credential from {credential}"));
            }
            line
        }
        (None, None) => "as the image has it".into(),
    };
    page.add(
        "Workgroup or domain",
        line,
        membership == &super::Membership::default(),
    );
}

fn network(page: &mut Page, template: &Template) {
    let network = &template.network;
    let prefix = network
        .prefix
        .map(|bits| format!("/{bits}"))
        .unwrap_or_default();
    let line = match (network.mode, &network.range) {
        (NetworkMode::Keep, _) => "as the image has them".into(),
        (NetworkMode::Dhcp, _) => "from DHCP".into(),
        (NetworkMode::Static, Some(range)) => {
            format!("{range}{prefix} ({} addresses)", range.count())
        }
        (NetworkMode::Static, None) => format!("from the list, {prefix}"),
    };
    page.add("IP addresses", line, network.mode == NetworkMode::Keep);
    if network.mode == NetworkMode::Static {
        let gateway = network.gateway.map(|address| address.to_string());
        page.optional("Gateway", gateway.as_deref(), "none");
    }
    if network.mode != NetworkMode::Keep {
        let dns: Vec<String> = network.dns.iter().map(ToString::to_string).collect();
        let dns = (!dns.is_empty()).then(|| dns.join(", "));
        page.optional("DNS servers", dns.as_deref(), "none given");
        let search = (!network.search.is_empty()).then(|| network.search.join(", "));
        page.optional("DNS search list", search.as_deref(), "none given");
        page.add(
            "Network card",
            match network.nic {
                NicChoice::Boot => "the one the machine is deployed through".into(),
                NicChoice::All => "every one".into(),
                NicChoice::Mac(mac) => mac.to_string(),
            },
            network.nic == NicChoice::default(),
        );
    }
    page.optional("DNS suffix", network.suffix.as_deref(), "none given");
}

fn systems(page: &mut Page, template: &Template) {
    let windows = template.windows.clone().unwrap_or_default();
    let defaults = super::Windows::default();
    page.add(
        "Windows SID",
        match windows.sid {
            SidChoice::Keep if windows.allow_duplicate_sid => {
                "as the image has it, duplicates allowed".into()
            }
            SidChoice::Keep => "as the image has it".into(),
            SidChoice::Auto if !template.personalises() => {
                "as the image has it, like everything of its system".into()
            }
            SidChoice::Auto => "new, by Windows Setup or rewritten offline".into(),
            SidChoice::Sysprep => "new, by Windows Setup (generalised image)".into(),
            SidChoice::Rewrite => "new, rewritten offline".into(),
        },
        windows.sid == defaults.sid && !windows.allow_duplicate_sid,
    );
    page.add(
        "Windows identities",
        if windows.regenerate_ids {
            "new"
        } else {
            "as the image has them"
        }
        .into(),
        windows.regenerate_ids == defaults.regenerate_ids,
    );
    if windows.discard_hibernation {
        page.add(
            "Windows hibernation",
            "a session in the image is thrown away".into(),
            false,
        );
    }
    if let Some(locale) = &windows.locale {
        page.add("Windows locale", locale.clone(), false);
    }
    if let Some(partition) = windows.partition {
        page.add("Windows partition", partition.to_string(), false);
    }
    let linux = template.linux.clone().unwrap_or_default();
    let defaults = super::Linux::default();
    page.add(
        "Linux method",
        match linux.method {
            LinuxMethod::Auto => "cloud-init where the image has it, files otherwise".into(),
            other => other.as_str().into(),
        },
        linux.method == defaults.method,
    );
    let fresh: Vec<&str> = linux.regenerate.iter().map(|one| one.as_str()).collect();
    page.add(
        "Linux identities",
        if fresh.is_empty() {
            "as the image has them".into()
        } else {
            format!("new {}", fresh.join(", "))
        },
        linux.regenerate == defaults.regenerate,
    );
    if let Some(partition) = linux.partition {
        page.add("Linux partition", partition.to_string(), false);
    }
}

fn content(page: &mut Page, template: &Template) {
    if template.copies.is_empty() {
        page.add("Files", "none".into(), true);
    }
    for copy in &template.copies {
        let mut line = format!("{} to {}", copy.from, copy.to);
        if copy.execute {
            line.push_str(", then run");
            if !copy.arguments.is_empty() {
                line.push_str(&format!(" with {}", copy.arguments));
            }
        }
        page.add("File", line, false);
    }
    if template.runs.is_empty() {
        page.add("Programs", "none".into(), true);
    }
    for run in &template.runs {
        let line = format!(
            "{}, at most {}, then {}",
            run.command,
            run.timeout,
            match run.on_error {
                crate::step::OnError::Stop => "stop if it fails",
                crate::step::OnError::Continue => "go on if it fails",
            }
        );
        page.add("Program", line, false);
    }
    if template.drivers.is_empty() {
        page.add("Drivers", "none".into(), true);
    }
    for driver in &template.drivers {
        let mut line = driver.path.clone();
        if driver.boot_critical {
            line.push_str(", needed to start");
        }
        line.push_str(match driver.when {
            DriverMatch::Auto => ", where the machine has such a device",
            DriverMatch::Always => ", everywhere",
        });
        page.add("Driver", line, false);
    }
}
