//! One table: a command line with something wrong in it, its exit code, and a word of its message.
//!
//! Every command of both programs is in it with each argument that is a name, a path, a password or
//! a key; the help of the programs is read to see that none is missing. The rule is that of
//! `docs/operations.md`: a bad value or a missing password is 2, a name that nothing has is 4, a
//! path that is not there is 5, a console that does not answer and a wrong password are 6.

use crate::common::agent::agent;
use crate::common::process::{DISKCAST, clean, run, run_within, text};
use crate::common::scratch;
use crate::common::service::{Agent, Console, Place};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const USAGE: i32 = 2;
const UNKNOWN: i32 = 4;
const REFUSED: i32 = 5;
const UNAUTHORISED: i32 = 6;
const DAMAGED: i32 = 7;

/// A command line, its exit code, a word of its message. `{none}` is a path that is not there,
/// `{text}` a file that is nothing special, `{disk}` and `{target}` disks, `{image}` and `{locked}` its images,
/// `{right}` and `{wrong}` files with passwords, `{new}` a path that may be made.
const TABLE: &[(&str, i32, &str)] = &[
    ("image capture {none} {new}", REFUSED, "missing"),
    ("image capture {disk} {none}/x.dcimg", REFUSED, "missing"),
    (
        "image capture {disk} {new} --password-file {none}",
        REFUSED,
        "missing",
    ),
    ("image capture --target nobody --name x", UNKNOWN, "nobody"),
    ("image capture --target a:b --name x", USAGE, "selector a"),
    ("image capture --target pc --name a/b", USAGE, "a/b"),
    (
        "image capture --target pc --name x --disk second",
        USAGE,
        "second",
    ),
    (
        "image capture --target pc --name x --password-file {none}",
        REFUSED,
        "missing",
    ),
    ("image capture --target nobody --decline", UNKNOWN, "nobody"),
    ("image info {none}", REFUSED, "missing"),
    ("image info {folder}", REFUSED, "folder"),
    ("image info {text}", DAMAGED, "text"),
    (
        "image info {image} --password-file {none}",
        REFUSED,
        "missing",
    ),
    (
        "image info {locked} --password-file {wrong}",
        UNAUTHORISED,
        "password",
    ),
    ("image check {none}", REFUSED, "missing"),
    (
        "image check {locked} --quick --password-file {wrong}",
        UNAUTHORISED,
        "password",
    ),
    (
        "image check {locked} --deep --password-file {wrong}",
        UNAUTHORISED,
        "password",
    ),
    ("image check {locked} --deep", USAGE, "password"),
    (
        "image check {locked} --deep --password-file {none}",
        REFUSED,
        "missing",
    ),
    (
        "image check {image} --signed-by nonsense",
        USAGE,
        "nonsense",
    ),
    (
        "image check {image} --signed-by dcpk1-12",
        USAGE,
        "dcpk1-12",
    ),
    ("image check {image} --signed-by {none}", REFUSED, "missing"),
    ("image check {image} --signed-by {text}", REFUSED, "text"),
    (
        "image check {image} --signed-by ref:nobody",
        UNKNOWN,
        "nobody",
    ),
    (
        "image check {image} --signed-by {public}",
        DAMAGED,
        "not signed",
    ),
    ("image label {none} a=b", REFUSED, "missing"),
    ("image label {image} a", USAGE, "name=text"),
    ("image label {locked} a=b", USAGE, "password"),
    (
        "image label {locked} a=b --password-file {wrong}",
        UNAUTHORISED,
        "password",
    ),
    (
        "image label {locked} a=b --password-file {none}",
        REFUSED,
        "missing",
    ),
    ("image sign {none} --key {key}", REFUSED, "missing"),
    ("image sign {image} --key {none}", REFUSED, "missing"),
    ("image sign {image} --key {text}", REFUSED, "text"),
    ("image sign {image} --key ref:nobody", UNKNOWN, "nobody"),
    ("image sign --new-key {none}/lab.key", REFUSED, "missing"),
    ("image sign --new-key {key}", REFUSED, "exists"),
    ("image sign --new-key ref:a/b", USAGE, "a/b"),
    (
        "image sign {locked} --key {key} --password-file {wrong}",
        UNAUTHORISED,
        "password",
    ),
    (
        "image sign {locked} --key {key} --password-file {none}",
        REFUSED,
        "missing",
    ),
    ("image rebuild {none} {new}", REFUSED, "missing"),
    ("image rebuild {image} {none}/x.dcimg", REFUSED, "missing"),
    ("image rebuild {image} {locked}", REFUSED, "exists"),
    (
        "image rebuild {locked} {new} --password-file {wrong}",
        UNAUTHORISED,
        "password",
    ),
    (
        "image rebuild {locked} {new} --password-file {none}",
        REFUSED,
        "missing",
    ),
    ("image restore {none} {new} --yes", REFUSED, "missing"),
    (
        "image restore {image} {none}/x.raw --yes",
        REFUSED,
        "missing",
    ),
    (
        "image restore {image} /dev/missing --yes",
        REFUSED,
        "missing",
    ),
    ("image restore {image} {target}", USAGE, "--yes"),
    ("image restore {locked} {new} --yes", USAGE, "password"),
    (
        "image restore {locked} {new} --yes --password-file {wrong}",
        UNAUTHORISED,
        "password",
    ),
    (
        "image restore {locked} {new} --yes --password-file {none}",
        REFUSED,
        "missing",
    ),
    (
        "deploy --image {none} --targets all --yes",
        REFUSED,
        "missing",
    ),
    (
        "deploy --image {folder} --targets all --yes",
        REFUSED,
        "folder",
    ),
    ("deploy --image {text} --targets all --yes", DAMAGED, "text"),
    (
        "deploy --image {image} --targets nobody --yes",
        UNKNOWN,
        "nobody",
    ),
    (
        "deploy --image {image} --targets a:b --yes",
        USAGE,
        "selector a",
    ),
    (
        "deploy --image {image} --targets all --yes --disk second",
        USAGE,
        "second",
    ),
    (
        "deploy --image {image} --targets all --yes --disk serial:none",
        REFUSED,
        "serial none",
    ),
    (
        "deploy --image {locked} --targets all --yes",
        USAGE,
        "password",
    ),
    (
        "deploy --image {locked} --targets all --yes --password-file {wrong}",
        UNAUTHORISED,
        "password",
    ),
    (
        "deploy --image {locked} --targets all --yes --password-file {none}",
        REFUSED,
        "missing",
    ),
    ("deploy --template nobody", UNKNOWN, "nobody"),
    ("deploy --template {none}", REFUSED, "missing"),
    ("deploy --template {none}.toml", REFUSED, "missing"),
    ("deploy --template lab", REFUSED, "missing.dcimg"),
    (
        "deploy --image {image} --targets all --save-template lab --yes",
        USAGE,
        "lab",
    ),
    (
        "deploy --image //127.0.0.1/a/b.dcimg --share-user tech --share-password ref:nobody --targets all",
        UNKNOWN,
        "nobody",
    ),
    (
        "deploy --image //127.0.0.1/a/b.dcimg --share-user tech --share-password file:{none} --targets all",
        REFUSED,
        "missing",
    ),
    (
        "deploy --image //127.0.0.1/a/b.dcimg --share-user tech --share-password hunter2 --targets all",
        USAGE,
        "--share-password",
    ),
    ("deploy --image {none} --simulate 2", REFUSED, "missing"),
    ("deploy --image {locked} --simulate 2", USAGE, "password"),
    (
        "deploy --image {locked} --simulate 2 --password-file {wrong}",
        UNAUTHORISED,
        "password",
    ),
    ("template show nobody", UNKNOWN, "nobody"),
    ("template show {none}.toml", REFUSED, "missing"),
    ("template show {folder}/", REFUSED, "folder"),
    ("template show {text}", USAGE, "text"),
    ("template check nobody", UNKNOWN, "nobody"),
    ("template check {none}.toml", REFUSED, "missing"),
    ("template check lab", REFUSED, "missing.dcimg"),
    ("template new lab --set end=none", USAGE, "lab"),
    ("template new x --set nosuch=1", USAGE, "nosuch"),
    ("template path {none}", REFUSED, "missing"),
    ("template path {text}", REFUSED, "text"),
    ("binding import {none}", REFUSED, "missing"),
    ("binding import {text}", USAGE, "line 1"),
    ("binding release nobody", UNKNOWN, "nobody"),
    ("secret set a/b --file {right}", USAGE, "a/b"),
    ("secret set x --file {none}", REFUSED, "missing"),
    ("secret set x --file {folder}", REFUSED, "folder"),
    ("secret remove nobody", UNKNOWN, "nobody"),
    ("offer add x --image {none}", REFUSED, "missing"),
    (
        "offer add x --image {image} --targets a:b",
        USAGE,
        "selector a",
    ),
    ("offer add x --image {image} --disk second", USAGE, "second"),
    ("offer add a/b --image {image}", USAGE, "a/b"),
    ("offer add x --template nobody", UNKNOWN, "nobody"),
    ("offer add x --template {none}.toml", REFUSED, "missing"),
    (
        "offer add x --image //127.0.0.1/a/b.dcimg --share-user tech --share-password ref:nobody",
        UNKNOWN,
        "nobody",
    ),
    ("offer remove nobody", UNKNOWN, "nobody"),
    ("job show 99", UNKNOWN, "job 99"),
    ("job show nobody", UNKNOWN, "nobody"),
    ("job watch 99", UNKNOWN, "job 99"),
    ("job wait 99", UNKNOWN, "job 99"),
    ("job log 99", UNKNOWN, "job 99"),
    ("job report 99", UNKNOWN, "job 99"),
    ("job start 99", UNKNOWN, "job 99"),
    ("job add 99 --targets pc --yes", UNKNOWN, "job 99"),
    ("job cancel 99 --targets pc --yes", UNKNOWN, "job 99"),
    ("job retry 99 --targets pc --yes", UNKNOWN, "job 99"),
    (
        "job retry 99 --yes --password-file {none}",
        UNKNOWN,
        "job 99",
    ),
    ("target list a:b", USAGE, "a:b"),
    ("target show nobody", UNKNOWN, "nobody"),
    ("target approve nobody", UNKNOWN, "target"),
    ("target forget nobody", UNKNOWN, "target"),
    ("target wake nobody", UNKNOWN, "target"),
    ("target rename nobody x", UNKNOWN, "nobody"),
    ("target rename pc a/b", USAGE, "a/b"),
    ("target identify nobody --new", UNKNOWN, "nobody"),
    ("target identify pc --is nobody", UNKNOWN, "nobody"),
    ("doctor --targets nobody", UNKNOWN, ""),
    ("doctor --targets a:b", USAGE, "selector a"),
    ("export agent {new} --pin nothex", USAGE, "nothex"),
    ("export agent {new} --agent {none}", REFUSED, "missing"),
    ("export agent {text}/agent", REFUSED, "text"),
    ("export iso {new} --pin nothex", USAGE, "nothex"),
    ("export iso {new} --agent {none}", REFUSED, "missing"),
    ("export iso {new} --from-debs {none}", REFUSED, "missing"),
    ("export pxe {new} --pin nothex", USAGE, "nothex"),
    ("export pxe {new} --agent {none}", REFUSED, "missing"),
    ("export pxe {new} --from-debs {none}", REFUSED, "missing"),
    (
        "export pxe {new} --from-debs {folder} --ipxe-dir {none}",
        REFUSED,
        "no package",
    ),
    ("pxe serve --iface nosuch", USAGE, "nosuch"),
    (
        "pxe serve --iface lo --boot-files {none}",
        REFUSED,
        "missing",
    ),
];

