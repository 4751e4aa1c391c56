//! Only disks that a technician saw and confirmed are erased: real ports, real TLS, fake agents.

use super::test_room::{FakeAgent, LIMIT, Room, hello, image, outcome, request};
use api::{
    CreateJob, ErrorCode, JobState, JobView, Plan, Report, RetryRequest, StartRequest, StartRule,
    TargetView,
};
use facts::look::Look;
use facts::target::{PartitionFacts, TargetState};
use protocol::control::{AgentMessage, Hello};
use std::time::Duration;

/// Hello of a machine whose disk has a partition with contents.
fn used(number: u8) -> Hello {
    let mut hello = hello(number);
    hello.facts.disks[0].contents = vec!["1: ntfs \"Windows\", 0.0 GB".to_owned()];
    hello.facts.disks[0].partitions = vec![PartitionFacts {
        number: 1,
        start: 1 << 20,
        length: 4 << 20,
    }];
    hello
}

fn blank(number: u8) -> Hello {
    let mut hello = hello(number);
    hello.facts.disks[0].blank = true;
    hello
}

/// Returns the job once these machines wait beside it.
async fn with_newcomers(room: &Room, job: &str, names: &[&str]) -> JobView {
    let work = async {
        loop {
            let view = room.job(job).await;
            let waiting: Vec<&str> = view.newcomers.iter().map(|one| one.name.as_str()).collect();
            if waiting == names {
                return view;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let waited = tokio::time::timeout(LIMIT, work).await;
    waited.unwrap_or_else(|_| panic!("{names:?} do not wait"))
}

/// Regression: `deploy --targets all --start 3` with two machines asked for two disks, and the
/// third was erased without being shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_comes_later_waits_until_it_is_confirmed() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::open(data.path()).await;
    let mut one = FakeAgent::join(&room, hello(1)).await;
    let mut two = FakeAgent::join(&room, hello(2)).await;
    let mut request = request(&image);
    request.start = StartRule::Count(3);
    let job = room.deploy(&request).await.unwrap();
    let mut late = FakeAgent::join(&room, used(3)).await;

    let view = with_newcomers(&room, &job.id, &["pc-3"]).await;
    assert_eq!((view.state, view.targets.len()), (JobState::Waiting, 2));
    assert!(view.newcomers[0].contents.contains("Windows"));
    assert!(
        view.newcomers[0]
            .reason
            .contains(&format!("diskcast job add {} --targets pc-3", job.id))
    );
    let target: TargetView = room.client.get("/v1/targets/pc-3").await.unwrap();
    assert_eq!((target.state, target.job), (TargetState::Ready, None));
    assert!(target.asks.unwrap().contains("waits for confirmation"));
    // The job does not begin, however long the machine is there.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(room.job(&job.id).await.state, JobState::Waiting);

    room.add(&job.id, "pc-3").await.unwrap();
    one.order().await;
    two.order().await;
    let order = late.order().await;
    let planned = Look::planned(&used(3).facts.disks[0]);
    assert_eq!(order.disk.look, planned, "the agent looks again");
    for agent in [&mut one, &mut two, &mut late] {
        agent.finish(&job.id, &order.root).await;
    }
    let summary = room.summary(&job.id).await;
    assert_eq!((summary.state, summary.done), (JobState::Done, 3));
    assert_eq!(
        room.add(&job.id, "pc-3").await.unwrap_err().code,
        ErrorCode::Refused
    );
    room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn also_new_takes_blank_disks_and_no_others() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::open(data.path()).await;
    let mut one = FakeAgent::join(&room, hello(1)).await;
    let mut request = request(&image);
    request.also_new = true;
    // A job that starts at once leaves no time for new machines.
    assert_eq!(
        room.deploy(&request).await.unwrap_err().code,
        ErrorCode::Usage
    );
    request.start = StartRule::Count(2);
    let job = room.deploy(&request).await.unwrap();
    let _used = FakeAgent::join(&room, used(2)).await;
    let view = with_newcomers(&room, &job.id, &["pc-2"]).await;
    assert_eq!(view.state, JobState::Waiting);
    assert!(view.newcomers[0].reason.contains("its disk is not blank"));
    let mut fresh = FakeAgent::join(&room, blank(3)).await;
    one.order().await;
    let order = fresh.order().await;
    // The console's facts may be old, so the agent itself must refuse a disk that is not blank.
    assert!(order.disk.look.refusal(&used(3).facts.disks[0]).is_some());
    assert!(order.disk.look.refusal(&blank(3).facts.disks[0]).is_none());
    room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_confirmation_is_for_the_disk_that_was_shown() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::open(data.path()).await;
    let agent = FakeAgent::join(&room, used(1)).await;
    let mut request = request(&image);
    request.start = StartRule::Manual;
    let plan: Plan = room.client.post("/v1/plan", &request).await.unwrap();
    let create = CreateJob {
        request: request.clone(),
        expect_targets: vec![agent.target.clone()],
        expect_disks: api::confirm::disks(&plan),
    };
    let unseen = CreateJob {
        expect_disks: Default::default(),
        ..create.clone()
    };
    let error = room.client.post::<_, JobView>("/v1/jobs", &unseen).await;
    assert_eq!(error.unwrap_err().code, ErrorCode::Refused);

    // A disk with the same path and size, but another model.
    drop(agent);
    let mut swapped = used(1);
    swapped.facts.disks[0].model = Some("Other 8 MB".to_owned());
    swapped.instance = format!("{:032x}", 9);
    let agent = FakeAgent::join(&room, swapped).await;
    let error = room.client.post::<_, JobView>("/v1/jobs", &create).await;
    let error = error.unwrap_err();
    assert_eq!(error.code, ErrorCode::Refused);
    assert!(error.message.contains("Other 8 MB"), "{}", error.message);

    // The job was confirmed and waits for its start; meanwhile the disk gets a second partition.
    let job = room.deploy(&request).await.unwrap();
    drop(agent);
    let mut reused = used(1);
    reused.facts.disks[0].model = Some("Other 8 MB".to_owned());
    reused.facts.disks[0].partitions.push(PartitionFacts {
        number: 2,
        start: 5 << 20,
        length: 1 << 20,
    });
    let _agent = FakeAgent::join(&room, reused).await;
    let start = format!("/v1/jobs/{}/start", job.id);
    let _: JobView = room
        .client
        .post(&start, &StartRequest::default())
        .await
        .unwrap();
    let summary = room.summary(&job.id).await;
    let target = &summary.targets[0];
    assert_eq!(target.state, TargetState::Failed);
    let reason = target.reason.as_deref().unwrap();
    assert!(
        reason.contains("changed since the plan was confirmed"),
        "{reason}"
    );
    room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_is_for_the_disks_of_the_job() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::open(data.path()).await;
    let mut agent = FakeAgent::join(&room, used(1)).await;
    let job = room.deploy(&request(&image)).await.unwrap();
    agent.order().await;
    let mut failed = outcome(&job.id, "");
    failed.state = TargetState::Failed;
    failed.root = None;
    agent.send(AgentMessage::Outcome(Box::new(failed))).await;
    agent.recorded().await;
    room.summary(&job.id).await;
    // A new disk comes first, so the rule selects it, but nobody has confirmed it.
    drop(agent);
    let mut other = used(1);
    let mut new = other.facts.disks[0].clone();
    new.serial = Some("NEW".to_owned());
    other.facts.disks.insert(0, new);
    let _agent = FakeAgent::join(&room, other).await;
    let nothing = RetryRequest::default();
    let retry = format!("/v1/jobs/{}/retry", job.id);
    let again = room.client.post::<_, JobView>(&retry, &nothing);
    let error = again.await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Refused);
    assert!(error.message.contains("NEW"), "{}", error.message);
    room.close().await;
}

/// Regression: facts were as old as the agent's connection; after a job the plan said "nothing
/// known", and after a cancel it listed partitions of a blank disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_says_what_is_on_the_disk_now() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::impatient(data.path()).await;
    let agent = FakeAgent::join(&room, used(1)).await;
    let disk = |plan: &Plan| plan.targets[0].disk.clone().unwrap();
    let request = request(&image);
    *agent.facts.lock().unwrap() = Some(blank(1).facts);
    let plan: Plan = room.client.post("/v1/plan", &request).await.unwrap();
    assert!(disk(&plan).blank && disk(&plan).partitions.is_empty());
    assert_eq!(plan.targets[0].facts_age_seconds, None);

    // The disk gets contents between the plan and the confirmation.
    let create = CreateJob {
        request: request.clone(),
        expect_targets: vec![agent.target.clone()],
        expect_disks: api::confirm::disks(&plan),
    };
    *agent.facts.lock().unwrap() = Some(used(1).facts);
    let error = room.client.post::<_, JobView>("/v1/jobs", &create).await;
    let error = error.unwrap_err();
    assert_eq!(error.code, ErrorCode::Refused);
    assert!(error.message.contains("Windows"), "{}", error.message);

    // For an agent that does not answer, the plan shows the age of the facts.
    *agent.facts.lock().unwrap() = None;
    let plan: Plan = room.client.post("/v1/plan", &request).await.unwrap();
    let age = plan.targets[0].facts_age_seconds.unwrap();
    assert!((1.0..60.0).contains(&age), "{age}");
    assert_eq!(disk(&plan).partitions.len(), 1);

    // The hello decided the identity; later facts do not change it.
    let mut other = blank(1).facts;
    other.serial = Some("SOMEBODY-ELSE".to_owned());
    *agent.facts.lock().unwrap() = Some(other);
    let path = format!("/v1/targets/{}", agent.target);
    let view: TargetView = room.client.get(&path).await.unwrap();
    assert!(view.facts.disks[0].blank, "target show asks too");
    assert_eq!(view.facts.serial.as_deref(), Some("SERIAL-1"));
    room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_a_disk_is_asked_again_before_a_job_that_waited_begins() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::open(data.path()).await;
    let agent = FakeAgent::join(&room, blank(1)).await;
    let mut request = request(&image);
    request.start = StartRule::Manual;
    let job = room.deploy(&request).await.unwrap();
    *agent.facts.lock().unwrap() = Some(used(1).facts);
    let start = format!("/v1/jobs/{}/start", job.id);
    let _: JobView = room
        .client
        .post(&start, &StartRequest::default())
        .await
        .unwrap();
    let summary = room.summary(&job.id).await;
    let reason = summary.targets[0].reason.clone().unwrap();
    assert!(reason.contains("the plan showed a blank disk"), "{reason}");
    room.close().await;
}

