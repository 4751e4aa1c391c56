//! Tests of a job on a simulated machine: order, restarts, power cuts at every moment, failures,
//! secrets.

use firstboot::job::{
    Action, End, Group, OnError, OnExists, ReportTo, Run, Secret, Step, User, REPORT_ID,
};
use firstboot::machine::{
    self, Answer, Executor, Outcome, Pause, ATTEMPTS, REPORT_LATER_STARTS, REPORT_WAITS_SECONDS,
    SPARE_BOOTS,
};
use firstboot::report;
use firstboot::{Entry, Job, Journal};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io;

/// An effect on the machine.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Did {
    Performed(String),
    Wiped(String),
    Waited(u32),
    Reported(report::Outcome),
    Restarted,
    Removed,
    Ended(End),
}

/// State of the machine that survives a power cut, and the configured answers of its programs.
struct Machine {
    job: Job,
    journal: String,
    did: Vec<Did>,
    log: Vec<String>,
    /// Outcomes of a step in order, the last one repeated; without any it is done.
    answers: BTreeMap<String, Vec<Outcome>>,
    /// Answers of the console in order, the last one repeated.
    console: Vec<Answer>,
    /// Ids of secrets that are still in the job file.
    secrets: Vec<String>,
    job_file: bool,
    /// Number of effects before the power is cut; `None` for no cut.
    cut_after: Option<usize>,
    powered: bool,
    journal_full: bool,
    wipe_fails: bool,
    stop_asked: bool,
    /// True if secrets of steps were still there when the report was sent.
    secrets_waited: bool,
}

impl Machine {
    fn new(job: Job) -> Self {
        let secrets = job.steps.iter().filter(|step| step.id.contains("secret"));
        let secrets = secrets.map(|step| step.id.clone());
        let key = job.report.iter().map(|_| REPORT_ID.to_owned());
        Self {
            secrets: secrets.chain(key).collect(),
            job,
            journal: String::new(),
            did: Vec::new(),
            log: Vec::new(),
            answers: BTreeMap::new(),
            console: vec![Answer::Heard],
            job_file: true,
            cut_after: None,
            powered: true,
            journal_full: false,
            wipe_fails: false,
            stop_asked: false,
            secrets_waited: false,
        }
    }

    fn answer(mut self, id: &str, answers: &[Outcome]) -> Self {
        self.answers.insert(id.into(), answers.to_vec());
        self
    }

    /// The same machine with a reporting job and a console that gives these answers.
    fn reporting(mut self, console: &[Answer]) -> Self {
        self.job.report = Some(ReportTo {
            consoles: vec!["10.20.0.2:5003".parse().unwrap()],
            job: 17,
            target: "T".into(),
            key: Secret::new(KEY),
        });
        self.secrets.push(REPORT_ID.into());
        self.console = console.to_vec();
        self
    }

    fn reports(&self) -> Vec<&report::Outcome> {
        let reports = self.did.iter().filter_map(|did| match did {
            Did::Reported(came) => Some(came),
            _ => None,
        });
        reports.collect()
    }

    fn ends(&self) -> usize {
        let ends = self.did.iter().filter(|did| matches!(did, Did::Ended(_)));
        ends.count()
    }

    /// One start. `Err` also if the power was cut.
    fn start(&mut self) -> io::Result<Pause> {
        self.powered = true;
        let job = self.job.clone();
        let mut journal = Journal::parse(&self.journal);
        machine::run(&job, &mut journal, self)
    }

    /// Starts the machine until the job is over or `most` starts are used.
    fn starts(&mut self, most: usize) -> (usize, Option<Pause>) {
        for count in 1..=most {
            if let Ok(pause @ (Pause::Finished | Pause::Stopped)) = self.start() {
                return (count, Some(pause));
            }
        }
        (most, None)
    }