/// The same for a console that is not yet running; each has a data directory of its own.
const BEFORE: &[(&str, i32, &str)] = &[
    ("console run --iface nosuch", USAGE, "nosuch"),
    (
        "console run --iface lo --signed-by nonsense",
        USAGE,
        "nonsense",
    ),
    (
        "console run --iface lo --signed-by {none}",
        REFUSED,
        "missing",
    ),
    (
        "console run --iface lo --pxe --boot-files {none}",
        REFUSED,
        "missing",
    ),
    ("console show", UNAUTHORISED, "console run"),
    ("pxe check", UNAUTHORISED, "console run"),
    ("agent run --pin nothex", USAGE, "nothex"),
    ("agent run --pin {pin} --iface nosuch", USAGE, "nosuch"),
    ("agent run --pin {pin} --disk {none}", REFUSED, "missing"),
    (
        "agent run --pin {pin} --disk {none}/x=64M",
        REFUSED,
        "missing",
    ),
    ("agent run --pin {pin} --disk {new}=100", USAGE, "512"),
];

/// Words of help for values that are names, paths, passwords or keys.
const NAMES: [&str; 12] = [
    "FILE",
    "DIR",
    "NAME",
    "KEY",
    "PIN",
    "FINGERPRINT",
    "SECRET",
    "TARGET",
    "SELECTOR",
    "RULE",
    "IF",
    "PATH[=SIZE]",
];

