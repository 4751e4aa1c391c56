//! Steps of a Windows system.
//!
//! A generalised image gets an answer file, because Windows Setup would undo earlier edits. Any
//! other image is edited offline, and first boot does the rest. Disk drivers are installed offline
//! in both. Untested on real Windows.

use super::{Draft, drivers, files, identity, network, obstacles, sid, storage, windows_title};
use crate::findings::{Arch, WindowsFindings, WindowsGroup};
use crate::names::{NameRules, check};
use crate::paths::Shape;
use crate::plan::join_blob_name;
use crate::schema::{JoinMethod, User, Windows, group_name, password_name};
use crate::step::{Action, Answers, FirstBootAction, Group, Nic, OnExists, SecretName, Step, When};

/// Account names that Windows reserves.
const NO_ACCOUNTS: [&str; 4] = ["SYSTEM", "LOCAL SERVICE", "NETWORK SERVICE", "NONE"];
/// First version with `djoin /requestODJ`, and the first that runs the first-boot program: Windows
/// 7.
const WINDOWS_7: (u32, u32) = (6, 1);

pub(super) fn plan(draft: &mut Draft<'_>, windows: &WindowsFindings) {
    let title = windows_title(windows);
    let settings = draft.template().windows.clone().unwrap_or_default();
    if !obstacles::passes(
        draft,
        &title,
        windows.partition,
        &windows.obstacles,
        settings.discard_hibernation,
    ) {
        return;
    }
    if settings.discard_hibernation
        && obstacles::hibernated(draft, windows.partition, &windows.obstacles)
    {
        draft.offline(
            "windows.hibernation",
            "the hibernated session is thrown away",
            Action::WindowsDiscardHibernation {
                partition: windows.partition,
            },
        );
    }
    draft.grow();
    disks(draft, windows, &title);
    let name = draft.hostname().map(str::to_owned);
    if let Some(Err(message)) = name.as_deref().map(|name| check(name, NameRules::Windows)) {
        draft.refuse(format!("identity.hostname: {message}"));
    }
    let nics = network::nics(draft);
    let blob = membership(draft, windows, &title, name.as_deref());
    let users = accounts(draft, windows, &title);
    let new_sid = sid::choice(draft, windows, &settings, &title);
    if windows.generalised {
        answers(draft, windows, &settings, &title, name, nics, users, blob);
    } else {
        edits(draft, windows, &settings, name, nics);
        sid::rewrite(draft, windows, new_sid);
        if let Some(blob) = blob {
            draft.first_boot("join", FirstBootAction::Join { blob });
        }
        for (number, user) in users {
            draft.first_boot(format!("user.{number}"), FirstBootAction::User(user));
        }
    }
    files::copies(draft, Shape::Windows, windows.partition);
    files::programs(draft, Shape::Windows);
    if !draft.job.is_empty() && (windows.arch != Arch::X64 || windows.version < WINDOWS_7) {
        let steps: Vec<&str> = draft.job.iter().map(|step| step.id.as_str()).collect();
        let steps = steps.join(", ");
        draft.refuse(format!(
            "{title}: the first-boot program needs 64-bit Windows 7 or later for Intel, so nothing can be left to first boot \
             ({steps}); leave that out of the template"
        ));
    }
}

/// Plans the drivers that the machine needs to reach its disk.
fn disks(draft: &mut Draft<'_>, windows: &WindowsFindings, title: &str) {
    let covered = drivers::plan(draft, windows);
    let machine = draft.request.machine;
    if machine.pci.is_empty() && machine.model.is_none() {
        draft.note("the machine's disk controllers are not known; the image's disk drivers stay as they are");
        return;
    }
    let controllers = storage::controllers(machine, windows);
    let mut services: Vec<String> = Vec::new();
    let mut critical = Vec::new();
    let mut unserved = Vec::new();
    for controller in &controllers {
        if controller
            .device
            .is_some_and(|device| covered.contains(&device))
        {
            continue;
        }
        let found = controller.services(windows);
        if !windows.driver_database {
            for entry in controller.critical(&found) {
                if !critical.contains(&entry) {
                    critical.push(entry);
                }
            }
        }
        if found.is_empty() {
            unserved.push(controller);
        }
        for service in found {
            if !services.contains(&service) {
                services.push(service);
            }
        }
    }
    // The controller of the target disk must have a driver. When that controller is not known, one
    // with a driver may be it.
    let on_target = |controller: &&storage::Controller| {
        controller.device.is_some_and(|device| device.target_disk)
    };
    let target_known = controllers.iter().any(|controller| on_target(&controller));
    let none_served = unserved.len() == controllers.len();
    for controller in unserved {
        if on_target(&controller) || (!target_known && none_served) {
            draft.refuse(format!(
                "{title}: it has no driver for this machine's {}{}; add the vendor's package as a [[driver]] with boot_critical = true",
                controller.title,
                known_gap(controller, windows),
            ));
        } else {
            draft.note(format!(
                "{title} has no driver for this machine's {}; disks on it are not seen until one is installed",
                controller.title
            ));
        }
    }
    if !services.is_empty() {
        draft.offline(
            "windows.storage",
            format!("these disk drivers start at boot: {}", services.join(", ")),
            Action::WindowsStorage {
                partition: windows.partition,
                services,
                critical_devices: critical,
            },
        );
    }
}