    /// Carries out an effect, unless the power is cut.
    fn effect(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.cut_after {
            if *left == 0 {
                self.powered = false;
            } else {
                *left -= 1;
            }
        }
        if self.powered {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::Other, "no power"))
        }
    }

    fn performed(&self, id: &str) -> usize {
        self.did
            .iter()
            .filter(|did| **did == Did::Performed(id.into()))
            .count()
    }
}

impl Executor for Machine {
    fn record(&mut self, entry: &Entry) -> io::Result<()> {
        if self.journal_full {
            return Err(io::Error::new(io::ErrorKind::Other, "disk full"));
        }
        let line = entry.line();
        if let Err(error) = self.effect() {
            // The power is cut in the middle of the line, once.
            if self.cut_after.take().is_some() {
                self.journal.push_str(&line[..line.len() / 2]);
            }
            return Err(error);
        }
        if !self.journal.is_empty() && !self.journal.ends_with('\n') {
            self.journal.push('\n');
        }
        self.journal.push_str(&line);
        Ok(())
    }

    fn perform(&mut self, step: &Step) -> Outcome {
        if self.effect().is_ok() {
            self.did.push(Did::Performed(step.id.clone()));
        }
        match self.answers.get_mut(&step.id) {
            Some(answers) if answers.len() > 1 => answers.remove(0),
            Some(answers) => answers[0].clone(),
            None => Outcome::Done,
        }
    }

    fn report(&mut self, to: &ReportTo, came: &report::Outcome) -> Answer {
        self.secrets_waited |= self.secrets.iter().any(|id| id != REPORT_ID);
        assert_eq!(to.key.value(), Some(KEY));
        if self.effect().is_err() {
            return unheard();
        }
        self.did.push(Did::Reported(came.clone()));
        match self.console.len() {
            1 => self.console[0].clone(),
            _ => self.console.remove(0),
        }
    }

    fn wipe(&mut self, ids: &[&str]) -> io::Result<()> {
        self.effect()?;
        if self.wipe_fails {
            return Err(io::Error::new(io::ErrorKind::Other, "read-only"));
        }
        self.secrets.retain(|id| !ids.contains(&id.as_str()));
        self.did
            .extend(ids.iter().map(|id| Did::Wiped((*id).into())));
        Ok(())
    }

    fn wait(&mut self, seconds: u32) {
        self.did.push(Did::Waited(seconds));
    }

    fn stopping(&self) -> bool {
        self.stop_asked
    }

    fn restart(&mut self) -> io::Result<()> {
        self.effect()?;
        self.did.push(Did::Restarted);
        Ok(())
    }

    fn remove(&mut self) -> io::Result<()> {
        self.effect()?;
        self.did.push(Did::Removed);
        self.job_file = false;
        self.secrets.clear();
        Ok(())
    }

    fn end(&mut self, end: End) -> io::Result<()> {
        self.effect()?;
        self.did.push(Did::Ended(end));
        Ok(())
    }

    fn log(&mut self, line: &str) {
        self.log.push(line.into());
    }
}

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn unheard() -> Answer {
    Answer::Unheard("10.20.0.2:5003: connection refused".into())
}

fn program(id: &str, on_error: OnError) -> Step {
    Step {
        id: id.into(),
        action: Action::Run(Run {
            command: "setup.exe".into(),
            timeout_seconds: 60,
            ok_codes: vec![0],
            reboot_codes: vec![3010],
            on_error,
        }),
    }
}

fn user(id: &str) -> Step {
    Step {
        id: id.into(),
        action: Action::User(User {
            name: "labadmin".into(),
            full_name: None,
            groups: vec![Group::Sid(Group::ADMINISTRATORS.into())],
            password: Some(Secret::new("correct horse")),
            on_exists: OnExists::Update,
        }),
    }
}

fn join(id: &str) -> Step {
    Step {
        id: id.into(),
        action: Action::Join {
            blob: Secret::new("QUJDRA=="),
        },
    }
}

