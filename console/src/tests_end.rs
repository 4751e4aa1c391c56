//! Ends of targets that a technician or the network removes from a running job, with fake agents.

use super::test_room::{FakeAgent, FullDisk, Room, hello, image, outcome, request, unfinished};
use api::{CancelRequest, JobState, JobView, Report};
use facts::order::EndAction;
use facts::target::{DiskNow, TargetState};
use protocol::control::{AgentMessage, ConsoleMessage, Counters, Outcome, Progress};

fn committing(job: &str) -> AgentMessage {
    AgentMessage::Progress(Progress {
        job: job.to_owned(),
        state: TargetState::Committing,
        deaf: false,
        done_bytes: 5 << 20,
        total_bytes: 5 << 20,
        counters: Counters::default(),
        note: None,
        bottleneck: None,
        beat: 0,
    })
}

fn dropped(job: &str) -> Outcome {
    Outcome {
        state: TargetState::Dropped,
        reason: Some("dropped by a technician".to_owned()),
        disk_now: Some(DiskNow::Blank),
        root: None,
        ..outcome(job, "")
    }
}

async fn cancel(room: &Room, job: &str) {
    let path = format!("/v1/jobs/{job}/cancel");
    let _: JobView = room
        .client
        .post(&path, &CancelRequest::default())
        .await
        .unwrap();
}

async fn report(room: &Room, job: &str) -> Report {
    let path = format!("/v1/jobs/{job}/report");
    room.client.get(&path).await.unwrap()
}

/// A target with a committed disk is done in spite of a cancel meanwhile, and the machine carries
/// out the requested end action.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_commits_cannot_be_dropped_any_more() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::open(data.path()).await;
    let mut agent = FakeAgent::join(&room, hello(1)).await;
    let mut wanted = request(&image);
    wanted.end = EndAction::Restart;
    let job = room.deploy(&wanted).await.unwrap();
    let order = agent.order().await;
    agent.send(committing(&job.id)).await;
    cancel(&room, &job.id).await;
    assert!(matches!(
        agent.next().await,
        Some(ConsoleMessage::Cancel { .. })
    ));
    assert!(!room.job(&job.id).await.targets[0].state.is_final());
    agent.finish(&job.id, &order.root).await;
    assert_eq!(agent.recorded().await, EndAction::Restart);
    let summary = room.summary(&job.id).await;
    assert_eq!((summary.state, summary.done), (JobState::Done, 1));
    assert_eq!(summary.targets[0].disk_now, Some(DiskNow::Whole));
    room.close().await;
}

/// The late outcome of a slow agent corrects the assumed state in store, view and report.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_late_is_recorded() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::impatient(data.path()).await;
    for proven in [false, true] {
        let mut agent = FakeAgent::join(&room, hello(1)).await;
        let job = room.deploy(&request(&image)).await.unwrap();
        let order = agent.order().await;
        cancel(&room, &job.id).await;
        let summary = room.summary(&job.id).await;
        let lost = &summary.targets[0];
        assert_eq!((lost.state, lost.disk_now), (TargetState::Lost, None));
        assert!(
            lost.reason
                .as_ref()
                .unwrap()
                .contains("dropped by a technician; it did not say"),
            "{lost:?}"
        );
        let word = match proven {
            true => outcome(&job.id, &order.root),
            false => dropped(&job.id),
        };
        assert!(matches!(
            agent.next().await,
            Some(ConsoleMessage::Cancel { .. })
        ));
        agent.send(AgentMessage::Outcome(Box::new(word))).await;
        agent.recorded().await;
        let should = match proven {
            true => (TargetState::Done, Some(DiskNow::Whole)),
            false => (TargetState::Dropped, Some(DiskNow::Blank)),
        };
        let (view, report) = (room.job(&job.id).await, report(&room, &job.id).await);
        for target in [
            &view.targets[0],
            &report.job.targets[0],
            &report.summary.unwrap().targets[0],
        ] {
            assert_eq!((target.state, target.disk_now), should);
            assert_eq!(target.bytes_written, 1 << 20);
        }
        drop(agent);
    }
    room.close().await;
}

