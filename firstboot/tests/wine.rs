//! `diskcast-firstboot.exe` under Wine: the parts that can be tested without Windows.
//!
//! Needs `wine` and the program (`cargo xtask firstboot`); without them it prints that and returns.
//! Tested: programs with their exit codes, limits and output, restarts, users as far as Wine keeps
//! them, wiping, the service from start to its own removal. Wine has no `NetUserSetInfo`, forgets
//! accounts when the program ends, reports success for every group, and has no djoin, pnputil and
//! real netsh.
#![allow(clippy::print_stdout, clippy::disallowed_methods)] // A test that tells why it did not run, and drives processes.

mod console;

use console::{sign, Console, Does};
use firstboot::job::Mac;
use firstboot::report::{Outcome, System};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A Wine prefix of its own, and programs that are ended with it.
struct Wine {
    prefix: PathBuf,
    folder: PathBuf,
    exe: PathBuf,
}

impl Wine {
    /// `None`, with the reason printed, if this machine lacks something.
    fn new() -> Option<Self> {
        let release = std::env::current_exe()
            .ok()?
            .parent()?
            .parent()?
            .to_path_buf();
        let exe = match std::env::var_os("DISKCAST_FIRSTBOOT_EXE") {
            Some(exe) => PathBuf::from(exe),
            None => release.join("diskcast-firstboot.exe"),
        };
        if !exe.is_file() {
            println!(
                "did not run: {} is missing; cargo xtask firstboot makes it",
                exe.display()
            );
            return None;
        }
        let there = Command::new("wine").arg("--version").output();
        if !there.map_or(false, |it| it.status.success()) {
            println!("did not run: wine is missing; apt-get install wine wine64");
            return None;
        }
        // Kept for the next run: making it takes longer than the test.
        let prefix = release.join("wine-prefix");
        let folder = prefix.join("drive_c/ProgramData/diskcast");
        let wine = Self {
            prefix,
            folder,
            exe,
        };
        std::fs::create_dir_all(&wine.prefix).unwrap();
        wine.restart();
        Some(wine)
    }