/// The reason why a Windows lacks the driver, for messages.
fn known_gap(controller: &storage::Controller, windows: &WindowsFindings) -> &'static str {
    let class = controller.device.map_or(0, |device| device.class >> 8);
    match (class, windows.version) {
        (0x0108, version) if version < (6, 2) => {
            " (Windows 7 came without NVMe, KB2990941 brought it)"
        }
        (0x0106, version) if version < (6, 0) => {
            " (XP came without AHCI; IDE mode in the firmware's setup is another way)"
        }
        _ if controller.is_foreign() => " (Windows comes with none for it)",
        _ => "",
    }
}

/// Refuses changes of membership that this master does not allow. Returns the name of the join
/// blob.
fn membership(
    draft: &mut Draft<'_>,
    windows: &WindowsFindings,
    title: &str,
    name: Option<&str>,
) -> Option<SecretName> {
    let wanted = &draft.template().membership;
    let changes = name.is_some() || wanted.workgroup.is_some() || wanted.domain.is_some();
    if windows.is_domain_controller() && changes {
        draft.refuse(format!(
            "{title}: it is a domain controller, whose name and domain cannot be changed by a copy; demote the master and capture again"
        ));
    } else if let Some(domain) = &windows.domain
        && !windows.generalised
    {
        if changes {
            draft.refuse(format!(
                "{title}: the master is a member of {domain}, and a copy of its trust would be void under another name; move the \
                 master into a workgroup and capture again"
            ));
        } else {
            draft.note(format!("every copy shares the master's account in {domain}, and loses it when one of them renews it"));
        }
    }
    let domain = wanted.domain.as_ref()?;
    if let Some(edition) = windows
        .edition
        .as_deref()
        .filter(|edition| edition.starts_with("Core"))
    {
        draft.refuse(format!(
            "{title}: this edition ({edition}, Home) cannot join a domain; use a Pro, Enterprise or Education master"
        ));
    }
    if windows.version < WINDOWS_7 {
        draft.refuse(format!(
            "{title}: joining {domain} by a blob needs Windows 7 or later"
        ));
    }
    match wanted.method {
        JoinMethod::Blob => draft.note(format!(
            "it joins {domain} by the blob of its name, which holds the password of its account there and lies on the disk until the \
             machine has joined"
        )),
        JoinMethod::Samba => draft.note(format!(
            "the console makes its account in {domain}; one of that name that is there already is taken over, and a machine that uses it \
             is no longer a member"
        )),
    }
    Some(join_blob_name())
}

/// Accounts of the template that the image can have, with their numbers.
fn accounts(
    draft: &mut Draft<'_>,
    windows: &WindowsFindings,
    title: &str,
) -> Vec<(usize, crate::step::User)> {
    let mut accounts = Vec::new();
    for (number, user) in (1usize..).zip(&draft.template().users) {
        if let Some(fault) =
            account_fault(user, draft.request.binding.and_then(|b| b.name.as_deref()))
        {
            draft.refuse(format!("user {number}: {fault}"));
        }
        let taken = windows
            .groups
            .iter()
            .map(|group| group.name.as_str())
            .chain(NO_ACCOUNTS)
            .find(|name| name.to_lowercase() == user.name.to_lowercase());
        if let Some(name) = taken {
            draft.refuse(format!(
                "user {number}: {name} is the name of a group or of Windows' own, and cannot be an account; choose another name"
            ));
        }
        let there = windows
            .accounts
            .iter()
            .any(|account| account.to_lowercase() == user.name.to_lowercase());
        match (there, user.on_exists) {
            (true, OnExists::Skip) => {
                draft.note(format!("account {} is there already and stays as it is", user.name));
                continue;
            }
            (true, OnExists::Fail) => draft.refuse(format!(
                "user {number}: {title} has an account {} already; use on_exists = \"update\" or \"skip\"",
                user.name
            )),
            _ => {}
        }
        let mut groups = Vec::new();
        for wanted in &user.groups {
            match group(wanted, windows) {
                Some(group) => groups.push(group),
                None => draft.refuse(format!(
                    "user {number}: {title} has no group {}; it has {}",
                    group_name(wanted),
                    names_of(&windows.groups)
                )),
            }
        }
        accounts.push((
            number,
            crate::step::User {
                name: user.name.clone(),
                full_name: user.full_name.clone(),
                groups,
                password: user.password.as_ref().map(|_| password_name(&user.name)),
                on_exists: user.on_exists,
            },
        ));
    }
    accounts
}