/// The connection is lost during the commit; the machine returns after the job's end with a whole
/// disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_lost_while_committing_is_done_when_its_word_comes() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::losing(data.path()).await;
    let mut agent = FakeAgent::join(&room, hello(1)).await;
    let job = room.deploy(&request(&image)).await.unwrap();
    let order = agent.order().await;
    agent.send(committing(&job.id)).await;
    // The console must have the report before the connection ends.
    while room.job(&job.id).await.targets[0].state != TargetState::Committing {
        tokio::task::yield_now().await;
    }
    drop(agent);
    let summary = room.summary(&job.id).await;
    assert_eq!(summary.targets[0].state, TargetState::Lost);
    assert_eq!(summary.targets[0].disk_now, None);
    let mut back = hello(1);
    back.job = Some(unfinished(&order, Some(outcome(&job.id, &order.root))));
    let mut agent = FakeAgent::join(&room, back).await;
    agent.recorded().await;
    assert_eq!(room.job(&job.id).await.state, JobState::Done);
    room.close().await;
}

/// The report names the erased disk as the plan did, since its path may mean another disk later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_report_names_the_disk_that_was_erased() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::open(data.path()).await;
    let mut named = hello(1);
    named.facts.disks[0].model = Some("Samsung 980".to_owned());
    named.facts.disks[0].serial = Some("S64DNX0R".to_owned());
    let title = named.facts.disks[0].title();
    assert!(title.starts_with("/dev/sda, Samsung 980, S64DNX0R, "));
    let mut agent = FakeAgent::join(&room, named).await;
    let job = room.deploy(&request(&image)).await.unwrap();
    let order = agent.order().await;
    agent.finish(&job.id, &order.root).await;
    agent.recorded().await;
    let summary = room.summary(&job.id).await;
    let report = report(&room, &job.id).await;
    for target in [
        &summary.targets[0],
        &room.job(&job.id).await.targets[0],
        &report.job.targets[0],
        &report.summary.unwrap().targets[0],
    ] {
        assert_eq!((target.state, &target.disk), (TargetState::Done, &title));
    }
    room.close().await;
}

/// Regression: a result that waited for the full disk was stored over the agent's later outcome,
/// and the agent never got `recorded`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_while_the_disk_is_full_is_recorded_when_it_can_be() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::impatient(data.path()).await;
    let mut jobs = Vec::new();
    for while_full in [true, false] {
        let mut agent = FakeAgent::join(&room, hello(1)).await;
        let mut wanted = request(&image);
        wanted.end = EndAction::Restart;
        let job = room.deploy(&wanted).await.unwrap();
        let order = agent.order().await;
        let full = FullDisk::of(data.path());
        cancel(&room, &job.id).await;
        let lost = &room.summary(&job.id).await.targets[0];
        assert_eq!((lost.state, lost.disk_now), (TargetState::Lost, None));
        assert!(matches!(
            agent.next().await,
            Some(ConsoleMessage::Cancel { .. })
        ));
        let mut full = Some(full);
        if !while_full {
            full = None;
        }
        agent.finish(&job.id, &order.root).await;
        // The view shows it at once, stored or not.
        while room.job(&job.id).await.targets[0].state != TargetState::Done {
            tokio::task::yield_now().await;
        }
        drop(full);
        assert_eq!(agent.recorded().await, EndAction::Restart);
        let report = report(&room, &job.id).await;
        let target = &report.job.targets[0];
        assert_eq!(
            (target.state, target.disk_now),
            (TargetState::Done, Some(DiskNow::Whole))
        );
        jobs.push(job.id);
    }
    room.close().await;
    // The next console finds the recorded outcome.
    let room = Room::open(data.path()).await;
    for job in jobs {
        let view = room.job(&job).await;
        assert_eq!(view.state, JobState::Done);
        assert_eq!(view.targets[0].state, TargetState::Done);
    }
    room.close().await;
}

