//! The measurements: one function for each scenario, with the limit that the project's budgets set.

use std::time::Duration;

use super::network::{Folder, Network};
use super::options::Options;
use super::ours::{Deployed, Plan, Service, entry, share};
use super::payload::{self, Image, PeerImage, Programs};
use super::peers::{self, PeerRun};
use super::report::Report;
use crate::shell::Failure;

/// A scenario that can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Loss in thousandths.
    Transport(u32),
    Burst,
    /// Link rate in Mbit/s.
    EndToEnd(u64),
    Flat,
    SlowOne,
    KillOne,
    Reboot,
    Reuse,
    Memory,
}

impl Scenario {
    pub(crate) const ALL: [Self; 12] = [
        Self::Transport(0),
        Self::Transport(10),
        Self::Transport(50),
        Self::Burst,
        Self::EndToEnd(50),
        Self::EndToEnd(200),
        Self::Flat,
        Self::SlowOne,
        Self::KillOne,
        Self::Reboot,
        Self::Reuse,
        Self::Memory,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Transport(0) => "transport-0",
            Self::Transport(10) => "transport-1",
            Self::Transport(_) => "transport-5",
            Self::Burst => "burst",
            Self::EndToEnd(50) => "end-to-end-50",
            Self::EndToEnd(_) => "end-to-end-200",
            Self::Flat => "flat",
            Self::SlowOne => "slow-one",
            Self::KillOne => "kill-one",
            Self::Reboot => "reboot",
            Self::Reuse => "reuse",
            Self::Memory => "memory",
        }
    }

    pub(crate) fn parse(name: &str) -> Result<Self, Failure> {
        Self::ALL
            .into_iter()
            .find(|scenario| scenario.name() == name)
            .ok_or_else(|| {
                Failure::usage(format!(
                    "no scenario {name}; there are {}",
                    Self::ALL.map(Self::name).join(", ")
                ))
            })
    }

    /// Number of agents when the command line has none.
    fn agents(self) -> usize {
        match self {
            Self::EndToEnd(_) => 8,
            Self::Memory => 200,
            _ => 16,
        }
    }

    fn rate_bits_per_s(self) -> u64 {
        match self {
            Self::EndToEnd(mbit) => mbit * 1_000_000,
            // Two hundred agents share the cores of one machine.
            Self::Memory => 20_000_000,
            _ => 200_000_000,
        }
    }
}

/// State that all scenarios share: options, programs, folder, and images made once.
pub(crate) struct Bench<'a> {
    pub(crate) options: &'a Options,
    pub(crate) programs: &'a Programs,
    pub(crate) folder: &'a Folder,
    random: Option<Image>,
    ntfs: Option<(Image, Option<PeerImage>)>,
}

/// Seconds that plan, proof and commit may take beside the transfer.
const FIXED_S: f64 = 2.0;
/// Efficiency of the wire: 1408 payload bytes of 1514 in all; the others are headers, preamble,
/// check sequence and gap.
const ETA: f64 = 0.930;

/// Least number of seconds for the transfer of `bytes`.
fn transfer_s(bytes: u64, rate_bits_per_s: u64) -> f64 {
    bytes as f64 * 8.0 / (rate_bits_per_s as f64 * ETA)
}

/// Longest time that a run is waited for.
fn patience(bytes: u64, rate_bits_per_s: u64) -> Duration {
    Duration::from_secs_f64(60.0 + 5.0 * transfer_s(bytes, rate_bits_per_s))
}

/// Longest time that a run of a peer is waited for. Some hang under loss, and each hang takes this
/// long.
fn peer_patience(bytes: u64, rate_bits_per_s: u64) -> Duration {
    Duration::from_secs_f64(30.0 + 3.0 * transfer_s(bytes, rate_bits_per_s))
}

const ELAPSED: &str = "elapsed, s";
const JOB: &str = "of that, start of the job to the last target's end, s";
const RECEIVED: &str = "last target has all bytes after, s";
const OVER_LIMIT: &str = "(elapsed - 2 s) / (Bc / 0.930 R)";
const WIRE: &str = "bytes sent / payload";
const SENDER: [(&str, &str); 3] = [
    ("of that source symbols / payload", "source_bytes"),
    ("of that parity / payload", "parity_bytes"),
    ("of that over TCP 5003 / payload", "bulk_bytes"),
];
const CONSOLE_CPU: &str = "CPU of the console, s";
const TARGET_CPU: &str = "CPU of one target (mean), s";
const TARGET_CPU_MOST: &str = "CPU of one target (most), s";
const AGENT_MEMORY: &str = "memory of an agent (most), MiB";
const CONSOLE_MEMORY: &str = "memory of the console, MiB";

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

