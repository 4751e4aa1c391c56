//! The sequence of a start, from a fresh kernel to an agent that serves its console.

#![expect(
    clippy::disallowed_methods,
    reason = "booting happens in real time, and the kernel's settings are files"
)]

use super::board::{Board, Machine};
use super::cmdline::Settings;
use super::event::Teller;
use super::modules::load::Modules;
use super::modules::plug;
use super::network::bring_up::{self, Plan};
use super::network::cards::Card;
use super::screen::terminals::Serials;
use super::{end, screen};
use agent::desk::{Desk, Line};
use agent::{AgentOptions, OnEnd, machine};
use net::receiving::InjectedLoss;
use std::fs;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Longest wait for any disk before the agent joins without one, because of slow controllers and
/// broken disks.
const DISKS: Duration = Duration::from_secs(15);
/// Interval between two checks for disks.
const DISK_POLL: Duration = Duration::from_millis(100);
/// Longest wait for devices that keep appearing before the agent joins.
const SETTLE: Duration = Duration::from_secs(10);

/// Runs the pre-OS. Returns only when it cannot go on.
pub fn run() -> ExitCode {
    let began = Instant::now();
    let settings = Settings::parse(&fs::read_to_string("/proc/cmdline").unwrap_or_default());
    let serials = Serials::start();
    log(&settings, &serials);
    // The kernel requests modules from this program, and keeps messages below "critical" off the
    // screen.
    for (setting, value) in [
        ("/proc/sys/kernel/modprobe", "/init"),
        ("/proc/sys/kernel/printk", "3"),
    ] {
        if let Err(error) = fs::write(setting, value) {
            tracing::debug!(setting, %error, "not set");
        }
    }
    let (board, desk) = (Board::default(), Desk::with_screen());
    board.change(|situation| {
        situation.pin = settings.pin;
        situation.console = settings.console;
        situation.remarks.clone_from(&settings.problems);
    });
    match boot(settings, &board, desk, serials, began) {
        Ok(never) => never,
        Err(error) => {
            tracing::error!(%error, "the pre-OS cannot go on");
            board.change(|situation| situation.failure = Some(format!("{error}.")));
            // Long enough to read the screen, short enough for the next try.
            std::thread::sleep(Duration::from_secs(20));
            ExitCode::FAILURE
        }
    }
}

fn boot(
    settings: Settings,
    board: &Board,
    desk: Desk,
    serials: Serials,
    began: Instant,
) -> Result<ExitCode, BootError> {
    let thread = BootError::Thread;
    screen::start(board.clone(), desk.clone(), serials, began).map_err(thread)?;
    if settings.shell && !super::shell::start() {
        board.remark("diskcast.shell: this pre-OS has no shell.".into());
    }
    let own = machine::gather(Some(Vec::new()));
    board.change(|situation| {
        situation.machine = Machine {
            model: own.model.clone(),
            serial: own.serial.clone(),
            uuid: own.uuid.clone(),
            firmware: own.firmware.clone(),
        };
    });
    let modules = Arc::new(Modules::open());
    let devices = plug::start(Arc::clone(&modules)).map_err(thread)?;
    let (addresses, have) = channel();
    bring_up::start(Plan {
        settings: settings.clone(),
        uuid: own.uuid.as_deref().and_then(|uuid| uuid.parse().ok()),
        board: board.clone(),
        began,
        addresses,
    })
    .map_err(thread)?;
    let (card, address) = have.recv().map_err(|_| BootError::Network)?;
    tracing::info!(seconds = began.elapsed().as_secs_f32(), "network is up");
    let teller = Teller::start(settings.boot, card.mac, own.uuid.clone());
    teller.tell("initramfs", format!("{} has {address}", card.name));
    wait_for_disks(&devices, board, began);
    let Some(pin) = settings.pin else {
        teller.tell("unusable", "no diskcast.pin on the kernel command line");
        loop {
            std::thread::park();
        }
    };
    teller.tell("agent", format!("version {}", env!("CARGO_PKG_VERSION")));
    follow(have, desk.clone(), teller.clone(), began);
    let ending = (board.clone(), Arc::clone(&modules));
    let options = AgentOptions {
        console: settings.console.map(|console| console.to_string()),
        pin,
        disks: Vec::new(),
        once: false,
        power: true,
        // Multicast has to use the card that booted, even if several cards have an address.
        interface: Some(address),
        name: None,
        second: settings.second,
        inject: InjectedLoss::NONE,
        desk,
        on_end: Some(OnEnd(Arc::new(move |action, disk| {
            end::obey(action, disk, &ending.0, &ending.1);
        }))),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(thread)?;
    runtime.block_on(agent::run(options))?;
    Ok(ExitCode::SUCCESS)
}

/// Waits, within limits, until the devices present at the start have their drivers and a disk is
/// there, because an agent reports its disks when it joins.
fn wait_for_disks(devices: &plug::Devices, board: &Board, began: Instant) {
    loop {
        let waited = began.elapsed();
        let settled = devices.settled() || waited > SETTLE;
        let disks = disk::device::list();
        if settled && !disks.is_empty() {
            tracing::info!(
                seconds = waited.as_secs_f32(),
                disks = disks.len(),
                "devices are there"
            );
            return;
        }
        if waited > DISKS {
            tracing::warn!("no disk was found");
            board.remark("No disk was found. Is its controller's module in the pre-OS (profile full)? Is the disk switched on in the firmware (RAID mode, VMD)?".into());
            return;
        }
        std::thread::sleep(DISK_POLL);
    }
}

/// Reports to the boot service each time the console accepts this machine, and logs addresses that
/// change.
fn follow(addresses: Receiver<(Card, Ipv4Addr)>, desk: Desk, teller: Teller, began: Instant) {
    let _ = std::thread::Builder::new().name("stages".into()).spawn(move || {
        let mut joined = false;
        let mut version = 0;
        loop {
            version = desk.wait(version, Duration::from_secs(2));
            while let Ok((card, address)) = addresses.try_recv() {
                tracing::debug!(card = card.name, %address, "lease renewed");
            }
            let line = desk.standing().line;
            let now = matches!(line, Line::Joined { .. });
            if let (Line::Joined { console, name, .. }, false) = (&line, joined) {
                tracing::info!(seconds = began.elapsed().as_secs_f32(), %console, %name, "joined");
                teller.tell("joined", name.clone());
            }
            joined = now;
        }
    });
}

fn log(settings: &Settings, serials: &Serials) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_new(&settings.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let writer = serials.clone();
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_target(false)
        .with_writer(move || Owned(writer.clone()))
        .try_init();
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("{panic}");
        // The line has to leave before the process ends.
        std::thread::sleep(Duration::from_millis(300));
    }));
}

/// A separate writer for each line.
struct Owned(Serials);

impl std::io::Write for Owned {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        (&self.0).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The reason the pre-OS cannot go on.
#[derive(Debug, thiserror::Error)]
enum BootError {
    /// A thread or the runtime cannot be started.
    #[error("starting: {0}")]
    Thread(std::io::Error),
    /// The threads of the network ended.
    #[error("the network ended")]
    Network,
    /// The agent ended with an error.
    #[error(transparent)]
    Agent(#[from] agent::AgentError),
}
