//! Implementation of each kind of step on Windows. Safe code: the system is reached through
//! `sys.rs` and through its own programs.

use crate::log::Log;
use crate::sys::{self, Ended};
use firstboot::job::{Group, Network, OnExists, Run, Secret, User};
use firstboot::machine::Outcome;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time limit of Windows' own programs; a longer wait would not help.
const OWN_PROGRAM: Duration = Duration::from_secs(300);
/// Time limit of one `pnputil` run, which may install all drivers of a machine.
const DRIVERS: Duration = Duration::from_secs(3600);
/// First build whose `pnputil` has `/add-driver` (Windows 10 1607).
const NEW_PNPUTIL_BUILD: u32 = 14_393;

const ERROR_NO_MORE_ITEMS: i32 = 259;
const ERROR_SUCCESS_REBOOT_INITIATED: i32 = 1641;
const ERROR_SUCCESS_REBOOT_REQUIRED: i32 = 3010;

pub(crate) fn run(run: &Run, log: &Log) -> Outcome {
    // `/s`: exactly the outer quotes are removed, whatever the command holds.
    let line = format!(
        "\"{}\" /d /s /c \"{}\"",
        system32("cmd.exe").display(),
        run.command
    );
    let limit = Duration::from_secs(u64::from(run.timeout_seconds));
    match execute(&line, limit, log) {
        Ok(Ended::Exit(code)) if run.reboot_codes.contains(&code) => Outcome::DoneRestart,
        Ok(Ended::Exit(code)) if run.ok_codes.contains(&code) => Outcome::Done,
        Ok(Ended::Exit(code)) => {
            Outcome::Failed(format!("exit code {}; its output is in the log", code))
        }
        Ok(Ended::TimedOut) => Outcome::Failed(format!(
            "not at its end after {} s, and was ended with all it started",
            run.timeout_seconds
        )),
        Ok(Ended::Stopping) => Outcome::Interrupted,
        Err(error) => Outcome::Failed(format!("cannot be started: {}", error)),
    }
}

pub(crate) fn install_drivers(folder: &Path, log: &Log) -> Outcome {
    let infs = match inf_files(folder) {
        Ok(infs) => infs,
        Err(error) => return Outcome::Failed(format!("{}: {}", folder.display(), error)),
    };
    if infs.is_empty() {
        log.line("no driver packages here");
        return Outcome::Done;
    }
    let pnputil = system32("pnputil.exe");
    let lines: Vec<String> = if sys::windows_build() >= NEW_PNPUTIL_BUILD {
        let all = folder.join("*.inf");
        vec![format!(
            "\"{}\" /add-driver \"{}\" /subdirs /install",
            pnputil.display(),
            all.display()
        )]
    } else {
        let line = |inf: &PathBuf| format!("\"{}\" -i -a \"{}\"", pnputil.display(), inf.display());
        infs.iter().map(line).collect()
    };
    let mut restart = false;
    for line in lines {
        match execute(&line, DRIVERS, log) {
            // 259: nothing here is newer than the drivers in use, or no device needs it.
            Ok(Ended::Exit(0 | ERROR_NO_MORE_ITEMS)) => {}
            Ok(Ended::Exit(ERROR_SUCCESS_REBOOT_REQUIRED | ERROR_SUCCESS_REBOOT_INITIATED)) => {
                restart = true
            }
            other => return not_ended_well("pnputil", other),
        }
    }
    if restart {
        Outcome::DoneRestart
    } else {
        Outcome::Done
    }
}

/// `.inf` files below a folder; the depth is limited, so that a junction to itself ends.
fn inf_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_path_buf(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                if depth < 8 {
                    folders.push((path, depth + 1));
                }
            } else if path
                .extension()
                .map_or(false, |it| it.eq_ignore_ascii_case("inf"))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

pub(crate) fn join(blob: &Secret, job: &Path, log: &Log) -> Outcome {
    let blob = match blob.value() {
        Some(blob) => blob,
        None => return Outcome::Failed("its blob was wiped already".into()),
    };
    let file = job.with_extension("blob");
    let result = write_blob(&file, blob).and_then(|()| {
        let windows = sys::windows_folder();
        let line = format!(
            "\"{}\" /requestODJ /loadfile \"{}\" /windowspath \"{}\" /localos",
            system32("djoin.exe").display(),
            file.display(),
            windows.display()
        );
        execute(&line, OWN_PROGRAM, log)
    });
    let gone = wipe_file(&file);
    match (result, gone) {
        (_, Err(error)) => {
            Outcome::Failed(format!("{} cannot be wiped: {}", file.display(), error))
        }
        (Ok(Ended::Exit(0)), Ok(())) => Outcome::DoneRestart,
        (other, Ok(())) => not_ended_well("djoin", other),
    }
}

/// Writes the blob in the format of `djoin /provision`: UTF-16 with a byte order mark and a zero at
/// its end.
fn write_blob(path: &Path, blob: &str) -> io::Result<()> {
    let units = std::iter::once(0xFEFF)
        .chain(blob.encode_utf16())
        .chain(std::iter::once(0));
    let bytes: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .open(path)?;
    file.write_all(&bytes)?;
    file.sync_all()
}

fn wipe_file(path: &Path) -> io::Result<()> {
    let mut file = match OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.write_all(&vec![0; usize::try_from(length).unwrap_or(0)])?;
    file.sync_all()?;
    drop(file);
    std::fs::remove_file(path)
}

pub(crate) fn user(user: &User, log: &Log) -> Outcome {
    match make_user(user, log) {
        Ok(()) => Outcome::Done,
        Err(reason) => Outcome::Failed(format!("account {}: {}", user.name, reason)),
    }
}