/// A group of an account as the image has it; `None` when the image has no group of that name.
/// Windows Setup knows groups only by name, so on a generalised image a well-known group gets its
/// name in the language of the master.
fn group(wanted: &Group, windows: &WindowsFindings) -> Option<Group> {
    let id = match wanted {
        Group::Administrators => 544,
        Group::Users => 545,
        Group::PowerUsers => 547,
        Group::RemoteDesktop => 555,
        // The groups of the image are not known.
        Group::Named(_) if windows.groups.is_empty() => return Some(wanted.clone()),
        Group::Named(name) => {
            let mut groups = windows.groups.iter();
            let found = groups.find(|group| group.name.to_lowercase() == name.to_lowercase());
            return found.map(|group| Group::Named(group.name.clone()));
        }
    };
    let own = windows.groups.iter().find(|group| group.id == id);
    match own {
        Some(own) if windows.generalised => Some(Group::Named(own.name.clone())),
        None if !windows.groups.is_empty() => None,
        _ => Some(wanted.clone()),
    }
}

fn names_of(groups: &[WindowsGroup]) -> String {
    let names: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
    names.join(", ")
}

/// Checks an account name by the rules of `NetUserAdd`.
fn account_fault(user: &User, computer: Option<&str>) -> Option<String> {
    let name = &user.name;
    if name.chars().count() > 20 {
        return Some(format!(
            "{name} has {} characters, Windows takes 20",
            name.chars().count()
        ));
    }
    if name.ends_with('.') || name.chars().all(|c| matches!(c, '.' | ' ')) {
        return Some(format!(
            "{name:?} ends with a dot or has nothing but dots and spaces"
        ));
    }
    computer
        .filter(|computer| computer.eq_ignore_ascii_case(name))
        .map(|_| {
            format!(
                "{name} is the name of the machine, and Windows does not take it for an account too"
            )
        })
}

/// Offline edits of an image that is not generalised: name, workgroup, addresses and identities.
fn edits(
    draft: &mut Draft<'_>,
    windows: &WindowsFindings,
    settings: &Windows,
    name: Option<String>,
    nics: Vec<Nic>,
) {
    let partition = windows.partition;
    let suffix = draft.template().network.suffix.clone();
    if name.is_some() || suffix.is_some() {
        let dns_name = name.unwrap_or_else(|| windows.computer_name.clone());
        draft.offline(
            "windows.name",
            match &suffix {
                Some(suffix) => format!("its name is {dns_name}.{suffix}"),
                None => format!("its name is {dns_name}"),
            },
            Action::WindowsName {
                partition,
                name: dns_name.to_ascii_uppercase(),
                dns_name,
                suffix,
            },
        );
    }
    if let Some(workgroup) = &draft.template().membership.workgroup {
        draft.offline(
            "windows.workgroup",
            format!("its workgroup is {workgroup}"),
            Action::WindowsWorkgroup {
                partition,
                name: workgroup.clone(),
            },
        );
    }
    for (number, nic) in (1usize..).zip(nics) {
        let known = windows.interfaces.iter().find(|interface| {
            interface
                .mac
                .as_deref()
                .is_some_and(|mac| mac.eq_ignore_ascii_case(&nic.mac))
        });
        match known {
            Some(interface) => draft.offline(
                format!("windows.tcpip.{number}"),
                format!(
                    "card {} ({}) gets {}",
                    nic.mac,
                    interface.name,
                    network::describe(&nic.config)
                ),
                Action::WindowsTcpip {
                    partition,
                    interface: interface.guid.clone(),
                    config: nic.config,
                },
            ),
            // Windows uses DHCP on any new card.
            None if network::is_plain_dhcp(&nic.config) => {}
            None => draft.first_boot(format!("network.{number}"), FirstBootAction::Network(nic)),
        }
    }
    let seed = draft.seed();
    if settings.regenerate_ids {
        draft.offline(
            "windows.ids",
            "MachineGuid, update, telemetry and DHCPv6 identities are drawn anew",
            Action::WindowsIdentifiers {
                partition,
                machine_guid: identity::machine_guid(&seed),
            },
        );
    }
    if settings.locale.is_some() {
        draft.note("windows.locale is for generalised images; it is left out");
    }
}

