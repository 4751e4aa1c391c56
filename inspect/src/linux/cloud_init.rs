//! cloud-init: checks if it runs at a start, and how it would change an existing name, addresses
//! and accounts.
//!
//! It merges its files as dictionaries: `cloud.cfg`, then `cloud.cfg.d/*.cfg` by name, then the
//! kernel's arguments, then user-data. Later sources override earlier ones, and keys of a single
//! source stay.

use super::tree::Tree;
use template::findings::{CloudInit, Setting};
use template::yaml::{self, Node};

const FOLDER: &str = "/etc/cloud/cloud.cfg.d";

/// Our file; files that sort after it override it.
const OURS: &str = "zzz-diskcast.cfg";

/// First words of a file that diskcast wrote.
const MARK: &str = "# Written by diskcast";

/// Modules that set a host name.
const NAME_MODULES: [&str; 2] = ["set_hostname", "set-hostname"];

/// One source of settings.
struct Source {
    place: String,
    node: Node,
}

/// State of cloud-init on a system; `None` if it is not installed.
pub(super) fn inspect(tree: &Tree) -> Option<CloudInit> {
    if !tree.has_any(&["/usr/bin/cloud-init", "/usr/local/bin/cloud-init"])
        || !tree.has("/etc/cloud/cloud.cfg")
    {
        return None;
    }
    let mut found = CloudInit::default();
    let arguments = kernel_arguments(tree);
    found.disabled_by = disabled_by(tree, &arguments);
    let mut system = Vec::new();
    let names = tree.list(FOLDER);
    let fragments = names.iter().filter(|name| name.ends_with(".cfg"));
    let paths = std::iter::once("/etc/cloud/cloud.cfg".to_owned())
        .chain(fragments.map(|name| format!("{FOLDER}/{name}")));
    for path in paths {
        let text = tree.text(&path).unwrap_or_default();
        // Files of an earlier deployment are replaced by this one.
        if !text.starts_with(MARK) {
            read(&text, path, &mut system, &mut found.unknown);
        }
    }
    let mut user_data = Vec::new();
    for (place, text) in user_data_texts(tree, &system) {
        if !text.contains(MARK) {
            cloud_config(&text, place, &mut user_data, &mut found.unknown);
        }
    }
    let after_ours = |source: &&Source| {
        source
            .place
            .strip_prefix(FOLDER)
            .and_then(|name| name.strip_prefix('/'))
            .is_some_and(|name| name > OURS)
    };
    for source in system.iter().filter(after_ours).chain(&user_data) {
        settings(source, &mut found.stronger);
    }
    for (place, argument) in &arguments {
        if argument.starts_with("ip=")
            || argument.starts_with("network-config=")
            || argument == "cc:"
        {
            found.stronger.push(Setting {
                place: place.clone(),
                key: argument.split('=').next().unwrap_or_default().to_owned(),
                value: String::new(),
            });
        }
    }
    seed_loses(tree, &system, &arguments, &mut found);
    accounts(&system, &user_data, &mut found.accounts);
    found.accounts_made = tree.list("/var/lib/cloud/instances").iter().any(|id| {
        let semaphores = format!("/var/lib/cloud/instances/{id}/sem");
        tree.has_any(&[
            &format!("{semaphores}/config_users_groups"),
            &format!("{semaphores}/config_users-groups"),
        ])
    });
    Some(found)
}

fn read(text: &str, place: String, sources: &mut Vec<Source>, unknown: &mut Vec<String>) {
    match yaml::read(text) {
        Ok(Some(node)) => sources.push(Source { place, node }),
        Ok(None) => {}
        Err(error) => unknown.push(format!("{place}: {error}")),
    }
}

/// Reads user-data as cloud-config; user-data of another kind can do anything and is recorded as
/// unknown.
fn cloud_config(text: &str, place: String, sources: &mut Vec<Source>, unknown: &mut Vec<String>) {
    if text.trim().is_empty() {
        return;
    }
    if text.trim_start().starts_with("#cloud-config") {
        read(text, place, sources, unknown);
    } else {
        unknown.push(format!("{place}: it is no plain #cloud-config"));
    }
}

