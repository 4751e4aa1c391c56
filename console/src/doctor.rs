//! `diskcast doctor` on the console: requests to the targets, the probe, and the collection of
//! answers.
//!
//! ```text
//! request to each target -> all joined (or 4 s) -> settle -> probe on both lanes -> answers (or 6 s) -> verdicts
//!                                                  own machine, other consoles, DHCP meanwhile
//! ```
//!
//! Owns the one run at a time, and the choice of answers that belong to it. Never sends a probe
//! while a session runs: each would disturb the other. Invariant: an answer counts once, for the
//! target whose connection it came on.

use super::context::Console;
use super::interface::interface_speed;
use super::{doctor_self, time};
use api::doctor::{ConsoleHealth, DoctorOptions, DoctorReport, ProbeView, TargetHealth, Verdict};
use api::select::Selector;
use api::{ApiError, ErrorCode, SCHEMA_VERSION, TargetView};
use jobs::doctor::{self as judge, Measured, finding};
use jobs::naming::clean_line;
use jobs::rate;
use net::probe_run::{self, ProbeSent, ProbeSpec};
use protocol::control::{ConsoleMessage, DoctorAnswer, DoctorRequest, LaneCounts};
use protocol::doctor::MAX_SECONDS;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Longest time for an agent to join both groups.
const JOINED_WITHIN: Duration = Duration::from_secs(4);
/// Time for switches to process the memberships.
const SETTLE: Duration = Duration::from_millis(500);
/// Longest time from the end of the probe to the last answer: a second for the disk test, and a
/// reserve.
const ANSWERED_WITHIN: Duration = Duration::from_secs(6);
/// Time after the last packet of the probe for queued packets to arrive.
const DRAIN: Duration = Duration::from_millis(300);
/// Time for which agents listen for beacons when no probe is sent.
const BEACONS: Duration = Duration::from_millis(2500);
const DEFAULT_SECONDS: f64 = 3.0;
const MIN_SECONDS: f64 = 0.2;
/// Rate of the probe in bytes per second if no link speed is known; also the first rate of a
/// session.
const DEFAULT_RATE_BYTES_PER_S: u64 = 25_000_000;
/// Lowest and highest rate of a probe in bytes per second: 100 kbit/s and 100 Gbit/s.
const RATES_BYTES_PER_S: (u64, u64) = (12_500, 12_500_000_000);
/// Share of a known link in percent that a session may use; the same as for sessions.
const LINK_SHARE_PERCENT: u64 = 97;
/// Maximum number of messages of agents that wait: two from each of 1000.
const QUEUE: usize = 2048;
/// Longest text from an agent, in characters.
const MAX_TEXT: usize = 200;
const MAX_ENTRIES: usize = 16;

/// Message of an agent about a run.
pub enum Word {
    /// The agent has joined the groups; its clock in microseconds since 1970.
    Ready(i64),
    /// Results of the agent.
    Answer(Box<DoctorAnswer>),
}

struct Heard {
    target: String,
    at: Instant,
    wall_us: i64,
    word: Word,
}

/// State of `doctor`, with one run at a time.
#[derive(Default)]
pub struct Doctor {
    /// Lock held during a run.
    one: tokio::sync::Mutex<()>,
    run: Mutex<Option<(String, mpsc::Sender<Heard>)>>,
}

impl Doctor {
    /// Queues a message of an agent about the present run. A message for no run, or beyond the
    /// queue, is dropped.
    pub fn heard(&self, target: &str, run: &str, word: Word) {
        let current = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((id, queue)) = current.as_ref()
            && id == run
        {
            let _ = queue.try_send(Heard {
                target: target.to_owned(),
                at: Instant::now(),
                wall_us: jiff::Timestamp::now().as_microsecond(),
                word,
            });
        }
    }

    fn listen(&self, id: &str) -> mpsc::Receiver<Heard> {
        let (queue, heard) = mpsc::channel(QUEUE);
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = Some((id.to_owned(), queue));
        heard
    }