/// Options whose value may be anything: a name to take, or a folder that is made.
const FREE: [&str; 5] = [
    "demo --dir",
    "export iso --cache",
    "export pxe --cache",
    "agent run --name",
    "job cancel --reason",
];

/// Makes the files that the table names, and returns them by their names in it.
fn things(folder: &Path) -> Vec<(&'static str, String)> {
    let path = |name: &str| text(&folder.join(name)).to_owned();
    fs::write(folder.join("text"), "nothing special\n").expect("a file");
    fs::create_dir(folder.join("folder")).expect("a folder");
    fs::write(folder.join("right"), "correct horse\n").expect("a file");
    fs::write(folder.join("wrong"), "battery staple\n").expect("a file");
    fs::write(folder.join("disk"), vec![0x5a; 2 << 20]).expect("a disk");
    fs::write(folder.join("target"), vec![0; 4 << 20]).expect("a disk");
    let made = |line: &str| {
        let words = line
            .split(' ')
            .map(|word| word.replace("{}", text(folder)))
            .collect::<Vec<_>>();
        program(DISKCAST, &words).ok()
    };
    made("image capture {}/disk {}/image --raw");
    made("image capture {}/disk {}/locked --raw --password-file {}/right");
    let public = made("image sign --new-key {}/key").stdout;
    fs::write(folder.join("public"), public).expect("a file");
    vec![
        ("{none}", path("missing")),
        ("{new}", path("new")),
        ("{text}", path("text")),
        ("{folder}", path("folder")),
        ("{disk}", path("disk")),
        ("{image}", path("image")),
        ("{locked}", path("locked")),
        ("{right}", path("right")),
        ("{wrong}", path("wrong")),
        ("{target}", path("target")),
        ("{key}", path("key")),
        ("{public}", path("public")),
        ("{pin}", "ab".repeat(32)),
    ]
}