    /// Runs a program in it for at most some seconds; returns exit code and output.
    fn run(&self, words: &[&str], limit_s: u32) -> (Option<i32>, String) {
        // A file and no pipe: the processes that Wine leaves behind would keep a pipe open, and the
        // test would wait.
        let said = self.prefix.join("said");
        let status = Command::new("timeout")
            .arg("--kill-after=5")
            .arg(limit_s.to_string())
            .args(words)
            .current_dir(&self.prefix)
            .env("WINEPREFIX", &self.prefix)
            .env("WINEDEBUG", "-all")
            .env("WINEDLLOVERRIDES", "mscoree=;mshtml=")
            .env_remove("DISPLAY")
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&said).unwrap())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        let said = std::fs::read(&said).unwrap();
        (status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Simulates a restart of the machine: everything ends, and Windows starts.
    fn restart(&self) {
        self.run(&["wineserver", "-k"], 20);
        self.run(&["wineserver", "-w"], 20);
        self.run(&["wineserver", "-p"], 20);
        self.run(&["wine", "cmd", "/c", "exit"], 90);
    }

    /// Makes the product's folder anew, with the program and a job in it.
    fn lay(&self, job: &str) {
        let _ = std::fs::remove_dir_all(&self.folder);
        std::fs::create_dir_all(&self.folder).unwrap();
        std::fs::copy(&self.exe, self.file("diskcast-firstboot.exe")).unwrap();
        std::fs::write(self.file("firstboot.job"), job).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn text(&self, name: &str) -> String {
        let bytes = std::fs::read(self.file(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Runs the program with `--run`; returns the exit code, of which a Unix keeps eight bits.
    fn start(&self) -> i32 {
        let exe = r"C:\ProgramData\diskcast\diskcast-firstboot.exe";
        let job = r"C:\ProgramData\diskcast\firstboot.job";
        self.run(&["wine", exe, "--run", job], 60).0.unwrap()
    }
}

impl Drop for Wine {
    fn drop(&mut self) {
        self.run(&["wineserver", "-k"], 10);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

const WANTS_RESTART: i32 = 3010 & 0xff;

fn job(end: &str, steps: &[&str]) -> String {
    job_with(end, "", steps)
}

fn job_with(end: &str, report: &str, steps: &[&str]) -> String {
    let text = format!(
        "diskcast-firstboot 1\nend {}\n\n{}{}\nsteps {}\n",
        end,
        report,
        steps.join("\n"),
        steps.len()
    );
    firstboot::Job::parse(&text).unwrap();
    text
}

fn run_step(id: &str, command: &str, more: &str) -> String {
    format!(
        "step {} run\ncommand {}\n{}\n",
        id,
        command.replace('\\', "\\\\"),
        more
    )
}

/// Key of the reports.
const KEY: [u8; 32] = *b"a key of 32 bytes, \x00 and \xff in it";

fn key_digits() -> String {
    KEY.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn report_to(consoles: &[SocketAddr]) -> String {
    let consoles: String = consoles
        .iter()
        .map(|console| format!("console {console}\n"))
        .collect();
    let key = key_digits();
    format!("report 17\n{consoles}target T-1\nkey ={key}\n\n")
}

const OK: &str = "timeout 30\nok 0\non-error stop";
const ADMIN: &str = "\
step user.1 user
name labadmin
group S-1-5-32-544
password =Correct-horse-1
on-exists update
";

/// One test after the other: they share one Wine.
#[test]
fn the_program_under_wine() {
    let wine = match Wine::new() {
        Some(wine) => wine,
        None => return,
    };
    programs_restarts_and_limits(&wine);
    users_and_their_secrets(&wine);
    a_card_is_found_by_its_address(&wine);
    a_failure_stops_and_wipes(&wine);
    a_job_nobody_can_read_is_removed(&wine);
    a_machine_reports_what_it_is(&wine);
    a_failed_step_is_reported(&wine);
    a_console_may_refuse(&wine);
    a_report_nobody_hears_waits_for_the_next_start(&wine);
    the_service_does_its_job_and_is_gone(&wine);
}

/// RFC 4231, cases 1, 2, 3, 4, 6 and 7: the test's own HMAC, which the program's is compared with,
/// is correct.
#[test]
fn the_consoles_hmac_is_that_of_rfc_4231() {
    let long_key = "Test Using Larger Than Block-Size Key - Hash Key First";
    let long_both =
        "This is a test using a larger than block-size key and a larger than block-size data. \
                     The key needs to be hashed before being used by the HMAC algorithm.";
    let counted: Vec<u8> = (1..=25).collect();
    let cases: [(&[u8], &[u8], &str); 6] = [
        (
            &[0x0b; 20],
            b"Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            &[0xaa; 20],
            &[0xdd; 50],
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        ),
        (
            &counted,
            &[0xcd; 50],
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
        ),
        (
            &[0xaa; 131],
            long_key.as_bytes(),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            &[0xaa; 131],
            long_both.as_bytes(),
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
        ),
    ];
    for (key, data, expected) in cases {
        assert_eq!(sign(key, data), expected);
    }
}

/// Invalid answers are ignored, and the report is sent again.
fn a_machine_reports_what_it_is(wine: &Wine) {
    let mut does = vec![
        Does::Closes,
        Does::HearsWithAnotherKey,
        Does::Babbles,
        Does::Hears,
    ];
    if std::env::var_os("DISKCAST_TEST_FULL").is_some() {
        // Ten seconds, the program's limit for an answer.
        does.insert(0, Does::Waits);
    }
    let console = Console::new(&KEY, &does);
    let report = report_to(&[console.address]);
    wine.lay(&job_with(
        "none",
        &report,
        &[&run_step("run.1", "exit 0", OK)],
    ));
    assert_eq!(wine.start(), 0, "{}", wine.text("firstboot.log"));
    for _ in &does {
        let report = console.report();
        assert_eq!((report.job, report.target.as_str()), (17, "T-1"));
        assert_eq!(report.result, Outcome::Done);
        let (_, name) = wine.run(&["wine", "hostname"], 30);
        assert!(
            !report.name.is_empty() && report.name.eq_ignore_ascii_case(name.trim()),
            "{:?} and {:?}",
            report.name,
            name
        );
        match &report.system {
            System::Windows { sid: Some(sid) } => {
                let numbers = sid.strip_prefix("S-1-5-21-").expect(sid);
                assert_eq!(numbers.split('-').count(), 3, "{}", sid);
            }
            other => panic!("{:?}", other),
        }
        for (mac, address) in addresses_here() {
            let found = report
                .addresses
                .iter()
                .any(|it| it.mac == mac && format!("{}/{}", it.ip, it.prefix) == address);
            assert!(found, "{mac} {address}: {:?}", report.addresses);
        }
    }
    assert!(console.is_done());
    assert!(!wine.file("firstboot.job").exists());
    let journal = wine.text("firstboot.journal");
    assert!(
        journal.ends_with("done report .\nwiped report .\nended .\n"),
        "{}",
        journal
    );
    let log = wine.text("firstboot.log");
    for said in [
        "closed without an answer",
        "answers without the key of this job",
        "its answer is none of a console",
        "the console has heard the report",
    ] {
        assert!(log.contains(said), "{}: {}", said, log);
    }
    assert!(!log.contains(&key_digits()) && !journal.contains(&key_digits()));
}

/// IPv4 addresses of this machine's cards that have a MAC address, as reported by `ip`.
fn addresses_here() -> Vec<(Mac, String)> {
    let ip = Command::new("ip")
        .args(["-o", "link"])
        .output()
        .expect("ip");
    let links = String::from_utf8(ip.stdout).unwrap();
    let ip = Command::new("ip")
        .args(["-o", "-4", "addr"])
        .output()
        .expect("ip");
    let mut found = Vec::new();
    for line in String::from_utf8(ip.stdout).unwrap().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let link = links.lines().find(|link| {
            let name = link.split_whitespace().nth(1).unwrap_or("");
            let name = name.trim_end_matches(':');
            name.split('@').next() == Some(words[1])
        });
        let words_of_link: Vec<&str> = link.unwrap_or("").split_whitespace().collect();
        let ether = words_of_link.iter().position(|word| *word == "link/ether");
        if let Some(at) = ether {
            found.push((words_of_link[at + 1].parse().unwrap(), words[3].to_string()));
        }
    }
    found
}

fn a_failed_step_is_reported(wine: &Wine) {
    let console = Console::new(&KEY, &[Does::Hears]);
    let report = report_to(&[console.address]);
    let steps = [&*run_step("run.1", "exit 1603", OK), ADMIN];
    wine.lay(&job_with("none", &report, &steps));
    assert_eq!(wine.start(), 1, "{}", wine.text("firstboot.log"));
    match console.report().result {
        Outcome::Failed { step, reason } => {
            assert_eq!(step.as_deref(), Some("run.1"));
            assert!(reason.starts_with("exit code 1603"), "{}", reason);
        }
        Outcome::Done => panic!("a failed job was reported as done"),
    }
    assert!(!wine.file("firstboot.job").exists());
}

fn a_console_may_refuse(wine: &Wine) {
    let console = Console::new(&KEY, &[Does::Refuses]);
    wine.lay(&job_with("none", &report_to(&[console.address]), &[]));
    assert_eq!(wine.start(), 0, "{}", wine.text("firstboot.log"));
    console.report();
    assert!(console.is_done());
    let journal = wine.text("firstboot.journal");
    assert!(
        journal.ends_with("begin report .\nrefused .\nwiped report .\nended .\n"),
        "{}",
        journal
    );
    assert!(!wine.file("firstboot.job").exists());
}

/// Nobody listens: the job ends except for its report, and the second address receives it at the
/// next start.
fn a_report_nobody_hears_waits_for_the_next_start(wine: &Wine) {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = gone.local_addr().unwrap();
    drop(gone);
    let console = Console::new(&KEY, &[Does::Closes; 8]);
    let report = report_to(&[nobody, console.address]);
    wine.lay(&job_with("shutdown", &report, &[ADMIN]));
    assert_eq!(wine.start(), 0, "{}", wine.text("firstboot.log"));
    let journal = wine.text("firstboot.journal");
    assert!(journal.ends_with(" .\nend-action .\n"), "{}", journal);
    assert_eq!(journal.matches("begin report .").count(), 8, "{}", journal);
    let text = wine.text("firstboot.job");
    assert!(
        !text.contains("horse") && text.contains(&key_digits()),
        "only the key of the report is still there: {}",
        text
    );
    // The same address, now with a console.
    let console = Console::new(&KEY, &[Does::Hears]);
    let text = text.replace(&nobody.to_string(), &console.address.to_string());
    std::fs::write(wine.file("firstboot.job"), text).unwrap();
    assert_eq!(wine.start(), 0, "{}", wine.text("firstboot.log"));
    assert_eq!(console.report().result, Outcome::Done);
    assert!(wine.text("firstboot.journal").ends_with("ended .\n"));
    assert!(!wine.file("firstboot.job").exists());
}

fn programs_restarts_and_limits(wine: &Wine) {
    wine.lay(&job(
        "shutdown",
        &[
            &run_step(
                "run.1",
                r#"echo "one two" & echo 1>> C:\ProgramData\diskcast\count"#,
                OK,
            ),
            &run_step(
                "run.2",
                "exit 10",
                "timeout 30\nok 0\nreboot 10\non-error stop",
            ),
            &run_step(
                "run.3",
                "ping -n 60 127.0.0.1",
                "timeout 1\nok 0\non-error continue",
            ),
            &run_step("run.4", "exit -5", "timeout 30\nok -5\non-error stop"),
        ],
    ));
    assert_eq!(wine.start(), WANTS_RESTART);
    assert!(wine
        .text("firstboot.journal")
        .ends_with("done-restart run.2 .\nrestart .\n"));
    assert_eq!(wine.start(), 0);
    let log = wine.text("firstboot.log");
    assert!(log.contains("\"one two\""), "{}", log);
    assert!(
        log.contains("step run.3: failed: not at its end after 1 s"),
        "{}",
        log
    );
    assert!(log.contains("step run.4: done"), "{}", log);
    // Once over both starts; and the program that reached its limit is not running any more.
    assert_eq!(wine.text("count").lines().count(), 1);
    assert!(!running(wine, "ping"), "the program outlived its limit");
    assert!(wine
        .text("firstboot.journal")
        .ends_with("finished .\nended .\n"));
    assert!(!wine.file("firstboot.job").exists());
}

fn users_and_their_secrets(wine: &Wine) {
    wine.lay(&job(
        "none",
        &[
            ADMIN,
            &run_step(
                "run.1",
                r"copy C:\ProgramData\diskcast\firstboot.job C:\ProgramData\diskcast\seen",
                OK,
            ),
            &ADMIN
                .replace("user.1", "user.2")
                .replace("on-exists update", "on-exists skip"),
            &ADMIN
                .replace("user.1", "user.3")
                .replace("on-exists update", "on-exists fail"),
        ],
    ));
    assert_eq!(wine.start(), 1);
    let seen = wine.text("seen");
    assert_eq!(seen.matches("Correct-horse-1").count(), 2, "{}", seen);
    assert!(seen.contains("password ****************\n"), "{}", seen);
    let log = wine.text("firstboot.log");
    assert!(log.contains("left as it is"), "{}", log);
    assert!(
        log.contains("stopped: user.3: account labadmin: is there already"),
        "{}",
        log
    );
    assert!(!log.contains("horse"), "{}", log);
    assert_eq!(log.matches("user, attempt").count(), 2 + 5, "{}", log);
}

/// The card with the MAC address is found, and its settings in the registry. Wine's `netsh` reports
/// success and does nothing.
fn a_card_is_found_by_its_address(wine: &Wine) {
    let cards = std::fs::read_dir("/sys/class/net").unwrap().flatten();
    let macs =
        cards.map(|card| std::fs::read_to_string(card.path().join("address")).unwrap_or_default());
    let mac = match macs
        .into_iter()
        .find(|mac| mac.trim().len() == 17 && !mac.starts_with("00:00:00:00"))
    {
        Some(mac) => mac,
        None => {
            println!("did not run: this machine has no network card but loopback");
            return;
        }
    };
    let net = format!(
        "step net.1 network\nmac {}\naddress 10.20.0.50/24\ndns 10.20.0.2\nsuffix lab.example\nsearch corp.example\n",
        mac.trim()
    );
    wine.lay(&job("none", &[&net]));
    assert_eq!(wine.start(), 0, "{}", wine.text("firstboot.log"));
    let key = r"HKLM\SYSTEM\CurrentControlSet\Services\Tcpip\Parameters";
    let (_, parameters) = wine.run(&["wine", "reg", "query", key, "/s"], 30);
    assert!(
        parameters.contains("lab.example") && parameters.contains("corp.example"),
        "{}",
        parameters
    );
}

fn a_failure_stops_and_wipes(wine: &Wine) {
    let net = "step net.1 network\nmac 02:00:00:00:00:99\naddress 10.20.0.50/24\n";
    wine.lay(&job("none", &[net, ADMIN]));
    assert_eq!(wine.start(), 1);
    let journal = wine.text("firstboot.journal");
    assert!(
        journal.contains("stopped net.1: no card has the address 02:00:00:00:00:99; here are: "),
        "{}",
        journal
    );
    assert!(journal.contains("wiped user.1 ."), "{}", journal);
    assert!(!wine.file("firstboot.job").exists());

    wine.lay(&job("none", &[&run_step("run.1", "exit 1603", OK)]));
    assert_eq!(wine.start(), 1);
    assert!(wine
        .text("firstboot.journal")
        .contains("stopped run.1: exit code 1603"));
}

fn a_job_nobody_can_read_is_removed(wine: &Wine) {
    wine.lay("diskcast-firstboot 7\npassword =Correct-horse-1\n");
    assert_eq!(wine.start(), 2);
    assert!(!wine.file("firstboot.job").exists());
    let log = wine.text("firstboot.log");
    assert!(
        log.contains("version \"7\"") && !log.contains("horse"),
        "{}",
        log
    );
}

fn the_service_does_its_job_and_is_gone(wine: &Wine) {
    const KEY_OF_SERVICE: &str = r"HKLM\SYSTEM\CurrentControlSet\Services\diskcast-firstboot";
    let console = Console::new(&KEY, &[Does::Closes, Does::Hears]);
    wine.lay(&job_with(
        "none",
        &report_to(&[console.address]),
        &[
            &run_step(
                "run.1",
                "exit 10",
                "timeout 30\nok 0\nreboot 10\non-error stop",
            ),
            ADMIN,
        ],
    ));
    let exe = r"binPath=C:\ProgramData\diskcast\diskcast-firstboot.exe";
    // May be left by a test that failed; the next start removes it for good.
    wine.run(&["wine", "sc", "delete", "diskcast-firstboot"], 30);
    wine.restart();
    let create = [
        "wine",
        "sc",
        "create",
        "diskcast-firstboot",
        exe,
        "start=auto",
    ];
    let (created, said) = wine.run(&create, 30);
    assert_eq!(created, Some(0), "{}", said);
    assert_eq!(
        wine.run(&["wine", "reg", "query", KEY_OF_SERVICE], 30).0,
        Some(0)
    );
    let (started, said) = wine.run(&["wine", "net", "start", "diskcast-firstboot"], 30);
    assert_eq!(started, Some(0), "{}", said);
    wait_for(wine, "restart .\n");
    // The program requested a restart, and Wine ended. The service continues by itself at the next
    // start.
    wine.restart();
    wait_for(wine, "ended .\n");
    for _ in 0..2 {
        assert_eq!(console.report().result, Outcome::Done);
    }
    assert!(!wine.file("firstboot.job").exists());
    let log = wine.text("firstboot.log");
    assert!(!log.contains("removing the service failed"), "{}", log);
    assert_ne!(
        wine.run(&["wine", "reg", "query", KEY_OF_SERVICE], 30).0,
        Some(0),
        "the service is still registered"
    );
    // The program's own file is removed at the next start of Windows.
    wine.restart();
    assert!(!wine.file("diskcast-firstboot.exe").exists());
    assert!(wine.file("firstboot.log").exists());
}

fn wait_for(wine: &Wine, end: &str) {
    let until = Instant::now() + Duration::from_secs(120);
    while !wine.text("firstboot.journal").ends_with(end) {
        assert!(
            Instant::now() < until,
            "no {:?}: {}{}",
            end,
            wine.text("firstboot.journal"),
            wine.text("firstboot.log")
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// True if a program of this Wine is running.
fn running(wine: &Wine, name: &str) -> bool {
    let entries = std::fs::read_dir("/proc").unwrap();
    let prefix = format!("WINEPREFIX={}", wine.prefix.display());
    entries.flatten().any(|entry| {
        let read =
            |file: &str| std::fs::read(Path::new(&entry.path()).join(file)).unwrap_or_default();
        let words = String::from_utf8_lossy(&read("cmdline")).into_owned();
        words.contains(name) && String::from_utf8_lossy(&read("environ")).contains(&prefix)
    })
}