    fn end(&self) {
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Resources of a run, returned on drop, also if the client disconnects early.
struct Run<'c> {
    console: &'c Console,
    slot: Option<u8>,
}

impl<'c> Run<'c> {
    fn begin(console: &'c Console) -> Self {
        let slot = console.jobs.take_slot();
        Self { console, slot }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.console.jobs.return_slot(slot);
        }
        self.console.doctor.end();
    }
}

/// State of one target in a run.
struct Asked {
    health: TargetHealth,
    at: Option<Instant>,
    ready: bool,
}

impl Console {
    /// Checks the targets and the console's own machine. Without a matching target the report has
    /// no targets.
    ///
    /// # Errors
    /// `Usage` for invalid options, `Refused` while another run is under way.
    pub async fn examine(&self, options: DoctorOptions) -> Result<DoctorReport, ApiError> {
        let _one = self.doctor.one.try_lock().map_err(|_| {
            ApiError::new(ErrorCode::Refused, "another doctor is at work")
                .hint("wait for it; two probes would measure each other")
        })?;
        let views = self.chosen(options.targets.as_deref())?;
        let seconds = options.seconds.unwrap_or(DEFAULT_SECONDS);
        if !(MIN_SECONDS..=MAX_SECONDS).contains(&seconds) {
            let message =
                format!("a probe of {seconds} s: expected {MIN_SECONDS} to {MAX_SECONDS}");
            return Err(ApiError::new(ErrorCode::Usage, message));
        }
        let run = Run::begin(self);
        self.examine_with(run.slot, &views, &options, seconds).await
    }

    /// Returns the targets that a selector matches, connected or not.
    fn chosen(&self, selector: Option<&str>) -> Result<Vec<TargetView>, ApiError> {
        let selector: Selector = selector
            .unwrap_or("all")
            .parse()
            .map_err(|error| ApiError::new(ErrorCode::Usage, format!("--targets: {error}")))?;
        let mut views = self.roster.views();
        views.retain(|view| selector.matches(view));
        Ok(views)
    }

    async fn examine_with(
        &self,
        slot: Option<u8>,
        views: &[TargetView],
        options: &DoctorOptions,
        seconds: f64,
    ) -> Result<DoctorReport, ApiError> {
        let number = random()?;
        let id = facts::hex::encode(&number.to_be_bytes());
        let settings = &self.settings;
        // Slot 0 is free only if no session runs; only then may a probe be sent.
        let stream = slot == Some(0) && views.iter().any(|view| view.connected);
        let (main, second) = rate::lanes(settings.main, settings.second, 0);
        let spec = ProbeSpec {
            id: number,
            main,
            second,
            interface: settings.interface_address,
            ttl: settings.ttl,
            rate_bytes_per_s: self.probe_rate(options, views),
            duration: Duration::from_secs_f64(seconds),
        };
        let request = DoctorRequest {
            id: id.clone(),
            main,
            second,
            seconds: if stream { seconds } else { 0.0 },
        };
        let own = tokio::task::spawn_blocking(doctor_self::questions(self));
        let mut heard = self.doctor.listen(&id);
        let mut asked = self.ask(views, &request);
        gather(&mut asked, &mut heard, JOINED_WITHIN, |asked| asked.ready).await;

        let sent = if stream && asked.values().any(|asked| asked.ready) {
            tokio::time::sleep(SETTLE).await;
            let sending = spec.clone();
            Some(blocking(move || probe_run::send(&sending)).await)
        } else if asked.values().any(|asked| asked.ready) {
            tokio::time::sleep(BEACONS).await;
            None
        } else {
            None
        };
        tokio::time::sleep(DRAIN).await;
        for (target, asked) in &asked {
            if asked.ready {
                self.roster.send(target, ConsoleMessage::DoctorEnd);
            }
        }
        gather(&mut asked, &mut heard, ANSWERED_WITHIN, |asked| {
            asked.health.answer.is_some()
        })
        .await;

        let mut not_checked = Vec::new();
        if !stream && views.iter().any(|view| view.connected) {
            not_checked.push("multicast: a job runs, and a probe would slow it".to_owned());
        }
        let (own, sent) = (own.await, sent);
        let mut console = own
            .unwrap_or_default()
            .into_health(&self.igmp.facts(), &mut not_checked);
        let probe = match sent {
            Some(Ok(sent)) => Some(view_of(&spec, &sent)),
            Some(Err(error)) => {
                console.findings.push(finding(
                    Verdict::Bad,
                    "multicast",
                    format!("the console cannot send the probe: {error}"),
                    "is the interface up, and its MTU 1500 or more? --iface chooses another",
                ));
                None
            }
            None => None,
        };
        doctor_self::judge_rate(&mut console, probe.as_ref());
        Ok(diagnose(asked, console, probe, not_checked))
    }