fn program(name: &str, words: &[String]) -> crate::common::process::Run {
    let mut command = Command::new(name);
    clean(&mut command);
    // A command that starts to wait is wrong here: each ends before that.
    run_within(command.args(words), Duration::from_mins(1))
}

fn words_of(line: &str, things: &[(&str, String)]) -> Vec<String> {
    let put = |word: &str| {
        let named = things.iter();
        named.fold(word.to_owned(), |word, (name, value)| {
            word.replace(name, value)
        })
    };
    line.split(' ').map(put).collect()
}

/// Runs a line of the table; returns the fault, if there is one.
fn fault(name: &str, before: &[String], words: &[String], code: i32, word: &str) -> Option<String> {
    let all = [before, words].concat();
    let said = program(name, &all);
    let message = said.stderr.to_lowercase();
    let right = said.code == Some(code)
        && message.contains(&word.to_lowercase())
        && !message.contains("panicked at")
        // Usage errors of the arguments come with the usage line; the others are two lines.
        && (code == USAGE || message.lines().count() < 12);
    (!right).then(|| format!("expected {code} and {word:?}:\n{}", said.story()))
}

#[test]
fn one_table_of_exit_codes_holds_for_every_command() {
    let folder = scratch();
    let things = things(folder.path());
    let ports = ["--control-port", "0", "--bulk-port", "0"];
    let console = Console::start(Place::Here, folder.path(), "lo", &ports);
    let disk = folder.path().join("pc.raw");
    let _agent = Agent::start_staying(
        Place::Here,
        &console.control,
        &console.pin,
        &disk,
        64 << 20,
        &["--name", "pc", "--iface", "127.0.0.1"],
    );
    console.wait_ready(1);
    console
        .cli(&[
            "template",
            "new",
            "lab",
            "--set",
            "image=/srv/missing.dcimg",
        ])
        .ok();
    let here = ["--data-dir".to_owned(), text(&console.data_dir).to_owned()];
    let elsewhere = [
        "--data-dir".to_owned(),
        text(&folder.path().join("other")).to_owned(),
    ];
    let mut faults = Vec::new();
    for (line, code, word) in TABLE {
        let words = words_of(line, &things);
        faults.extend(fault(DISKCAST, &here, &words, *code, word));
        // A name of the console is unknown to nobody where no console answers.
        if *code == UNKNOWN && !line.contains("template") {
            faults.extend(fault(
                DISKCAST,
                &elsewhere,
                &words,
                UNAUTHORISED,
                "console run",
            ));
        }
        for new in ["new", "new.partial"] {
            assert!(!folder.path().join(new).exists(), "{line} made {new}");
        }
    }
    for (line, code, word) in BEFORE {
        let words = words_of(line, &things);
        faults.extend(fault(DISKCAST, &elsewhere, &words, *code, word));
        if let Some(line) = line.strip_prefix("agent ") {
            faults.extend(fault(agent(), &[], &words_of(line, &things), *code, word));
        }
    }
    assert!(
        faults.is_empty(),
        "{} faults\n{}",
        faults.len(),
        faults.join("\n")
    );
}