/// Notes and refusals about answer files that the master has already.
fn there_already(draft: &mut Draft<'_>, windows: &WindowsFindings, title: &str) {
    if let Some(file) = &windows.registered_answer_file {
        draft.note(format!(
            "the registry of the image names another answer file, {file}: that is taken out, so that Windows Setup reads ours"
        ));
    }
    let Some(file) = &windows.answer_file else {
        return;
    };
    if let Some(fault) = &file.fault {
        draft.refuse(format!(
            "{title}: its answer file {} cannot be merged with ours: {fault}; remove it on the master and capture again",
            file.path
        ));
        return;
    }
    draft.note(format!(
        "the image has an answer file, {}: ours is merged with it",
        file.path
    ));
    if !file.dropped.is_empty() {
        draft.note(format!(
            "Windows Setup has deleted secrets in it; what needs them is left out: {}",
            file.dropped.join(", ")
        ));
    }
}

/// The answer file of a generalised image.
#[expect(clippy::too_many_arguments, reason = "what was decided above, once")]
fn answers(
    draft: &mut Draft<'_>,
    windows: &WindowsFindings,
    settings: &Windows,
    title: &str,
    name: Option<String>,
    nics: Vec<Nic>,
    users: Vec<(usize, crate::step::User)>,
    join_blob: Option<SecretName>,
) {
    let architecture = match windows.arch {
        Arch::X86 => "x86",
        Arch::X64 => "amd64",
        Arch::Arm64 => "arm64",
        Arch::Other => "",
    };
    if architecture.is_empty() || windows.version < (6, 0) {
        draft.refuse(format!(
            "{title}: it is generalised, and answer files are known for Windows Vista and later on Intel and ARM only; use a \
             master that is not generalised"
        ));
        return;
    }
    if name.is_none() {
        draft.note("the template gives no name: Windows Setup draws one");
    }
    if users.is_empty() {
        draft.note("the template has no user: Windows Setup asks for one on the screen");
    }
    if nics.is_empty() && draft.template().network.suffix.is_some() {
        draft.note("network.suffix is left out: Windows Setup takes it with network.mode = \"dhcp\" or \"static\" only");
    }
    // Setup uses DHCP on every card it finds.
    let nics: Vec<Nic> = nics
        .into_iter()
        .filter(|nic| !network::is_plain_dhcp(&nic.config))
        .collect();
    let mut what: Vec<String> = Vec::new();
    what.extend(name.as_ref().map(|name| format!("name {name}")));
    what.extend(
        nics.iter()
            .map(|nic| format!("card {} gets {}", nic.mac, network::describe(&nic.config))),
    );
    what.extend(
        draft
            .template()
            .membership
            .workgroup
            .as_ref()
            .map(|name| format!("workgroup {name}")),
    );
    what.extend(
        draft
            .template()
            .membership
            .domain
            .as_ref()
            .map(|name| format!("joins {name}")),
    );
    what.extend(
        users
            .iter()
            .map(|(_, user)| format!("account {}", user.name)),
    );
    what.extend(
        settings
            .locale
            .as_ref()
            .map(|locale| format!("locale {locale}")),
    );
    if what.is_empty() {
        what.push("nothing but to go on without questions".into());
    }
    there_already(draft, windows, title);
    draft.last.push(Step {
        id: "windows.answers".into(),
        what: format!("Windows Setup is told: {}", what.join(", ")),
        when: When::AnswerFile,
        action: Action::WindowsAnswerFile {
            partition: windows.partition,
            answers: Box::new(Answers {
                architecture: architecture.into(),
                computer_name: name,
                workgroup: draft.template().membership.workgroup.clone(),
                nics,
                users: users.into_iter().map(|(_, user)| user).collect(),
                join_blob,
                locale: settings.locale.clone(),
            }),
        },
    });
}
