//! Reports of first starts, with fake agents and plain connections.

use super::personal::Vault;
use super::test_room::{FakeAgent, LIMIT, Room, hello, image, outcome, request, unfinished};
use api::{DeployRequest, FirstStart, FirstStartState, JobState, JobView, Report, TargetList};
use facts::hex;
use facts::target::TargetState;
use firstboot::report::{self, Answer, Outcome, System};
use ring::hmac;
use rusqlite::Connection;
use std::net::SocketAddr;
use std::path::Path;
use template::first_start::ReportKey;
use template::step::{Action, FirstBootEnd, FirstBootJob, MachinePlan, Step, When};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Makes a plan whose first-boot job reports; the images of these tests have no system to make one
/// from.
fn reporting(name: &str) -> MachinePlan {
    MachinePlan {
        hostname: Some(name.to_owned()),
        steps: vec![Step {
            id: "firstboot".to_owned(),
            what: "at first boot: the report alone".to_owned(),
            when: When::FirstBoot,
            action: Action::FirstBoot {
                partition: 1,
                job: FirstBootJob {
                    steps: vec![],
                    end: FirstBootEnd::None,
                    report: true,
                },
                executable: None,
            },
        }],
        ..MachinePlan::default()
    }
}

/// Stores a job whose targets are asked to report, as the console would: the plan in its row, and
/// the rows of requests.
fn ask(data: &Path, job: &str, target: &str) {
    let database = Connection::open(data.join("console.db")).unwrap();
    database
        .busy_timeout(std::time::Duration::from_secs(10))
        .unwrap();
    let plan: String = database
        .query_row("SELECT plan FROM job WHERE id = ?1", [job], |row| {
            row.get(0)
        })
        .unwrap();
    let mut plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    for planned in plan["targets"].as_array_mut().unwrap() {
        if planned["id"] == target {
            planned["personal"] = serde_json::to_value(reporting("LAB-07")).unwrap();
        }
    }
    database
        .execute(
            "UPDATE job SET plan = ?2 WHERE id = ?1",
            [job, &plan.to_string()],
        )
        .unwrap();
    database
        .execute(
            "INSERT INTO first_start (job, target) VALUES (?1, ?2)",
            [job, target],
        )
        .unwrap();
}

/// A machine that signs its report.
struct Machine {
    key: hmac::Key,
    report: report::Report,
}

impl Machine {
    fn new(key: &ReportKey, job: &str, target: &str, name: &str) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key.bytes()),
            report: report::Report {
                job: job.parse().unwrap(),
                target: target.to_owned(),
                result: Outcome::Done,
                name: name.to_owned(),
                system: System::Linux {
                    machine_id: Some("0123".to_owned()),
                },
                addresses: vec![],
            },
        }
    }

    fn message(&self) -> String {
        let signed = self.report.encode();
        let digits = hex::encode(hmac::sign(&self.key, signed.as_bytes()).as_ref());
        report::message(&signed, &digits)
    }

    /// Sends the report. Returns true if the console accepted it, after a check of the answer's
    /// signature.
    async fn says(&self, to: SocketAddr) -> bool {
        let message = self.message();
        let answer = say(to, message.as_bytes()).await;
        let digits = report::parse(message.as_bytes()).unwrap().digits;
        match report::parse_answer(&answer) {
            Some(Answer::Heard(tag)) => {
                let tag = hex::decode::<32>(tag).unwrap();
                let signed = report::heard_signed(digits);
                hmac::verify(&self.key, signed.as_bytes(), &tag).unwrap();
                true
            }
            Some(Answer::Refused) => false,
            None => panic!("no answer: {:?}", String::from_utf8_lossy(&answer)),
        }
    }
}