impl<'a> Bench<'a> {
    pub(crate) fn new(options: &'a Options, programs: &'a Programs, folder: &'a Folder) -> Self {
        Self {
            options,
            programs,
            folder,
            random: None,
            ntfs: None,
        }
    }

    /// Runs one scenario; an error becomes a fault of its report.
    pub(crate) fn run(&mut self, scenario: Scenario) -> Report {
        let agents = self.options.agents.unwrap_or(scenario.agents());
        let rate = self
            .options
            .rate_bits_per_s
            .unwrap_or(scenario.rate_bits_per_s());
        let mut report = Report::new(
            scenario.name(),
            format!("{agents} agents, {} Mbit/s", rate / 1_000_000),
        );
        let result = match scenario {
            Scenario::Transport(loss) => {
                self.transport(&mut report, agents, rate, f64::from(loss) / 1000.0)
            }
            Scenario::Burst => self.burst(&mut report, agents, rate),
            Scenario::EndToEnd(_) => self.end_to_end(&mut report, agents, rate),
            Scenario::Flat => self.flat(&mut report, agents, rate),
            Scenario::SlowOne => self.slow_one(&mut report, agents, rate),
            Scenario::KillOne => self.kill_one(&mut report, agents, rate),
            Scenario::Reboot => self.reboot(&mut report, agents, rate),
            Scenario::Reuse => self.reuse(&mut report, agents, rate),
            Scenario::Memory => self.memory(&mut report, agents, rate),
        };
        if let Err(failure) = result {
            report.fault(failure.to_string());
        }
        report
    }

    fn random(&mut self) -> Result<Image, Failure> {
        if self.random.is_none() {
            self.random = Some(payload::random(
                &self.folder.scratch,
                self.programs,
                "random.raw",
                self.options.payload,
            )?);
        }
        self.random
            .clone()
            .ok_or_else(|| Failure::new("no random image"))
    }

    fn plan(&self, agents: usize, agent_words: &[&str]) -> Plan {
        Plan {
            agents,
            agent_words: agent_words.iter().map(|&word| word.to_owned()).collect(),
            deploy_words: self.options.deploy.clone(),
        }
    }

    /// Makes one deployment to fresh agents; every target has to be done and right.
    fn once(
        &self,
        report: &mut Report,
        network: &Network,
        image: &Image,
        plan: Plan,
    ) -> Result<Deployed, Failure> {
        let agents = plan.agents;
        let mut service = self.service(network, image, plan)?;
        let limit = patience(image.bytes, network.rate_bits_per_s);
        let done = service.deploy(image, limit, &mut |_, _| Ok(()))?;
        for fault in service.faults(image, &done, 1..=agents) {
            report.fault(fault);
        }
        Ok(done)
    }