fn drivers() -> Step {
    Step {
        id: "drivers".into(),
        action: Action::InstallDrivers {
            folder: r"C:\drivers".into(),
        },
    }
}

/// A job with drivers, a join that needs a restart, a user, and two programs, the first of which
/// also needs a restart.
fn lab() -> Machine {
    Machine::new(Job {
        steps: vec![
            drivers(),
            join("secret.join"),
            user("secret.user"),
            program("run.1", OnError::Stop),
            program("run.2", OnError::Stop),
        ],
        end: End::Shutdown,
        report: None,
    })
    .answer("secret.join", &[Outcome::DoneRestart])
    .answer("run.1", &[Outcome::DoneRestart])
}

fn failed(reason: &str) -> Outcome {
    Outcome::Failed(reason.into())
}

#[test]
fn a_job_goes_through_its_restarts_in_order() {
    let mut machine = lab();
    assert_eq!(machine.starts(9), (3, Some(Pause::Finished)));
    let performed = |id: &str| Did::Performed(id.into());
    let wiped = |id: &str| Did::Wiped(id.into());
    let expected = vec![
        performed("drivers"),
        performed("secret.join"),
        wiped("secret.join"),
        Did::Restarted,
        performed("secret.user"),
        wiped("secret.user"),
        performed("run.1"),
        Did::Restarted,
        performed("run.2"),
        Did::Removed,
        Did::Ended(End::Shutdown),
    ];
    assert_eq!(machine.did, expected);
    // If the service could not be removed it is started again: it removes itself, and the machine
    // stays up.
    machine.did.clear();
    assert_eq!(machine.start().unwrap(), Pause::Finished);
    assert_eq!(machine.did, vec![Did::Removed]);
}

/// The power is cut before every single effect, and half-way through every line of the journal. The
/// job always ends the same.
#[test]
fn a_power_cut_at_every_moment_changes_nothing_in_the_end() {
    let mut effects = 0;
    loop {
        let mut machine = lab();
        machine.cut_after = Some(effects);
        let (starts, pause) = machine.starts(9);
        let uncut = machine.cut_after.is_some() && machine.powered;
        assert_eq!(pause, Some(Pause::Finished), "cut before effect {effects}");
        assert!(starts <= 5, "cut before effect {effects}: {starts} starts");
        assert!(machine.secrets.is_empty() && !machine.job_file);
        for id in ["drivers", "secret.join", "secret.user", "run.1", "run.2"] {
            let times = machine.performed(id);
            assert!(
                (1..=2).contains(&times),
                "cut before effect {effects}: {id} {times} times"
            );
        }
        let ends = machine
            .did
            .iter()
            .filter(|did| matches!(did, Did::Ended(_)))
            .count();
        assert!(ends <= 1, "cut before effect {effects}: {ends} end actions");
        let order: Vec<&Did> = machine
            .did
            .iter()
            .filter(|did| matches!(did, Did::Performed(_)))
            .collect();
        let mut sorted = order.clone();
        sorted.dedup();
        assert_eq!(sorted.len(), 5, "cut before effect {effects}: {order:?}");
        if uncut {
            break;
        }
        effects += 1;
    }
    // Number of effects of the uncut job: the loop has cut at each of them.
    assert_eq!(effects, 30);
}

#[test]
fn a_step_that_fails_is_tried_again_and_then_stops_the_job() {
    let mut machine = lab().answer("secret.join", &[failed("no such file")]);
    assert_eq!(machine.start().unwrap(), Pause::Stopped);
    assert_eq!(machine.performed("secret.join"), ATTEMPTS as usize);
    assert_eq!(machine.performed("secret.user"), 0);
    let waits: Vec<&Did> = machine
        .did
        .iter()
        .filter(|did| matches!(did, Did::Waited(_)))
        .collect();
    assert_eq!(
        waits,
        [5, 20, 60, 120].map(Did::Waited).iter().collect::<Vec<_>>()
    );
    // Secrets of steps that never ran are wiped too. There is no end action: a technician has to
    // look at the machine.
    assert!(machine.secrets.is_empty());
    assert!(!machine.did.iter().any(|did| matches!(did, Did::Ended(_))));
    assert_eq!(machine.did.last(), Some(&Did::Removed));
    assert!(machine
        .journal
        .contains("stopped secret.join: no such file ."));
}

