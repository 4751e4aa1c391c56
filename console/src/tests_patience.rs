//! Stall limits of targets and time limits of jobs: real ports, real TLS, fake agents that hang.

use super::test_room::{FakeAgent, Room, hello, image, outcome, request};
use api::{CaptureRequest, ErrorCode, JobState, JobView, Report, StartRequest, StartRule};
use facts::target::TargetState;
use protocol::control::{AgentMessage, ConsoleMessage, Counters, Progress};
use std::time::Duration;

fn progress(job: &str, state: TargetState, done_bytes: u64, beat: u64) -> AgentMessage {
    AgentMessage::Progress(Progress {
        job: job.to_owned(),
        state,
        deaf: false,
        done_bytes,
        total_bytes: 5 << 20,
        counters: Counters {
            // Packets also arrive at a machine that hangs.
            packets_received: done_bytes + beat + 1,
            ..Counters::default()
        },
        note: None,
        bottleneck: None,
        beat,
    })
}

/// Time between two reports of a fake agent.
const PAUSE: Duration = Duration::from_millis(250);

async fn pause() {
    tokio::time::sleep(PAUSE).await;
}

/// Regression: a connected agent that answered pings and repeated its report kept its job running
/// for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_does_not_get_on_has_failed_and_costs_the_others_nothing() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::impatient(data.path()).await;
    let mut good = FakeAgent::join(&room, hello(1)).await;
    let mut hung = FakeAgent::join(&room, hello(2)).await;
    let mut slow = FakeAgent::join(&room, hello(3)).await;
    let mut request = request(&image);
    request.stall_limit_seconds = Some(2);
    let job = room.deploy(&request).await.unwrap();
    let order = good.order().await;
    hung.order().await;
    slow.order().await;
    let mut round = 0;
    let told = loop {
        good.send(progress(&job.id, TargetState::Receiving, round, 0))
            .await;
        hung.send(progress(&job.id, TargetState::Receiving, 7, 0))
            .await;
        // A long step of its template, with a changing beat.
        slow.send(progress(&job.id, TargetState::Applying, 7, round))
            .await;
        round += 1;
        if let Ok(told) = tokio::time::timeout(PAUSE, hung.next()).await {
            break told;
        }
    };
    match told {
        Some(ConsoleMessage::Cancel { reason, .. }) => {
            assert!(reason.contains("no progress for 2 s"), "{reason}")
        }
        other => panic!("it was not told to leave: {other:?}"),
    }
    good.finish(&job.id, &order.root).await;
    slow.finish(&job.id, &order.root).await;
    let summary = room.summary(&job.id).await;
    assert_eq!((summary.state, summary.done), (JobState::Failed, 2));
    let failed = summary.targets.iter().find(|one| one.name == "pc-2");
    let failed = failed.unwrap();
    assert_eq!(failed.state, TargetState::Failed);
    assert_eq!(
        failed.reason.as_deref(),
        Some("no progress for 2 s while receiving")
    );
    assert_eq!(failed.step, Some(TargetState::Receiving));
    room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_with_a_time_limit_ends() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::open(data.path()).await;
    let mut agent = FakeAgent::join(&room, hello(1)).await;
    let mut request = request(&image);
    request.time_limit_seconds = Some(1);
    let job = room.deploy(&request).await.unwrap();
    agent.order().await;
    // The agent makes progress, but too slowly; it answers at once, as agents do.
    let mut done = 0;
    let told = loop {
        agent
            .send(progress(&job.id, TargetState::Receiving, done, 0))
            .await;
        done += 1;
        if let Ok(told) = tokio::time::timeout(PAUSE, agent.next()).await {
            break told;
        }
    };
    assert!(matches!(told, Some(ConsoleMessage::Cancel { .. })));
    let mut left = outcome(&job.id, "");
    (left.state, left.root) = (TargetState::Failed, None);
    left.reason = Some("cancelled".to_owned());
    agent.send(AgentMessage::Outcome(Box::new(left))).await;
    let summary = room.summary(&job.id).await;
    assert_eq!(summary.targets[0].state, TargetState::Failed);
    let reason = summary.targets[0].reason.as_deref().unwrap();
    assert_eq!(reason, "the job's time limit of 1 s is over");
    room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capture_whose_master_hangs_ends() {
    let data = tempfile::tempdir().unwrap();
    let room = Room::open(data.path()).await;
    let mut agent = FakeAgent::join(&room, hello(1)).await;
    let request = CaptureRequest {
        target: "pc-1".to_owned(),
        name: Some("hangs".to_owned()),
        stall_limit_seconds: Some(1),
        wishes: serde_json::from_str("{\"level\":3,\"chunk_log2\":20}").unwrap(),
        ..CaptureRequest::default()
    };
    let job: JobView = room.client.post("/v1/captures", &request).await.unwrap();
    assert!(matches!(
        agent.next().await,
        Some(ConsoleMessage::Capture(_))
    ));
    for _ in 0..8 {
        agent
            .send(progress(&job.id, TargetState::Joined, 0, 0))
            .await;
        pause().await;
    }
    let summary = room.summary(&job.id).await;
    let reason = summary.targets[0].reason.as_deref().unwrap();
    assert_eq!(reason, "no progress for 1 s while joined");
    room.close().await;
}