    fn ask(&self, views: &[TargetView], request: &DoctorRequest) -> BTreeMap<String, Asked> {
        let mut asked = BTreeMap::new();
        for view in views {
            let mut health = TargetHealth {
                id: view.id.clone(),
                name: view.name.clone(),
                ..TargetHealth::default()
            };
            let sent = view.connected
                && self
                    .roster
                    .send(&view.id, ConsoleMessage::Doctor(request.clone()));
            if !sent {
                health.findings.push(finding(
                    Verdict::Bad,
                    "answer",
                    format!("it is not connected (last seen {})", view.last_seen),
                    "switch it on and boot it over the network; see that it reaches TCP 5001 of the console",
                ));
            }
            let at = sent.then(Instant::now);
            asked.insert(
                view.id.clone(),
                Asked {
                    health,
                    at,
                    ready: false,
                },
            );
        }
        asked
    }

    /// Returns the requested rate in bytes per second, else that of the slowest known link.
    fn probe_rate(&self, options: &DoctorOptions, views: &[TargetView]) -> u64 {
        let slowest = views
            .iter()
            .filter_map(|view| {
                let speeds = view
                    .facts
                    .nics
                    .iter()
                    .filter_map(|nic| nic.speed_mbit_per_s);
                speeds.filter(|speed| *speed > 0).max()
            })
            .chain(interface_speed(&self.settings.interface))
            .min();
        let known = slowest.map(|mbit| u64::from(mbit) * 125_000 * LINK_SHARE_PERCENT / 100);
        options
            .rate_bits_per_s
            .map(|bits| bits / 8)
            .or(known)
            .unwrap_or(DEFAULT_RATE_BYTES_PER_S)
            .clamp(RATES_BYTES_PER_S.0, RATES_BYTES_PER_S.1)
    }
}

/// Makes the report with verdicts from all answers.
fn diagnose(
    asked: BTreeMap<String, Asked>,
    console: ConsoleHealth,
    probe: Option<ProbeView>,
    mut not_checked: Vec<String>,
) -> DoctorReport {
    let mut targets: Vec<TargetHealth> = asked.into_values().map(concluded).collect();
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    let links = targets.iter().filter_map(|target| target.answer.as_ref());
    let measured = Measured {
        probe: probe.as_ref(),
        console_mtu: console.mtu,
        fastest_link: links.filter_map(|answer| answer.speed_mbit_per_s).max(),
    };
    for target in &mut targets {
        judge::target(target, measured);
    }
    let deaf_to_igmp = targets
        .iter()
        .filter_map(|target| target.answer.as_ref())
        .filter(|answer| answer.busy.is_none())
        .find_map(|answer| answer.querier.unchecked.clone());
    if let Some(why) = deaf_to_igmp {
        not_checked.push(format!("IGMP querier at some targets: {why}"));
    }
    DoctorReport {
        r#type: "doctor".to_owned(),
        schema_version: SCHEMA_VERSION,
        time: time::now_text(),
        console,
        probe,
        room: judge::room(&targets),
        targets,
        not_checked,
    }
}

/// Adds a finding to a target that did not answer.
fn concluded(asked: Asked) -> TargetHealth {
    let mut health = asked.health;
    if asked.at.is_some() && health.answer.is_none() {
        let (text, advice) = if asked.ready {
            (
                "it listened, and then did not say what came",
                "see its log; a disk that hangs keeps it from answering",
            )
        } else {
            (
                "it did not answer",
                "its agent may be older than this console: boot it anew; else see its log",
            )
        };
        health
            .findings
            .push(finding(Verdict::Bad, "answer", text, advice));
    }
    health
}