#[test]
fn a_step_that_succeeds_at_last_is_done() {
    let mut machine = lab().answer(
        "secret.user",
        &[failed("not ready"), failed("not ready"), Outcome::Done],
    );
    assert_eq!(machine.starts(9), (3, Some(Pause::Finished)));
    assert_eq!(machine.performed("secret.user"), 3);
}

#[test]
fn a_program_that_failed_is_not_run_again() {
    let mut machine = lab().answer("run.1", &[failed("exit code 1603")]);
    assert_eq!(machine.starts(9).1, Some(Pause::Stopped));
    assert_eq!(machine.performed("run.1"), 1);
    assert_eq!(machine.performed("run.2"), 0);

    let mut machine = lab().answer("run.1", &[failed("exit code 1603")]);
    machine.job.steps[3] = program("run.1", OnError::Continue);
    assert_eq!(machine.starts(9).1, Some(Pause::Finished));
    assert_eq!(
        (machine.performed("run.1"), machine.performed("run.2")),
        (1, 1)
    );
    assert_eq!(machine.did.last(), Some(&Did::Ended(End::Shutdown)));
}

/// A technician restarts the machine during a program: that is no failure of the program.
#[test]
fn a_program_that_was_interrupted_has_its_turn_again() {
    let mut machine = lab().answer("run.2", &[Outcome::Interrupted, Outcome::Done]);
    assert_eq!(machine.starts(9), (4, Some(Pause::Finished)));
    assert_eq!(machine.performed("run.2"), 2);
}

/// An installer that restarts the machine by itself never returns an exit code.
#[test]
fn a_program_that_restarts_the_machine_is_given_up_after_some_starts() {
    let mut machine = lab();
    machine.journal = "boot .\nbegin drivers .\ndone drivers .\n".into();
    machine.job.steps.truncate(1);
    machine.job.steps.push(program("run.1", OnError::Stop));
    for _ in 0..ATTEMPTS {
        machine.journal.push_str("boot .\nbegin run.1 .\n");
    }
    assert_eq!(machine.start().unwrap(), Pause::Stopped);
    assert!(
        machine
            .journal
            .contains("stopped run.1: interrupted 5 times ."),
        "{}",
        machine.journal
    );
}

#[test]
fn secrets_go_after_too_many_starts() {
    // Every start is cut right after the boot entry: the job makes no progress.
    let mut machine = lab();
    let limit = machine.job.steps.len() + SPARE_BOOTS;
    machine.journal = "boot .\n".repeat(limit);
    assert_eq!(machine.start().unwrap(), Pause::Stopped);
    assert!(machine.secrets.is_empty());
    assert!(machine
        .did
        .iter()
        .all(|did| !matches!(did, Did::Performed(_) | Did::Restarted)));
    assert!(machine
        .journal
        .contains("stopped the machine was started 16 times"));
}

#[test]
fn nothing_is_done_without_the_journal() {
    let mut machine = lab();
    machine.journal_full = true;
    assert!(machine.start().is_err());
    assert!(machine.did.is_empty());
}

#[test]
fn secrets_that_cannot_be_wiped_are_told_and_go_with_the_file() {
    let mut machine = lab();
    machine.wipe_fails = true;
    assert_eq!(machine.starts(9).1, Some(Pause::Finished));
    assert!(machine.secrets.is_empty() && !machine.job_file);
    assert!(machine
        .log
        .iter()
        .any(|line| line.contains("wiping secrets failed: read-only")));
    assert!(machine.journal.contains("not-wiped secret.join ."));
}