/// Sends bytes and reads the answer to its end. The sending side stays open, like that of a shell.
async fn say(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let talk = async {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // A console that closes without reading all bytes resets the connection.
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    tokio::time::timeout(LIMIT, talk).await.unwrap()
}

fn bulk(room: &Room) -> SocketAddr {
    SocketAddr::new([127, 0, 0, 1].into(), room.info.bulk_port)
}

fn key(data: &Path, job: &JobView, target: &str) -> ReportKey {
    let vault = Vault::open(&data.join("secrets.key")).unwrap();
    vault.report_key(job.id.parse().unwrap(), &job.created, target)
}

async fn report_of(room: &Room, job: &str) -> Report {
    let path = format!("/v1/jobs/{job}/report");
    room.client.get(&path).await.unwrap()
}

/// Returns the first start of the first target in the job's view.
async fn known(room: &Room, job: &str) -> FirstStart {
    let view = room.job(job).await;
    view.targets[0].first_start.clone().unwrap()
}

async fn log_says(data: &Path, job: &str, want: &str) {
    let path = data.join("jobs").join(job).join("job.log");
    let look = async {
        while !std::fs::read_to_string(&path)
            .unwrap_or_default()
            .contains(want)
        {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, look).await.unwrap();
}

/// Makes a job whose one target is done and is asked to report.
async fn deployed(room: &Room, data: &Path, wanted: &DeployRequest) -> (JobView, FakeAgent) {
    let mut agent = FakeAgent::join(room, hello(1)).await;
    let job = room.deploy(wanted).await.unwrap();
    let order = agent.order().await;
    agent.finish(&order.job, &order.root).await;
    room.ends(&job.id, JobState::Done).await;
    ask(data, &job.id, &agent.target);
    (job, agent)
}

/// One report is accepted, also when repeated; another one is not. A restarted console knows the
/// same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_is_heard_once_and_by_every_console() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let path = image(data, None);
    let room = Room::open(data).await;
    let (job, agent) = deployed(&room, data, &request(&path)).await;
    assert_eq!(known(&room, &job.id).await, FirstStart::default());
    let key = key(data, &job, &agent.target);
    let mut machine = Machine::new(&key, &job.id, &agent.target, "lab-07");
    assert!(machine.says(bulk(&room)).await);
    assert!(machine.says(bulk(&room)).await);
    let heard = known(&room, &job.id).await;
    assert_eq!(heard.state, FirstStartState::Started);
    assert_eq!(heard.line(), "started as lab-07");
    assert_eq!(heard.machine_id.as_deref(), Some("0123"));
    let target = agent.target.clone();
    drop(agent);
    log_says(data, &job.id, "pc-1: started as lab-07").await;
    room.close().await;

    let room = Room::open(data).await;
    assert!(machine.says(bulk(&room)).await);
    machine.report.name = "lab-08".to_owned();
    assert!(!machine.says(bulk(&room)).await);
    assert_eq!(known(&room, &job.id).await, heard);
    let report = report_of(&room, &job.id).await;
    assert_eq!(
        report.summary.unwrap().targets[0].first_start,
        Some(heard.clone())
    );
    let written = data.join("jobs").join(&job.id).join("report.json");
    assert!(std::fs::read_to_string(written).unwrap().contains("lab-07"));
    let list: TargetList = room.client.get("/v1/targets").await.unwrap();
    let row = list.targets.iter().find(|row| row.id == target).unwrap();
    assert_eq!(row.first_start, Some(heard));
    room.close().await;
}

/// A report is compared with the plan; one that was not requested or has a wrong key is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_refused_or_said() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let path = image(data, None);
    let room = Room::open(data).await;
    let (job, mut agent) = deployed(&room, data, &request(&path)).await;
    let target = agent.target.clone();
    let to = bulk(&room);
    // The next job of the same machine requests no report.
    let silent = room.deploy(&request(&path)).await.unwrap();
    agent.recorded().await;
    let order = agent.order().await;
    agent.finish(&order.job, &order.root).await;
    room.ends(&silent.id, JobState::Done).await;
    assert_eq!(room.job(&silent.id).await.targets[0].first_start, None);
    let silent_key = key(data, &silent, &target);
    assert!(
        !Machine::new(&silent_key, &silent.id, &target, "x")
            .says(to)
            .await
    );
    let right = key(data, &job, &target);
    for (key, id, of) in [
        (silent_key, job.id.as_str(), target.as_str()),
        (right.clone(), "99", target.as_str()),
        (right.clone(), job.id.as_str(), "nobody"),
        (right.clone(), "18446744073709551615", target.as_str()),
    ] {
        assert!(!Machine::new(&key, id, of, "LAB-07").says(to).await);
    }
    for garbage in [
        "diskcast-first-start 2\n\nhmac=\n".to_owned(),
        format!("d{}", "x".repeat(5000)),
        Machine::new(&right, &job.id, &target, "LAB-07").message() + "more\n",
    ] {
        let answer = say(to, garbage.as_bytes()).await;
        assert!(
            report::parse_answer(&answer) != Some(Answer::Heard("")),
            "{garbage}"
        );
        assert!(
            !String::from_utf8_lossy(&answer).contains("heard"),
            "{garbage}"
        );
    }
    assert_eq!(known(&room, &job.id).await, FirstStart::default());
    let mut machine = Machine::new(&right, &job.id, &target, "LAB-99");
    machine.report.result = Outcome::Failed {
        step: Some("run.2".to_owned()),
        reason: "exit code 3".to_owned(),
    };
    assert!(machine.says(to).await);
    let heard = known(&room, &job.id).await;
    assert_eq!(heard.state, FirstStartState::Failed);
    assert_eq!(
        heard.line(),
        "first start failed: run.2: exit code 3; started as LAB-99, planned LAB-07"
    );
    // The disk was proven, and the report does not change that.
    assert_eq!(room.job(&job.id).await.targets[0].state, TargetState::Done);
    room.close().await;
}