/// Regression: an agent forgets its outcome after `recorded`; sent before the outcome was stored,
/// it was lost when the console died.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_recorded_before_it_is() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::open(data.path()).await;
    let mut one = FakeAgent::join(&room, hello(1)).await;
    let mut two = FakeAgent::join(&room, hello(2)).await;
    let job = room.deploy(&request(&image)).await.unwrap();
    let order = one.order().await;
    two.order().await;
    let full = FullDisk::of(data.path());
    one.finish(&job.id, &order.root).await;
    while room.job(&job.id).await.targets[0].state != TargetState::Done {
        tokio::task::yield_now().await;
    }
    // Planning requests the facts of the disks; when the agents answer, all earlier messages have
    // arrived.
    let _: api::Plan = room
        .client
        .post("/v1/plan", &request(&image))
        .await
        .unwrap();
    assert!(
        one.heard_nothing(),
        "it was told that its outcome is recorded"
    );
    // The console ends now; the next one gets the outcome again.
    drop(one);
    drop(two);
    room.close().await;
    drop(full);
    let room = Room::open(data.path()).await;
    for number in [1, 2] {
        let mut back = hello(number);
        back.job = Some(unfinished(&order, Some(outcome(&job.id, &order.root))));
        let mut agent = FakeAgent::join(&room, back).await;
        agent.recorded().await;
    }
    assert_eq!(room.summary(&job.id).await.state, JobState::Done);
    room.close().await;
}

/// Orders that the store never had: an agent that comes back with the job is heard, and the disk of
/// one that stays away is not called untouched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_was_not_stored_still_counts() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::open(data.path()).await;
    let mut agents = Vec::new();
    for number in 1..=3 {
        agents.push(FakeAgent::join(&room, hello(number)).await);
    }
    let job = room.deploy(&request(&image)).await.unwrap();
    let mut orders = Vec::new();
    for agent in &mut agents {
        orders.push(agent.order().await);
    }
    drop(agents);
    room.close().await;
    let full = FullDisk::of(data.path());
    full.forget_orders();
    drop(full);
    let room = Room::open(data.path()).await;
    let mut done = hello(1);
    done.job = Some(unfinished(
        &orders[0],
        Some(outcome(&job.id, &orders[0].root)),
    ));
    FakeAgent::join(&room, done).await.recorded().await;
    let mut going = hello(2);
    going.job = Some(unfinished(&orders[1], None));
    let mut going = FakeAgent::join(&room, going).await;
    let again = going.order().await;
    going.finish(&job.id, &again.root).await;
    going.recorded().await;
    cancel(&room, &job.id).await;
    let summary = room.summary(&job.id).await;
    let ends: Vec<_> = summary
        .targets
        .iter()
        .map(|row| (row.state, row.disk_now))
        .collect();
    assert_eq!(ends[..2], [(TargetState::Done, Some(DiskNow::Whole)); 2]);
    assert_eq!(ends[2], (TargetState::Dropped, None));
    room.close().await;
}

/// An agent that comes back with the job waits while the image is checked again. It is told when the
/// image turns out to be damaged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_waits_for_the_check_is_told_that_the_job_is_over() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::open(data.path()).await;
    let mut agent = FakeAgent::join(&room, hello(1)).await;
    let job = room.deploy(&request(&image)).await.unwrap();
    let order = agent.order().await;
    drop(agent);
    room.close().await;
    let mut bytes = std::fs::read(&image).unwrap();
    // The middle of the file is in the body of a chunk.
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&image, bytes).unwrap();
    let room = Room::open(data.path()).await;
    let mut back = hello(1);
    back.job = Some(unfinished(&order, None));
    let mut agent = FakeAgent::join(&room, back).await;
    match agent.next().await {
        Some(ConsoleMessage::Cancel { reason, .. }) => {
            assert!(reason.contains("chunk"), "{reason}")
        }
        other => panic!("not told but {other:?}"),
    }
    let told = outcome(&job.id, "");
    let told = Outcome {
        state: TargetState::Failed,
        disk_now: Some(DiskNow::Blank),
        root: None,
        ..told
    };
    agent.send(AgentMessage::Outcome(Box::new(told))).await;
    agent.recorded().await;
    let view = room.ends(&job.id, JobState::Failed).await;
    assert_eq!(view.targets[0].disk_now, Some(DiskNow::Blank));
    room.close().await;
}