/// Regression: a job due while the console was off started after the restart, in the first lesson;
/// `--start at=2020-01-01` was accepted and started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_time_passed_unseen_asks_again() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::open(data.path()).await;
    let agent = FakeAgent::join(&room, hello(1)).await;
    let mut request = request(&image);
    request.start = StartRule::At("2020-01-01T00:00:00Z".to_owned());
    let error = room.deploy(&request).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Usage);
    assert!(error.message.contains("is past"), "{}", error.message);

    let soon = super::time::now() + Duration::from_secs(5);
    request.start = StartRule::At(soon.to_string());
    request.start_window_seconds = Some(1);
    let job = room.deploy(&request).await.unwrap();
    drop(agent);
    room.close().await;
    while super::time::now() < soon + Duration::from_secs(2) {
        pause().await;
    }

    let room = Room::open(data.path()).await;
    let mut agent = FakeAgent::join(&room, hello(1)).await;
    room.reaches(&job.id, JobState::Missed).await;
    pause().await;
    let view = room.job(&job.id).await;
    assert_eq!(view.state, JobState::Missed);
    assert_eq!(view.targets[0].state, TargetState::Ready);
    // It is still missed after another restart, and starts at a technician's request.
    drop(agent);
    room.close().await;
    let room = Room::open(data.path()).await;
    agent = FakeAgent::join(&room, hello(1)).await;
    assert_eq!(room.job(&job.id).await.state, JobState::Missed);
    let note = room.job(&job.id).await.start_note.unwrap();
    assert!(note.starts_with("missed: "), "{note}");
    // The confirmation was for another day, so the request must name the disks seen.
    let start = format!("/v1/jobs/{}/start", job.id);
    let unseen = room
        .client
        .post::<_, JobView>(&start, &StartRequest::default())
        .await;
    let error = unseen.unwrap_err();
    assert_eq!(error.code, ErrorCode::Refused);
    assert!(error.message.contains("was missed"), "{}", error.message);
    let path = format!("/v1/jobs/{}/report", job.id);
    let report: Report = room.client.get(&path).await.unwrap();
    let disks = api::confirm::disks(&report.plan);
    let mut confirmed = StartRequest {
        expect_targets: disks.keys().cloned().collect(),
        expect_disks: disks,
    };
    let seen = confirmed.expect_disks.clone();
    for disk in confirmed.expect_disks.values_mut() {
        disk.push_str(" and more");
    }
    let other = room.client.post::<_, JobView>(&start, &confirmed).await;
    assert_eq!(other.unwrap_err().code, ErrorCode::Refused);
    confirmed.expect_disks = seen;
    let _: JobView = room.client.post(&start, &confirmed).await.unwrap();
    let order = agent.order().await;
    agent.finish(&job.id, &order.root).await;
    assert_eq!(room.summary(&job.id).await.state, JobState::Done);
    room.close().await;
}

/// Regression: a job that began late within its window, after a restart of the console, did not
/// report that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_begins_late_says_so() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::open(data.path()).await;
    let agent = FakeAgent::join(&room, hello(1)).await;
    let mut request = request(&image);
    let at = super::time::now() + Duration::from_secs(2);
    request.start = StartRule::At(at.to_string());
    let job = room.deploy(&request).await.unwrap();
    assert_eq!(job.start_note, None);
    drop(agent);
    room.close().await;
    // The console is off at the start time.
    while jobs::schedule::late_by(super::time::now(), at).is_none() {
        pause().await;
    }
    let room = Room::open(data.path()).await;
    let mut agent = FakeAgent::join(&room, hello(1)).await;
    let order = agent.order().await;
    agent.finish(&job.id, &order.root).await;
    let summary = room.summary(&job.id).await;
    assert_eq!(summary.state, JobState::Done);
    let note = room.job(&job.id).await.start_note.unwrap();
    assert!(
        note.starts_with("began ") && note.contains(" late: its time was "),
        "{note}"
    );
    let log = room.client.text(&format!("/v1/jobs/{}/log", job.id)).await;
    let log = log.unwrap();
    assert!(log.contains("late: the console did not run at "), "{log}");
    room.close().await;
}