#[test]
fn a_service_that_is_being_stopped_begins_nothing() {
    let mut machine = lab();
    machine.stop_asked = true;
    assert_eq!(machine.start().unwrap(), Pause::Restart);
    assert!(machine.did.is_empty());
    machine.stop_asked = false;
    assert_eq!(machine.starts(9).1, Some(Pause::Finished));
}

/// A system that repeats a command line in its error message would put the password into the log.
#[test]
fn no_secret_reaches_log_or_journal() {
    let mut machine = lab().answer(
        "secret.user",
        &[failed("net user labadmin correct horse: denied")],
    );
    machine.starts(9);
    let all = format!("{}{}", machine.journal, machine.log.join("\n"));
    assert!(!all.contains("correct horse"), "{all}");
    assert!(all.contains("net user labadmin ***: denied"), "{all}");
}

#[test]
fn a_job_reports_before_it_goes() {
    let mut machine = lab().reporting(&[unheard(), unheard(), Answer::Heard]);
    assert_eq!(machine.starts(9), (3, Some(Pause::Finished)));
    let reported = || Did::Reported(report::Outcome::Done);
    let end = [
        Did::Performed("run.2".into()),
        reported(),
        Did::Waited(2),
        reported(),
        Did::Waited(5),
        reported(),
        Did::Wiped(REPORT_ID.into()),
        Did::Removed,
        Did::Ended(End::Shutdown),
    ];
    assert!(machine.did.ends_with(&end), "{:?}", machine.did);
}

#[test]
fn a_job_of_a_report_alone_reports() {
    let mut machine = Machine::new(Job::default()).reporting(&[Answer::Heard]);
    assert_eq!(machine.start().unwrap(), Pause::Finished);
    let expected = [
        Did::Reported(report::Outcome::Done),
        Did::Wiped(REPORT_ID.into()),
        Did::Removed,
    ];
    assert_eq!(machine.did, expected);
}

#[test]
fn a_report_names_the_step_that_stopped_the_job() {
    let failed_so = |step: Option<&str>, reason: &str| report::Outcome::Failed {
        step: step.map(str::to_owned),
        reason: reason.into(),
    };
    let mut machine = lab()
        .answer("run.1", &[failed("exit code 1603")])
        .reporting(&[Answer::Heard]);
    assert_eq!(machine.starts(9).1, Some(Pause::Stopped));
    let expected = failed_so(Some("run.1"), "exit code 1603");
    assert_eq!(machine.reports(), [&expected]);
    assert_eq!((machine.ends(), machine.job_file), (0, false));

    let mut machine = lab().reporting(&[Answer::Heard]);
    machine.journal = "boot .\n".repeat(machine.job.steps.len() + SPARE_BOOTS);
    assert_eq!(machine.start().unwrap(), Pause::Stopped);
    let reason = "the machine was started 16 times before the job was over";
    assert_eq!(machine.reports(), [&failed_so(None, reason)]);

    // A program whose failure is ignored stops nothing.
    let mut machine = lab()
        .answer("run.1", &[failed("exit code 1603")])
        .reporting(&[Answer::Heard]);
    machine.job.steps[3] = program("run.1", OnError::Continue);
    machine.starts(9);
    assert_eq!(machine.reports(), [&report::Outcome::Done]);
}

#[test]
fn a_console_that_refuses_is_asked_once() {
    let mut machine = lab().reporting(&[Answer::Refused]);
    assert_eq!(machine.starts(9), (3, Some(Pause::Finished)));
    assert_eq!(machine.reports().len(), 1);
    assert_eq!(machine.did.last(), Some(&Did::Ended(End::Shutdown)));
    assert!(machine.secrets.is_empty() && !machine.job_file);
}