/// User-data on the system itself, with its path or key.
fn user_data_texts(tree: &Tree, system: &[Source]) -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for source in system {
        for keys in [
            ["datasource", "None", "userdata_raw"],
            ["datasource", "NoCloud", "user-data"],
        ] {
            if let Some(text) = source.node.at(&keys).and_then(Node::text) {
                texts.push((
                    format!("{} ({})", source.place, keys.join(".")),
                    text.to_owned(),
                ));
            }
        }
    }
    let mut files = vec![
        "/var/lib/cloud/seed/nocloud/user-data",
        "/var/lib/cloud/seed/nocloud-net/user-data",
    ];
    // In this case cloud-init uses the cached instance and does not look for a source again.
    if cached_for_good(tree, system).is_some() {
        files.push("/var/lib/cloud/instance/user-data.txt");
    }
    for path in files {
        if let Some(text) = tree.text(path) {
            texts.push((path.to_owned(), text));
        }
    }
    texts
}

/// Reason why cloud-init keeps the master's instance without a check of the machine.
fn cached_for_good(tree: &Tree, system: &[Source]) -> Option<String> {
    if !tree.has("/var/lib/cloud/instance/obj.pkl") {
        return None;
    }
    let manual = "/var/lib/cloud/instance/manual-clean";
    if tree.has(manual) {
        return Some(format!(
            "{manual} is there, so it keeps the master's source"
        ));
    }
    let by_file = system.iter().rev().find_map(|source| {
        let value = source.node.get("manual_cache_clean")?.truth();
        Some((value == Some(true), &source.place))
    });
    match by_file {
        Some((true, place)) => Some(format!(
            "{place} has manual_cache_clean, so it keeps the master's source"
        )),
        _ => None,
    }
}

/// Settings that would override a name, addresses or accounts.
fn settings(source: &Source, found: &mut Vec<Setting>) {
    let mut add = |key: &str, value: &str| {
        found.push(Setting {
            place: source.place.clone(),
            key: key.to_owned(),
            value: value.to_owned(),
        });
    };
    if let Some(keeps) = source.node.get("preserve_hostname")
        && keeps.truth() != Some(true)
    {
        add("preserve_hostname", "");
    }
    if let Some(manages) = source.node.get("manage_etc_hosts")
        && manages.truth() != Some(false)
    {
        add("manage_etc_hosts", "");
    }
    if let Some(network) = source.node.get("network")
        && network.get("config").and_then(Node::text) != Some("disabled")
    {
        add("network", "");
    }
    for name in users(source) {
        add("users", &name);
    }
}

/// Names of the accounts that a source lists.
fn users(source: &Source) -> Vec<String> {
    let listed = source
        .node
        .get("users")
        .map(Node::items)
        .unwrap_or_default();
    let single = source.node.get("user");
    listed
        .iter()
        .chain(single)
        .filter_map(|user| user.text().or_else(|| user.get("name")?.text()))
        .filter(|name| *name != "default")
        .map(str::to_owned)
        .collect()
}

fn accounts(system: &[Source], user_data: &[Source], found: &mut Vec<String>) {
    let all = || system.iter().chain(user_data);
    // Lists are not merged: only the last one counts.
    let list = all()
        .rev()
        .find(|source| source.node.get("users").is_some());
    if let Some(list) = list {
        found.extend(users(list));
        let default = list
            .node
            .get("users")
            .map(Node::items)
            .unwrap_or_default()
            .iter()
            .any(|user| user.text() == Some("default"));
        let name = all().rev().find_map(|source| {
            let user = source.node.at(&["system_info", "default_user", "name"])?;
            user.text().map(str::to_owned)
        });
        found.extend(name.filter(|_| default));
    }
    found.sort();
    found.dedup();
}