fn make_user(user: &User, log: &Log) -> Result<(), String> {
    let password = match &user.password {
        None => None,
        Some(secret) => Some(secret.value().ok_or("its password was wiped already")?),
    };
    let exists = sys::users::exists(&user.name)?;
    match (exists, user.on_exists) {
        (true, OnExists::Fail) => return Err("is there already".into()),
        (true, OnExists::Skip) => {
            log.line("the account is there already, and left as it is");
            return Ok(());
        }
        (true, OnExists::Update) => {
            if let Some(password) = password {
                sys::users::set_password(&user.name, password)?;
            }
        }
        (false, _) => match password {
            Some(password) => sys::users::add(&user.name, password)?,
            None => sys::users::add(&user.name, &sys::random_password()?)?,
        },
    }
    if let Some(full_name) = &user.full_name {
        sys::users::set_full_name(&user.name, full_name)?;
    }
    for group in &user.groups {
        let name = match group {
            Group::Sid(sid) => sys::users::name_of_sid(sid)?,
            Group::Named(name) => name.clone(),
        };
        sys::users::join_group(&user.name, &name)
            .map_err(|reason| format!("group {}: {}", name, reason))?;
    }
    Ok(())
}

pub(crate) fn network(network: &Network, log: &Log) -> Outcome {
    match set_network(network, log) {
        Ok(()) => Outcome::Done,
        Err(reason) => Outcome::Failed(reason),
    }
}

fn set_network(network: &Network, log: &Log) -> Result<(), String> {
    let cards = sys::net::cards().map_err(|error| format!("listing network cards: {}", error))?;
    let card = cards
        .iter()
        .find(|card| card.mac == network.mac.0)
        .ok_or_else(|| {
            let here: Vec<String> = cards
                .iter()
                .map(|card| firstboot::job::Mac(card.mac).to_string())
                .collect();
            format!(
                "no card has the address {}; here are: {}",
                network.mac,
                here.join(", ")
            )
        })?;
    let netsh = |words: String| netsh(&words, log);
    // Cards are named by their index: their names depend on the language of Windows, and people
    // change them.
    let index = card.index;
    match &network.address {
        None if card.has_dhcp() => log.line("the card asks a DHCP server already"),
        None => netsh(format!(
            "interface ipv4 set address name={} source=dhcp",
            index
        ))?,
        Some(fixed) => {
            let gateway = match fixed.gateway {
                Some(gateway) => format!("gateway={} gwmetric=1", gateway),
                None => "gateway=none".into(),
            };
            netsh(format!(
                "interface ipv4 set address name={} source=static address={} mask={} {}",
                index,
                fixed.address,
                mask(fixed.prefix),
                gateway
            ))?;
        }
    }
    match network.dns.split_first() {
        None if !card.has_name_servers() => {}
        None => netsh(format!(
            "interface ipv4 set dnsservers name={} source=dhcp",
            index
        ))?,
        Some((first, others)) => {
            netsh(format!(
                "interface ipv4 set dnsservers name={} source=static address={} register=primary validate=no",
                index, first
            ))?;
            for (at, server) in others.iter().enumerate() {
                netsh(format!(
                    "interface ipv4 add dnsservers name={} address={} index={} validate=no",
                    index,
                    server,
                    at + 2
                ))?;
            }
        }
    }
    const PARAMETERS: &str = r"SYSTEM\CurrentControlSet\Services\Tcpip\Parameters";
    let set = |key: &str, name: &str, value: &str| {
        sys::set_registry_text(key, name, value)
            .map_err(|error| format!("registry, {} {}: {}", key, name, error))
    };
    if let Some(suffix) = &network.suffix {
        set(&card.key(), "Domain", suffix)?;
    }
    if !network.search.is_empty() {
        set(PARAMETERS, "SearchList", &network.search.join(","))?;
    }
    Ok(())
}

fn mask(prefix: u8) -> std::net::Ipv4Addr {
    let bits = u32::MAX
        .checked_shl(32 - u32::from(prefix.min(32)))
        .unwrap_or(0);
    bits.into()
}

fn netsh(words: &str, log: &Log) -> Result<(), String> {
    let line = format!("\"{}\" {}", system32("netsh.exe").display(), words);
    match execute(&line, OWN_PROGRAM, log) {
        Ok(Ended::Exit(0)) => Ok(()),
        Ok(Ended::Exit(code)) => Err(format!(
            "netsh {}: exit code {}; its message is in the log",
            words, code
        )),
        Ok(_) => Err(format!("netsh {}: no answer", words)),
        Err(error) => Err(format!("netsh: {}", error)),
    }
}

fn not_ended_well(program: &str, result: io::Result<Ended>) -> Outcome {
    match result {
        Ok(Ended::Exit(code)) => Outcome::Failed(format!(
            "{}: exit code {} ({}); its output is in the log",
            program,
            code,
            io::Error::from_raw_os_error(code)
        )),
        Ok(Ended::TimedOut) => Outcome::Failed(format!("{}: no answer, ended", program)),
        Ok(Ended::Stopping) => Outcome::Interrupted,
        Err(error) => Outcome::Failed(format!("{} cannot be started: {}", program, error)),
    }
}

fn execute(line: &str, limit: Duration, log: &Log) -> io::Result<Ended> {
    let output = log.open()?;
    sys::process::run(line, &std::env::temp_dir(), &output, limit)
}

fn system32(program: &str) -> PathBuf {
    sys::windows_folder().join("System32").join(program)
}
