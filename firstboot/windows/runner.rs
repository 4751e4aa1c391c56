//! One start of the program: reads job and journal, carries out the steps, and turns the result
//! into an exit code.

use crate::log::Log;
use crate::{report, steps, sys, SERVICE};
use firstboot::job::{Action, End, ReportTo, Step};
use firstboot::machine::{self, Answer, Executor, Outcome, Pause};
use firstboot::store::Store;
use firstboot::{Entry, Job};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Most attempts at a restart; Windows refuses them while it is still starting.
const RESTART_ATTEMPTS: u32 = 24;

#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Mode {
    /// Started by hand: no restart, no service to remove, no waiting for Setup.
    Console,
    /// Started by the service control manager.
    Service,
}

pub(crate) struct Runner {
    store: Store,
    log: Log,
    mode: Mode,
}

impl Runner {
    pub(crate) fn new(job: &Path, mode: Mode) -> Self {
        Self {
            store: Store::new(job),
            log: Log::new(&job.with_extension("log"), mode == Mode::Console),
            mode,
        }
    }

    /// Runs one start; returns the exit code of `--run`.
    pub(crate) fn start(mut self) -> i32 {
        self.log.line(concat!(
            "diskcast-firstboot ",
            env!("DISKCAST_VERSION"),
            ": start"
        ));
        match self.carry_on() {
            Ok(Pause::Finished) => 0,
            Ok(Pause::Stopped) => 1,
            Ok(Pause::Restart) => 3010,
            Err(error) => {
                self.log.line(&format!("cannot go on: {}", error));
                match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::InvalidData => 2,
                    _ => 3,
                }
            }
        }
    }

    fn carry_on(&mut self) -> io::Result<Pause> {
        let mut journal = self.store.read_journal()?;
        if journal.ended() {
            return machine::run(&Job::default(), &mut journal, self);
        }
        let job = match self.store.read_job() {
            Ok(text) => {
                Job::parse(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
            }
            Err(error) => Err(error),
        };
        match job {
            Ok(job) => machine::run(&job, &mut journal, self),
            // A disk with a temporary fault may work at the next start.
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::InvalidData
                ) =>
            {
                Err(error)
            }
            Err(error) => {
                // The job cannot be repaired here, and it may hold secrets.
                self.log.line(&format!("no job can be done: {}", error));
                let removed = self.remove();
                if let Err(error) = removed {
                    self.log
                        .line(&format!("removing the service failed: {}", error));
                }
                Err(error)
            }
        }
    }

    /// Waits for the end of Setup: Sysprep's passes and the first-run pages restart the machine at
    /// any time, and undo names and accounts.
    fn wait_for_setup(&self) {
        if self.mode == Mode::Console || !sys::setup_is_running() {
            return;
        }
        self.log
            .line("Windows Setup is still running: waiting for its end");
        while sys::setup_is_running() && !sys::service::stopping() {
            sys::sleep(Duration::from_secs(5));
        }
    }
}

impl Executor for Runner {
    fn record(&mut self, entry: &Entry) -> io::Result<()> {
        self.store.record(entry)?;
        if *entry == Entry::Boot {
            // After the start was counted, so that a machine left in Setup does not keep its
            // secrets for ever.
            self.wait_for_setup();
        }
        Ok(())
    }

    fn perform(&mut self, step: &Step) -> Outcome {
        match &step.action {
            Action::Network(network) => steps::network(network, &self.log),
            Action::User(user) => steps::user(user, &self.log),
            Action::Join { blob } => steps::join(blob, self.store.job_path(), &self.log),
            Action::InstallDrivers { folder } => {
                steps::install_drivers(Path::new(folder), &self.log)
            }
            Action::Run(run) => steps::run(run, &self.log),
        }
    }

    fn report(&mut self, to: &ReportTo, came: &firstboot::report::Outcome) -> Answer {
        report::send(to, came, &self.log)
    }

    fn wipe(&mut self, ids: &[&str]) -> io::Result<()> {
        self.store.wipe(ids)
    }

    fn wait(&mut self, seconds: u32) {
        if self.mode == Mode::Console {
            return;
        }
        let end = Instant::now() + Duration::from_secs(u64::from(seconds));
        while Instant::now() < end && !sys::service::stopping() {
            sys::sleep(Duration::from_millis(500));
        }
    }

    fn stopping(&self) -> bool {
        sys::service::stopping()
    }

    fn restart(&mut self) -> io::Result<()> {
        match self.mode {
            Mode::Console => Ok(()),
            Mode::Service => self.power(true),
        }
    }

    fn remove(&mut self) -> io::Result<()> {
        let job = self.store.remove_job();
        if self.mode == Mode::Console {
            return job;
        }
        let service = sys::service::delete(SERVICE);
        let program = std::env::current_exe().and_then(|exe| sys::delete_at_restart(&exe));
        job.and(service).and(program)
    }

    fn end(&mut self, end: End) -> io::Result<()> {
        match (self.mode, end) {
            (Mode::Console, _) | (_, End::None) => Ok(()),
            (Mode::Service, End::Restart) => self.power(true),
            (Mode::Service, End::Shutdown) => self.power(false),
        }
    }

    fn log(&mut self, line: &str) {
        self.log.line(line);
    }
}

impl Runner {
    fn power(&mut self, restart: bool) -> io::Result<()> {
        let mut attempt = 1;
        loop {
            match sys::shut_down(restart) {
                Ok(()) => return Ok(()),
                Err(error) if attempt >= RESTART_ATTEMPTS || sys::service::stopping() => {
                    return Err(error)
                }
                Err(_) => sys::sleep(Duration::from_secs(5)),
            }
            attempt += 1;
        }
    }
}