/// A machine reports while its job runs, and another reports although its end is unknown; neither
/// report changes a state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_never_changes_how_a_target_ended() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let path = image(data, None);
    let room = Room::losing(data).await;
    let mut agents = [
        FakeAgent::join(&room, hello(1)).await,
        FakeAgent::join(&room, hello(2)).await,
    ];
    let job = room.deploy(&request(&path)).await.unwrap();
    let order = agents[0].order().await;
    agents[1].order().await;
    agents[0].finish(&order.job, &order.root).await;
    agents[0].recorded().await;
    let [one, two] = agents.each_ref().map(|agent| agent.target.clone());
    ask(data, &job.id, &one);
    ask(data, &job.id, &two);
    let machine = Machine::new(&key(data, &job, &one), &job.id, &one, "LAB-07");
    assert!(machine.says(bulk(&room)).await);
    log_says(data, &job.id, "pc-1: started as LAB-07").await;
    let running = room.job(&job.id).await;
    assert_eq!(running.state, JobState::Running);
    let seen = running.targets[0].first_start.as_ref().unwrap();
    assert_eq!(seen.line(), "started as LAB-07");
    let [_one, second] = agents;
    drop(second);
    let ended = room.ends(&job.id, JobState::Failed).await;
    assert_eq!(ended.targets[1].state, TargetState::Lost);
    let machine = Machine::new(&key(data, &job, &two), &job.id, &two, "LAB-07");
    assert!(machine.says(bulk(&room)).await);
    let view = room.job(&job.id).await;
    assert_eq!(
        (view.state, view.targets[1].state),
        (JobState::Failed, TargetState::Lost)
    );
    let lines: Vec<String> = view
        .targets
        .iter()
        .map(|target| target.first_start.as_ref().unwrap().line())
        .collect();
    assert_eq!(lines, ["started as LAB-07", "started as LAB-07"]);
    room.close().await;
}

/// A thousand connections that send only the first byte disturb neither reports nor the bulk
/// service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_keep_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let path = image(data, None);
    let room = Room::open(data).await;
    let (job, agent) = deployed(&room, data, &request(&path)).await;
    let mut silent = Vec::new();
    for _ in 0..1000 {
        let mut stream = TcpStream::connect(bulk(&room)).await.unwrap();
        stream.write_all(b"d").await.unwrap();
        silent.push(stream);
    }
    let machine = Machine::new(
        &key(data, &job, &agent.target),
        &job.id,
        &agent.target,
        "LAB-07",
    );
    assert!(machine.says(bulk(&room)).await);
    // The oldest connections were closed for newer ones, so the console holds few.
    let mut byte = [0];
    let oldest = silent[0].read(&mut byte);
    let ended = tokio::time::timeout(LIMIT, oldest).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    // The bulk service answers beside them.
    let config = net::tls::client_config(room.info.pin.parse().unwrap()).unwrap();
    let stream = TcpStream::connect(bulk(&room)).await.unwrap();
    let work = tokio_rustls::TlsConnector::from(config).connect(net::tls::server_name(), stream);
    tokio::time::timeout(LIMIT, work).await.unwrap().unwrap();
    drop(silent);
    room.close().await;
}

/// The order of a machine that reports brings a key that a restarted console computes again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_brings_the_key_that_every_console_knows() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let path = image(data, None);
    let room = Room::open(data).await;
    let agent = FakeAgent::join(&room, hello(1)).await;
    let waiting = DeployRequest {
        start: api::StartRule::Manual,
        ..request(&path)
    };
    let job = room.deploy(&waiting).await.unwrap();
    let target = agent.target.clone();
    drop(agent);
    room.close().await;
    ask(data, &job.id, &target);

    let room = Room::open(data).await;
    let mut agent = FakeAgent::join(&room, hello(1)).await;
    let path = format!("/v1/jobs/{}/start", job.id);
    let started = api::StartRequest::default();
    let _: JobView = room.client.post(&path, &started).await.unwrap();
    let order = agent.order().await;
    let first = order.apply.clone().unwrap().first_start.unwrap();
    assert_eq!(first.key, key(data, &job, &target));
    assert_eq!(
        (first.job.to_string(), &first.target),
        (job.id.clone(), &target)
    );
    drop(agent);
    room.close().await;

    let room = Room::open(data).await;
    let mut back = hello(1);
    back.job = Some(unfinished(&order, None));
    let mut agent = FakeAgent::join(&room, back).await;
    let again = agent.order().await;
    assert_eq!(again.apply.unwrap().first_start.unwrap(), first);
    agent
        .send(protocol::control::AgentMessage::Outcome(Box::new(outcome(
            &order.job,
            &order.root,
        ))))
        .await;
    room.ends(&job.id, JobState::Done).await;
    room.close().await;
}