    fn service(
        &self,
        network: &'a Network,
        image: &Image,
        plan: Plan,
    ) -> Result<Service<'a>, Failure> {
        Service::start(
            network,
            self.programs,
            self.folder.scratch.path(),
            image.disk_bytes,
            plan,
        )
    }

    fn runs(&self, scenario: &str) -> impl Iterator<Item = usize> + use<> {
        let (runs, scenario) = (self.options.runs, scenario.to_owned());
        (1..=runs).inspect(move |run| eprintln!("bench: {scenario}: run {run} of {runs}"))
    }

    fn transport(
        &mut self,
        report: &mut Report,
        agents: usize,
        rate: u64,
        loss: f64,
    ) -> Result<(), Failure> {
        let image = self.random()?;
        let (over_limit, wire) = match loss {
            l if l < 0.005 => (1.04, 1.07),
            l if l < 0.03 => (1.07, 1.085),
            _ => (1.13, 1.15),
        };
        let network = Network::up(agents, rate)?;
        network.lose(loss)?;
        let uftp = self.options.peers && peers::present(&["uftp", "uftpd"]);
        let udpcast = self.options.peers && peers::present(&["udp-sender", "udp-receiver"]);
        let folder = self.folder.scratch.path();
        for _ in self.runs(&format!("transport, loss {loss}")) {
            let done = self.once(report, &network, &image, self.plan(agents, &[]))?;
            sending(report, &done, &image, rate, over_limit, wire);
            let limit = peer_patience(image.bytes, rate);
            if uftp {
                let run = peers::uftp(&network, folder, &image.path, limit)?;
                peer_sending(report, "uftp", &run, image.bytes, rate);
            }
            if udpcast {
                let run = peers::udpcast(&network, folder, &image.path, limit)?;
                peer_sending(report, "udpcast", &run, image.bytes, rate);
            }
        }
        Ok(())
    }

    fn burst(&mut self, report: &mut Report, agents: usize, rate: u64) -> Result<(), Failure> {
        let image = self.random()?;
        let network = Network::up(agents, rate)?;
        report.note("Loss is made inside the agents: 1 % of packets, 32 at a time.");
        for _ in self.runs("burst") {
            let words = ["--inject-loss", "0.01", "--inject-burst", "32"];
            let done = self.once(report, &network, &image, self.plan(agents, &words))?;
            sending(report, &done, &image, rate, 1.15, 1.15);
        }
        Ok(())
    }

    fn end_to_end(&mut self, report: &mut Report, agents: usize, rate: u64) -> Result<(), Failure> {
        const OVER_LINK: &str = "elapsed / (compressed bytes / R)";
        const OVER_PEER: &str = "elapsed / the peer's";
        const PEER: &str = "udpcast + zstd + partclone";
        let with_peer = self.options.peers
            && peers::present(&["udp-sender", "udp-receiver", "partclone.restore", "zstd"]);
        if self.ntfs.is_none() {
            eprintln!("bench: making an NTFS disk");
            self.ntfs = Some(payload::ntfs(
                &self.folder.scratch,
                self.programs,
                self.options.files,
                with_peer,
            )?);
        }
        let Some((image, peer_image)) = self.ntfs.clone() else {
            return Ok(());
        };
        let slow = rate < 100_000_000;
        report.note(format!(
            "NTFS with {} MiB of files: {:.1} MB compressed{}.",
            self.options.files >> 20,
            image.bytes as f64 / 1e6,
            peer_image.as_ref().map_or(String::new(), |peer| format!(
                ", the peer's {:.1} MB",
                peer.bytes as f64 / 1e6
            ))
        ));
        let network = Network::up(agents, rate)?;
        for _ in self.runs("end to end") {
            let done = self.once(report, &network, &image, self.plan(agents, &[]))?;
            let over_link = |wall_s: f64, bytes: u64| wall_s * rate as f64 / 8.0 / bytes as f64;
            report.ours(ELAPSED, done.wall_s);
            report.ours(JOB, done.job_s);
            let ours = over_link(done.wall_s, image.bytes);
            let wire = done.sent_bytes as f64 / image.bytes as f64;
            if slow {
                report.limited(OVER_LINK, ours, 1.10);
                report.ours(WIRE, wire);
            } else {
                report.ours(OVER_LINK, ours);
                report.limited(WIRE, wire, 1.08);
            }
            costs(report, &done);
            report.limited(TARGET_CPU_MOST, done.agent_cpu_s().0, 4.0);
            report.limited(AGENT_MEMORY, mib(done.agent_peak_bytes()), 128.0);
            let Some(peer_image) = peer_image.as_ref() else {
                continue;
            };
            let limit = peer_patience(peer_image.bytes, rate);
            let folder = self.folder.scratch.path();
            let run = peers::udpcast_partclone(&network, folder, peer_image, limit)?;
            if let Some(wall_s) = run.wall_s {
                report.peer(ELAPSED, PEER, wall_s);
                report.peer(OVER_LINK, PEER, over_link(wall_s, peer_image.bytes));
                if slow {
                    report.ours(OVER_PEER, done.wall_s / wall_s);
                } else {
                    report.limited(OVER_PEER, done.wall_s / wall_s, 0.6);
                }
                report.peer(WIRE, PEER, run.sent_bytes as f64 / peer_image.bytes as f64);
                report.peer(TARGET_CPU, PEER, run.target_cpu_s);
            }
            if let Some(blemish) = run.blemish() {
                report.note(format!("{PEER}: {blemish}"));
            }
        }
        Ok(())
    }

    fn flat(&mut self, report: &mut Report, agents: usize, rate: u64) -> Result<(), Failure> {
        let image = self.random()?;
        let network = Network::up(agents, rate)?;
        for _ in self.runs("flat") {
            let one = self.once(report, &network, &image, self.plan(1, &[]))?;
            let all = self.once(report, &network, &image, self.plan(agents, &[]))?;
            report.ours("elapsed with one agent, s", one.wall_s);
            report.ours("elapsed with all agents, s", all.wall_s);
            report.limited("all / one", all.wall_s / one.wall_s, 1.03);
        }
        Ok(())
    }

    fn slow_one(&mut self, report: &mut Report, agents: usize, rate: u64) -> Result<(), Failure> {
        let image = self.random()?;
        let network = Network::up(agents, rate)?;
        for _ in self.runs("slow one") {
            let without = self.once(report, &network, &image, self.plan(agents, &[]))?;
            network.limit(1, rate / 3)?;
            let with = self.once(report, &network, &image, self.plan(agents, &[]))?;
            network.limit(1, rate)?;
            others(report, &without, &with);
            report.ours(
                "seconds of the slow one / of the others",
                with.targets[0]["seconds"].as_f64().unwrap_or(0.0) / with.last_s(2..),
            );
            report.ours(WIRE, with.sent_bytes as f64 / image.bytes as f64);
            sender(report, &with, image.bytes);
        }
        Ok(())
    }

    fn kill_one(&mut self, report: &mut Report, agents: usize, rate: u64) -> Result<(), Failure> {
        let image = self.random()?;
        let network = Network::up(agents, rate)?;
        for _ in self.runs("kill one") {
            let without = self.once(report, &network, &image, self.plan(agents, &[]))?;
            let mut service = self.service(&network, &image, self.plan(agents, &[]))?;
            let mut killed = None;
            let with =
                service.deploy(&image, patience(image.bytes, rate), &mut |service, view| {
                    let at = entry(view, 1).map_or(0.0, share);
                    if killed.is_none() && at >= 0.4 {
                        killed = Some(at);
                        service.agents[0].kill();
                    }
                    Ok(())
                })?;
            match killed {
                Some(at) => report.ours("killed at share of the image", at),
                None => report.fault("no agent was seen midway, so none was killed"),
            }
            for fault in service.faults(&image, &with, 2..=agents) {
                report.fault(fault);
            }
            if with.targets[0]["state"] != "lost" {
                report.fault(format!(
                    "the killed agent is {}, not lost",
                    with.targets[0]["state"]
                ));
            }
            others(report, &without, &with);
        }
        Ok(())
    }

    fn reboot(&mut self, report: &mut Report, agents: usize, rate: u64) -> Result<(), Failure> {
        const AT: f64 = 0.6;
        let image = self.random()?;
        let network = Network::up(agents, rate)?;
        for _ in self.runs("reboot") {
            let mut service = self.service(&network, &image, self.plan(agents, &[]))?;
            let mut received_before = None;
            let mut at = 0.0;
            let done =
                service.deploy(&image, patience(image.bytes, rate), &mut |service, view| {
                    let now = entry(view, 1).map_or(0.0, share);
                    if received_before.is_none() && now >= AT {
                        at = now;
                        service.agents[0].kill();
                        received_before = Some(network.bytes(1)?.1);
                        service.restart_agent(1)?;
                    }
                    Ok(())
                })?;
            let Some(before) = received_before else {
                report.fault("no agent was seen at 60 %, so none was rebooted");
                continue;
            };
            let received = network.bytes(1)?.1 - before;
            for fault in service.faults(&image, &done, 1..=agents) {
                report.fault(fault);
            }
            report.ours("rebooted at share of the image", at);
            report.limited(
                "bytes received again / payload",
                received as f64 / image.bytes as f64,
                0.45,
            );
            report.ours(ELAPSED, done.wall_s);
            report.ours(WIRE, done.sent_bytes as f64 / image.bytes as f64);
        }
        Ok(())
    }

    fn reuse(&mut self, report: &mut Report, agents: usize, rate: u64) -> Result<(), Failure> {
        const CHUNK: u64 = 1 << 20;
        let image = self.random()?;
        let chunks = image.disk_bytes / CHUNK;
        let changed = (chunks / 100).max(1);
        let scratch = &self.folder.scratch;
        let second = payload::changed(scratch, self.programs, &image, CHUNK, changed)?;
        report.note(format!("{changed} of {chunks} chunks changed."));
        let network = Network::up(agents, rate)?;
        for _ in self.runs("reuse") {
            let mut service = self.service(&network, &image, self.plan(agents, &[]))?;
            let limit = patience(image.bytes, rate);
            let first = service.deploy(&image, limit, &mut |_, _| Ok(()))?;
            for fault in service.faults(&image, &first, 1..=agents) {
                report.fault(fault);
            }
            service.start_agents()?;
            let again = service.deploy(&second, limit, &mut |_, _| Ok(()))?;
            for fault in service.faults(&second, &again, 1..=agents) {
                report.fault(fault);
            }
            report.ours("elapsed, first, s", first.wall_s);
            report.ours("elapsed, again, s", again.wall_s);
            report.limited(WIRE, again.sent_bytes as f64 / second.bytes as f64, 0.03);
            sender(report, &again, second.bytes);
        }
        Ok(())
    }

    /// Measures the console's memory with real agents on real connections. They share a few
    /// machines and get a small disk, because only their number matters to the console. The other
    /// scenarios measure an agent's memory for a larger image.
    fn memory(&mut self, report: &mut Report, agents: usize, rate: u64) -> Result<(), Failure> {
        const MACHINES: usize = 8;
        let bytes = (self.options.payload / 8).max(4 << 20);
        let image = payload::random(&self.folder.scratch, self.programs, "small.raw", bytes)?;
        let network = Network::up(agents.min(MACHINES), rate)?;
        report.note(format!(
            "{agents} agents on {} machines of the room, {} MiB each.",
            network.targets,
            bytes >> 20
        ));
        for _ in self.runs("memory") {
            let done = self.once(report, &network, &image, self.plan(agents, &[]))?;
            report.ours(ELAPSED, done.wall_s);
            report.limited(CONSOLE_MEMORY, mib(done.console_peak_bytes), 256.0);
            report.limited(AGENT_MEMORY, mib(done.agent_peak_bytes()), 128.0);
            report.ours(WIRE, done.sent_bytes as f64 / image.bytes as f64);
            costs(report, &done);
        }
        Ok(())
    }
}