/// Calls `see` with every command that has no commands below it, and its help.
fn leaves(path: &[String], see: &mut impl FnMut(&str, &str)) {
    let mut command = Command::new(DISKCAST);
    clean(&mut command);
    let help = run(command.args(path).arg("-h")).ok().stdout;
    let below = crate::subcommands(&help);
    if below.is_empty() {
        see(&path.join(" "), &help);
    }
    for word in below {
        leaves(&[path, &[word]].concat(), see);
    }
}

#[test]
fn no_name_path_password_or_key_is_missing_in_the_table() {
    let lines: Vec<&str> = TABLE.iter().chain(BEFORE).map(|(line, ..)| *line).collect();
    let mut absent = BTreeSet::new();
    let mut look = |path: &str, help: &str| {
        let rows = || lines.iter().filter(|line| line.starts_with(path));
        if help.contains("\nArguments:") && rows().next().is_none() {
            absent.insert(path.to_owned());
        }
        for line in help.lines().map(str::trim_start) {
            let Some((option, value)) = line
                .strip_prefix("--")
                .and_then(|line| line.split_once(" <"))
            else {
                continue;
            };
            let value = value.split_once('>').map_or("", |(value, _)| value);
            let option = format!("--{option}");
            let named = NAMES.contains(&value) && option != "--data-dir";
            let full = format!("{path} {option}");
            if named && !FREE.contains(&full.as_str()) && !rows().any(|line| line.contains(&option))
            {
                absent.insert(full);
            }
        }
    };
    leaves(&[], &mut look);
    // Hidden in the help of `diskcast`.
    leaves(&["agent".to_owned()], &mut look);
    assert!(absent.is_empty(), "not in the table: {absent:?}");
}