/// Regression: after a restart of the console, facts seemed as new as the last message of any kind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_age_of_what_is_known_outlives_the_console() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::open(data.path()).await;
    let agent = FakeAgent::join(&room, used(1)).await;
    let path = format!("/v1/targets/{}", agent.target);
    let joined: TargetView = room.client.get(&path).await.unwrap();
    *agent.facts.lock().unwrap() = None;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    drop(agent);
    let gone = loop {
        let view: TargetView = room.client.get(&path).await.unwrap();
        if !view.connected {
            break view;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(gone.last_seen > joined.facts_time, "it was there longer");
    assert_eq!(gone.facts_time, joined.facts_time);
    room.close().await;
    let room = Room::open(data.path()).await;
    let known: TargetView = room.client.get(&path).await.unwrap();
    assert_eq!(known.facts_time, joined.facts_time);
    let mut wanted = request(&image);
    wanted.targets = "pc-1".to_owned();
    let plan: Plan = room.client.post("/v1/plan", &wanted).await.unwrap();
    assert!(plan.targets[0].facts_age_seconds.unwrap() > 1.0);
    room.close().await;
}

/// Regression: the plan said that an image was not checked, but the summary, the report and the
/// view of the job did not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_image_was_not_checked_says_so_in_the_end() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::open(data.path()).await;
    // Unchecked; checked by the job; checked before, so that `--no-check` skips nothing.
    for (no_check, unchecked) in [(true, true), (false, false), (true, false)] {
        let mut agent = FakeAgent::join(&room, hello(1)).await;
        let mut request = request(&image);
        request.no_check = no_check;
        let job = room.deploy(&request).await.unwrap();
        let order = agent.order().await;
        agent.finish(&job.id, &order.root).await;
        agent.recorded().await;
        let summary = room.summary(&job.id).await;
        let report: Report = room
            .client
            .get(&format!("/v1/jobs/{}/report", job.id))
            .await
            .unwrap();
        for said in [
            summary.unchecked,
            report.summary.unwrap().unchecked,
            report.job.unchecked,
            room.job(&job.id).await.unchecked,
        ] {
            assert_eq!(said, unchecked, "job {}", job.id);
        }
    }
    room.close().await;
}