fn disabled_by(tree: &Tree, arguments: &[(String, String)]) -> Option<String> {
    for (place, argument) in arguments {
        match argument.as_str() {
            "cloud-init=disabled" => return Some(format!("{argument} in {place}")),
            "cloud-init=enabled" => return None,
            _ => {}
        }
    }
    // The order of cloud-init's own generator: a file that enables it wins.
    let file = "/etc/cloud/cloud-init.disabled";
    if tree.has_link(file) && !tree.has_link("/etc/cloud/cloud-init.enabled") {
        return Some(file.into());
    }
    for unit in [
        "cloud-init.target",
        "cloud-init-local.service",
        "cloud-init.service",
    ] {
        if tree.is_masked(unit) {
            return Some(format!("{unit}, which is masked"));
        }
    }
    let policy = tree.text("/etc/cloud/ds-identify.cfg").unwrap_or_default();
    let policy = yaml::read(&policy).ok().flatten();
    let policy = policy.as_ref().and_then(|node| node.get("policy")?.text());
    let told = arguments
        .iter()
        .find_map(|(_, argument)| argument.strip_prefix("ci.di.policy="));
    (told.or(policy) == Some("disabled")).then(|| "the policy of ds-identify".into())
}

/// Finds the reasons why a NoCloud seed, requested in a file that sorts last, would have no effect.
fn seed_loses(
    tree: &Tree,
    system: &[Source],
    arguments: &[(String, String)],
    found: &mut CloudInit,
) {
    let mut whole = Vec::new();
    whole.extend(cached_for_good(tree, system));
    for source in system {
        if source.node.at(&["datasource", "NoCloud"]).is_some() {
            whole.push(format!("{} has a NoCloud source of its own", source.place));
        }
        if source.place.as_str() > format!("{FOLDER}/{OURS}").as_str()
            && source.node.get("datasource_list").is_some()
        {
            whole.push(format!("{} names the sources after ours", source.place));
        }
        if source.node.get("network").is_some() {
            found
                .network_loses
                .push(format!("{} says network:, which counts more", source.place));
        }
    }
    let identify = tree.text("/etc/cloud/ds-identify.cfg").unwrap_or_default();
    if let Ok(Some(node)) = yaml::read(&identify)
        && node.get("datasource").is_some()
    {
        whole.push("/etc/cloud/ds-identify.cfg names the source".into());
    }
    for (place, argument) in arguments {
        if ["ds=", "ci.ds=", "ci.datasource="]
            .iter()
            .any(|key| argument.starts_with(key))
        {
            whole.push(format!("{argument} in {place} names the source"));
        }
        if argument.starts_with("network-config=") || argument.starts_with("ip=") {
            found
                .network_loses
                .push(format!("{argument} in {place} counts more"));
        }
    }
    let upgraded = "/var/lib/cloud/data/upgraded-network";
    if tree.has(upgraded) {
        found.network_loses.push(format!(
            "{upgraded} is there, and addresses are left alone because of it"
        ));
    }
    let stages = [
        "cloud_init_modules",
        "cloud_config_modules",
        "cloud_final_modules",
    ];
    let names = |node: &Node| {
        let name = node.text().or_else(|| node.items().first()?.text());
        name.is_some_and(|name| NAME_MODULES.contains(&name))
    };
    let sets_names = stages.iter().any(|stage| {
        let list = system
            .iter()
            .rev()
            .find_map(|source| source.node.get(stage));
        list.is_some_and(|list| list.items().iter().any(names))
    });
    if !sets_names {
        found
            .name_loses
            .push("its module set_hostname is in no stage".into());
    }
    found.name_loses.extend(whole.iter().cloned());
    found.network_loses.extend(whole);
}

/// Arguments with which the kernel is started, as far as the root file system shows, each with its
/// file.
fn kernel_arguments(tree: &Tree) -> Vec<(String, String)> {
    let mut files: Vec<String> = [
        "/etc/default/grub",
        "/etc/kernel/cmdline",
        "/boot/grub/grub.cfg",
        "/boot/grub2/grub.cfg",
    ]
    .map(str::to_owned)
    .into();
    for (folder, end) in [
        ("/etc/default/grub.d", ".cfg"),
        ("/boot/loader/entries", ".conf"),
    ] {
        let names = tree.list(folder);
        let names = names.iter().filter(|name| name.ends_with(end));
        files.extend(names.map(|name| format!("{folder}/{name}")));
    }
    let mut arguments = Vec::new();
    for path in files {
        let Some(text) = tree.text(&path) else {
            continue;
        };
        for argument in super::parse::kernel_arguments(&text) {
            let found = (path.clone(), argument);
            if !arguments.contains(&found) {
                arguments.push(found);
            }
        }
    }
    arguments
}