/// No console answers: the end action does not wait for later starts, each of which tries again;
/// after five everything is removed.
#[test]
fn a_report_that_is_never_heard_holds_nothing_up() {
    let tries = REPORT_WAITS_SECONDS.len();
    assert!(REPORT_WAITS_SECONDS.iter().sum::<u32>() >= 180);
    let mut machine = lab().reporting(&[unheard()]);
    assert_eq!(machine.starts(9), (3, Some(Pause::Finished)));
    assert_eq!(machine.reports().len(), tries);
    assert_eq!(machine.did.last(), Some(&Did::Ended(End::Shutdown)));
    assert_eq!(machine.secrets, [REPORT_ID]);
    assert!(machine.job_file);
    for later in 1..=REPORT_LATER_STARTS {
        machine.did.clear();
        assert!(machine.job_file, "start {later}");
        assert_eq!(machine.start().unwrap(), Pause::Finished);
        assert_eq!(machine.reports().len(), tries, "start {later}");
        assert_eq!(machine.ends(), 0, "start {later}");
        let steps = machine.did.iter();
        let mut steps = steps.filter(|did| matches!(did, Did::Performed(_) | Did::Restarted));
        assert_eq!(steps.next(), None);
    }
    assert_eq!(machine.did.last(), Some(&Did::Removed));
    assert!(machine.secrets.is_empty() && !machine.job_file);
    // Acknowledged at a later start: everything is removed, without a second end action.
    let mut machine = lab().reporting(&[unheard()]);
    machine.starts(9);
    machine.did.clear();
    machine.console = vec![Answer::Heard];
    assert_eq!(machine.start().unwrap(), Pause::Finished);
    let expected = [
        Did::Reported(report::Outcome::Done),
        Did::Wiped(REPORT_ID.into()),
        Did::Removed,
    ];
    assert_eq!(machine.did, expected);
}

/// The power is cut before every effect. At most the report is repeated, with the same content.
#[test]
fn a_power_cut_repeats_at_most_the_report() {
    for console in [
        vec![Answer::Heard],
        vec![Answer::Refused],
        vec![unheard(), unheard(), Answer::Heard],
        vec![unheard()],
    ] {
        let mut effects = 0;
        loop {
            let mut machine = lab().reporting(&console);
            machine.cut_after = Some(effects);
            let (starts, pause) = machine.starts(9);
            let uncut = machine.cut_after.is_some() && machine.powered;
            let told = format!("{console:?}, cut before effect {effects}");
            assert_eq!(pause, Some(Pause::Finished), "{told}");
            assert!(starts <= 5, "{told}: {starts} starts");
            let mut left = REPORT_LATER_STARTS + 1;
            while machine.job_file {
                assert!(left > 0, "{told}: the job stays");
                left -= 1;
                let _ = machine.start();
            }
            assert!(machine.secrets.is_empty(), "{told}");
            assert!(!machine.secrets_waited, "{told}");
            assert!(machine.ends() <= 1, "{told}");
            for came in machine.reports() {
                assert_eq!(came, &report::Outcome::Done, "{told}");
            }
            if console != [unheard()] {
                let sent = machine.reports().len();
                let most = console.len() + 1;
                assert!((console.len()..=most).contains(&sent), "{told}: {sent}");
            }
            let uncut = uncut && machine.cut_after.is_some() && machine.powered;
            if uncut {
                assert_eq!(machine.ends(), 1);
                break;
            }
            effects += 1;
        }
    }
}

#[test]
fn a_service_that_is_being_stopped_reports_at_the_next_start() {
    let mut machine = lab().reporting(&[Answer::Heard]);
    machine.journal = "boot .\nfinished .\nwiped secret.join .\nwiped secret.user .\n".into();
    machine.secrets.retain(|id| id == REPORT_ID);
    machine.stop_asked = true;
    assert_eq!(machine.start().unwrap(), Pause::Finished);
    assert!(machine.did.is_empty());
    machine.stop_asked = false;
    assert_eq!(machine.start().unwrap(), Pause::Finished);
    assert_eq!(machine.reports().len(), 1);
    assert_eq!(machine.did.last(), Some(&Did::Ended(End::Shutdown)));
}