/// Takes messages until `done` holds for every target asked, or the time is over.
async fn gather(
    asked: &mut BTreeMap<String, Asked>,
    heard: &mut mpsc::Receiver<Heard>,
    limit: Duration,
    done: impl Fn(&Asked) -> bool,
) {
    let deadline = Instant::now() + limit;
    let open = |asked: &BTreeMap<String, Asked>| {
        asked
            .values()
            .any(|asked| asked.at.is_some() && asked.health.answer.is_none() && !done(asked))
    };
    while open(asked) {
        let Ok(Some(word)) = tokio::time::timeout_at(deadline, heard.recv()).await else {
            break;
        };
        take(asked, word);
    }
}

fn take(asked: &mut BTreeMap<String, Asked>, heard: Heard) {
    let Some(asked) = asked.get_mut(&heard.target) else {
        return;
    };
    match heard.word {
        Word::Ready(time_us) if !asked.ready => {
            asked.ready = true;
            if let Some(at) = asked.at {
                let round_trip = heard.at.saturating_duration_since(at).as_secs_f64();
                // The agent read its clock about half a round trip earlier.
                let behind = heard.wall_us.saturating_sub(time_us);
                asked.health.round_trip_s = Some(round_trip);
                asked.health.clock_offset_s = Some(round_trip / 2.0 - behind as f64 / 1e6);
            }
        }
        Word::Answer(answer) if asked.health.answer.is_none() => {
            asked.health.answer = Some(clean(*answer));
        }
        Word::Ready(_) | Word::Answer(_) => {}
    }
}

/// Cleans and bounds an agent's answer for display.
fn clean(mut answer: DoctorAnswer) -> DoctorAnswer {
    let line = |text: &mut String| *text = clean_line(text, MAX_TEXT);
    line(&mut answer.id);
    line(&mut answer.interface);
    for text in [
        &mut answer.busy,
        &mut answer.duplex,
        &mut answer.join_error,
        &mut answer.querier.unchecked,
        &mut answer.querier.heard,
    ] {
        text.iter_mut().for_each(line);
    }
    line(&mut answer.querier.interface);
    answer.consoles.truncate(MAX_ENTRIES);
    for other in &mut answer.consoles {
        [&mut other.name, &mut other.address, &mut other.pin]
            .into_iter()
            .for_each(line);
    }
    answer.disks.truncate(MAX_ENTRIES);
    for disk in &mut answer.disks {
        line(&mut disk.path);
        disk.error.iter_mut().for_each(line);
    }
    // Counters beyond any network would overflow sums and shares.
    let cap = |lane: &mut LaneCounts| {
        for count in [
            &mut lane.received,
            &mut lane.duplicates,
            &mut lane.reordered,
            &mut lane.silent_ms,
            &mut lane.small,
            &mut lane.jumbo,
            &mut lane.kernel_drops,
        ] {
            *count = (*count).min(1 << 40);
        }
    };
    cap(&mut answer.main);
    cap(&mut answer.second);
    answer
}

fn view_of(spec: &ProbeSpec, sent: &ProbeSent) -> ProbeView {
    ProbeView {
        main: spec.main.to_string(),
        second: spec.second.to_string(),
        rate_bits_per_s: spec.rate_bytes_per_s * 8,
        reached_bits_per_s: sent.rate_bytes_per_s.saturating_mul(8),
        seconds: spec.duration.as_secs_f64(),
        main_packets: sent.packets.main,
        second_packets: sent.packets.second,
        jumbo: sent.jumbo,
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

/// Returns a random run id, which others cannot guess; 0 is never used.
fn random() -> Result<u64, ApiError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| {
        ApiError::new(ErrorCode::Unexpected, format!("no random numbers: {error}"))
    })?;
    Ok(u64::from_be_bytes(bytes).max(1))
}