fn costs(report: &mut Report, done: &Deployed) {
    if let Some(last) = done.received_s {
        report.ours(RECEIVED, last);
    }
    report.ours(CONSOLE_CPU, done.console.total_s());
    report.ours(TARGET_CPU, done.agent_cpu_s().1);
}

/// Adds the kinds of bytes on the wire; the remainder is headers and control traffic.
fn sender(report: &mut Report, done: &Deployed, payload: u64) {
    for (name, counter) in SENDER {
        report.ours(name, done.sender(counter) / payload as f64);
    }
}

fn sending(
    report: &mut Report,
    done: &Deployed,
    image: &Image,
    rate: u64,
    over_limit: f64,
    wire: f64,
) {
    report.ours(ELAPSED, done.wall_s);
    report.ours(JOB, done.job_s);
    report.limited(
        OVER_LIMIT,
        (done.wall_s - FIXED_S) / transfer_s(image.bytes, rate),
        over_limit,
    );
    report.limited(WIRE, done.sent_bytes as f64 / image.bytes as f64, wire);
    sender(report, done, image.bytes);
    costs(report, done);
    report.limited(AGENT_MEMORY, mib(done.agent_peak_bytes()), 128.0);
    report.ours(CONSOLE_MEMORY, mib(done.console_peak_bytes));
}

fn peer_sending(report: &mut Report, peer: &'static str, run: &PeerRun, bytes: u64, rate: u64) {
    if let Some(wall_s) = run.wall_s {
        report.peer(ELAPSED, peer, wall_s);
        // The peers are given the same two seconds.
        report.peer(
            OVER_LIMIT,
            peer,
            (wall_s - FIXED_S) / transfer_s(bytes, rate),
        );
        // A run that was cut has no figures, only a note.
        report.peer(WIRE, peer, run.sent_bytes as f64 / bytes as f64);
        report.peer(TARGET_CPU, peer, run.target_cpu_s);
    }
    if let Some(blemish) = run.blemish() {
        report.note(format!("{peer}: {blemish}"));
    }
}

/// Measures the cost of agent 1, the slow or lossy one, to the others.
fn others(report: &mut Report, without: &Deployed, with: &Deployed) {
    report.ours("the others without it, s", without.last_s(2..));
    report.ours("the others beside it, s", with.last_s(2..));
    report.limited(
        "the others beside it / without it",
        with.last_s(2..) / without.last_s(2..),
        1.05,
    );
}