#[test]
fn the_key_of_a_report_reaches_neither_log_nor_journal() {
    let mut machine = lab().reporting(&[Answer::Unheard(format!("no {KEY} here"))]);
    machine.starts(9);
    let all = format!("{}{}", machine.journal, machine.log.join("\n"));
    assert!(!all.contains(KEY) && all.contains("no *** here"), "{all}");
}

#[test]
fn an_empty_job_removes_itself() {
    let mut machine = Machine::new(Job::default());
    assert_eq!(machine.start().unwrap(), Pause::Finished);
    assert_eq!(machine.did, vec![Did::Removed]);
}

#[test]
fn a_cut_line_is_not_taken_for_a_shorter_one() {
    let whole = "boot .\nbegin run.10 .\ndone run.10 .\n";
    for length in 0..whole.len() {
        let journal = Journal::parse(&whole[..length]);
        assert!(!journal.step("run.1").done);
        assert!(!journal.step("run.10").done, "{length}");
        // The next start closes the cut line by a line end; it stays unreadable.
        let closed = Journal::parse(&format!("{}\nboot .\n", &whole[..length]));
        let complete = length == whole.len() - 1;
        assert_eq!(closed.step("run.10").done, complete, "{length}");
        assert!(!closed.step("run.1").done);
    }
}

fn entry() -> impl Strategy<Value = Entry> {
    let id = "[a-z0-9.-]{1,64}";
    prop_oneof![
        Just(Entry::Boot),
        Just(Entry::Restart),
        Just(Entry::Finished),
        Just(Entry::Ended),
        Just(Entry::Refused),
        Just(Entry::EndAction),
        id.prop_map(Entry::Begin),
        id.prop_map(Entry::Done),
        id.prop_map(Entry::DoneRestart),
        id.prop_map(Entry::Wiped),
        id.prop_map(Entry::NotWiped),
        (id, "\\PC{0,40}").prop_map(|(id, reason)| Entry::Failed {
            id,
            reason: reason.trim().into()
        }),
        "\\PC{0,40}x".prop_map(|reason| Entry::Stopped {
            reason: reason.trim().into()
        }),
    ]
}

proptest! {
    #[test]
    fn entries_are_read_as_they_were_written(entries in proptest::collection::vec(entry(), 0..20)) {
        let text: String = entries.iter().map(Entry::line).collect();
        let journal = Journal::parse(&text);
        prop_assert_eq!(journal.entries(), entries.as_slice());
    }

    /// For any content of a journal, by accident or malice, the job ends after a bounded number of
    /// actions, and no secret is left.
    #[test]
    fn any_journal_comes_to_an_end(
        entries in proptest::collection::vec(
            prop_oneof![
                Just("boot ."), Just("restart ."), Just("begin drivers ."), Just("done drivers ."), Just("begin secret.join ."),
                Just("done-restart secret.join ."), Just("failed secret.user why ."), Just("begin secret.user ."),
                Just("wiped secret.user ."), Just("done run.2 ."), Just("failed run.1 x ."), Just("nonsense"),
                Just("begin report ."), Just("failed report x ."), Just("done report ."), Just("refused ."), Just("finished ."),
                Just("stopped x ."), Just("end-action ."), Just("wiped report .")
            ], 0..30),
        heard in any::<bool>()
    ) {
        let mut machine = lab().reporting(&[if heard { Answer::Heard } else { unheard() }]);
        machine.journal = entries.iter().map(|line| format!("{line}\n")).collect();
        let (_, pause) = machine.starts(SPARE_BOOTS + 10);
        prop_assert!(pause.is_some());
        for _ in 0..REPORT_LATER_STARTS {
            machine.start().unwrap();
        }
        prop_assert!(machine.secrets.is_empty() && !machine.job_file);
    }
}
