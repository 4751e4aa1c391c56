//! The console from the side of its agents and the CLI: real ports, real TLS, fake agents.

use super::test_room::{
    FakeAgent, LIMIT, Room, hello, image, options, outcome, request, unfinished,
};
use api::{
    CancelRequest, ErrorCode, JobState, JobView, RetryRequest, StartRequest, StartRule, TargetList,
};
use facts::order::EndAction;
use facts::target::TargetState;
use net::tls;
use protocol::control::{AgentMessage, ConsoleMessage, Outcome, Progress};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_ends_with_what_each_agent_proved() {
    let data = tempfile::tempdir().unwrap();
    let room = Room::losing(data.path()).await;
    let image = image(data.path(), None);
    let mut good = FakeAgent::join(&room, hello(1)).await;
    let mut liar = FakeAgent::join(&room, hello(2)).await;
    let mut dead = FakeAgent::join(&room, hello(3)).await;
    let mut small = hello(4);
    small.facts.disks[0].size = 1 << 20;
    let _small = FakeAgent::join(&room, small).await;
    let list: TargetList = room.client.get("/v1/targets").await.unwrap();
    assert!(
        list.targets
            .iter()
            .all(|target| target.state == TargetState::Ready)
    );

    let mut request = request(&image);
    request.end = EndAction::Restart;
    let job = room.deploy(&request).await.unwrap();
    let order = good.order().await;
    assert_eq!((&order.job, &order.root), (&job.id, &job.root));
    assert_eq!(order.disk.path, "/dev/sda");
    let (lied_to, died_of) = (liar.order().await, dead.order().await);
    assert_eq!(lied_to.session.secret, order.session.secret);
    assert_ne!(lied_to.bulk.token, order.bulk.token);
    assert_eq!(died_of.session.id, order.session.id);

    // No progress report makes a target done.
    good.send(AgentMessage::Progress(Progress {
        job: job.id.clone(),
        state: TargetState::Done,
        deaf: false,
        done_bytes: 1,
        total_bytes: 1,
        counters: Default::default(),
        note: None,
        bottleneck: None,
        beat: 0,
    }))
    .await;
    drop(dead);
    good.finish(&job.id, &order.root).await;
    assert_eq!(good.recorded().await, EndAction::Restart);
    liar.finish(&job.id, &"00".repeat(32)).await;
    assert_eq!(liar.recorded().await, EndAction::None);

    let summary = room.summary(&job.id).await;
    assert_eq!(
        (summary.state, summary.done, summary.failed),
        (JobState::Failed, 1, 3)
    );
    let target = |name: &str| {
        summary
            .targets
            .iter()
            .find(|target| target.name == name)
            .unwrap()
    };
    assert_eq!(target("pc-1").state, TargetState::Done);
    assert_eq!(target("pc-1").root.as_deref(), Some(order.root.as_str()));
    assert_eq!(target("pc-2").state, TargetState::Failed);
    assert!(
        target("pc-2")
            .reason
            .as_ref()
            .unwrap()
            .contains("read back root 0000")
    );
    assert_eq!(target("pc-3").state, TargetState::Lost);
    assert!(
        target("pc-4")
            .reason
            .as_ref()
            .unwrap()
            .starts_with("refused: ")
    );

    // A later watcher and the files show the same.
    assert_eq!(room.summary(&job.id).await.done, 1);
    assert_eq!(room.job(&job.id).await.state, JobState::Failed);
    let log = room
        .client
        .text(&format!("/v1/jobs/{}/log", job.id))
        .await
        .unwrap();
    assert!(log.contains("pc-3 lost"), "{log}");
    let report = std::fs::read_to_string(&summary.report).unwrap();
    assert!(report.contains(&order.root) && !report.contains(&order.session.secret));
    // The lost target comes back and proves its disk.
    let mut back = hello(3);
    back.job = Some(unfinished(&died_of, Some(outcome(&job.id, &order.root))));
    let mut dead = FakeAgent::join(&room, back).await;
    assert_eq!(dead.recorded().await, EndAction::Restart);
    assert_eq!(room.summary(&job.id).await.done, 2);

    // A retry takes the connected targets that are not done.
    let again: JobView = room
        .client
        .post(
            &format!("/v1/jobs/{}/retry", job.id),
            &RetryRequest::default(),
        )
        .await
        .unwrap();
    assert_eq!(again.retry_of.as_deref(), Some(job.id.as_str()));
    let second = liar.order().await;
    assert_ne!(second.session.secret, order.session.secret);
    liar.finish(&again.id, &second.root).await;
    assert_eq!(room.summary(&again.id).await.done, 1);
    room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_closed_and_disturbs_nobody() {
    let data = tempfile::tempdir().unwrap();
    let room = Room::open(data.path()).await;
    let mut agent = FakeAgent::join(&room, hello(1)).await;
    // Half-open connections that never send a byte.
    let mut silent = Vec::new();
    for _ in 0..600 {
        silent.push(TcpStream::connect(room.control()).await.unwrap());
    }
    // A peer without TLS.
    let mut plain = TcpStream::connect(room.control()).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = plain.read_to_end(&mut rest).await;
    // TLS, then no valid message: a frame of two gigabytes, JSON of another kind, a first message
    // other than hello.
    let frames: [&[u8]; 3] = [
        b"\x7f\xff\xff\xff",
        b"\0\0\0\x02[]",
        b"\0\0\0\x0f{\"type\":\"pong\"}",
    ];
    for bytes in frames {
        let stream = TcpStream::connect(room.control()).await.unwrap();
        let config = tls::client_config(room.info.pin.parse().unwrap()).unwrap();
        let mut stream = TlsConnector::from(config)
            .connect(tls::server_name(), stream)
            .await
            .unwrap();
        stream.write_all(bytes).await.unwrap();
        let ended = tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "closed at once");
    }
    // A second hello and a message about an unknown job are ignored.
    let mut second = FakeAgent::join(&room, hello(2)).await;
    second.send(AgentMessage::Hello(Box::new(hello(2)))).await;
    second
        .send(AgentMessage::Log {
            job: Some("no such job".to_owned()),
            text: "x".to_owned(),
        })
        .await;
    let list: TargetList = room.client.get("/v1/targets").await.unwrap();
    assert_eq!(
        list.targets
            .iter()
            .filter(|target| target.connected)
            .count(),
        2
    );
    let image = image(data.path(), None);
    let mut only_first = request(&image);
    only_first.targets = "pc-1".to_owned();
    let job = room.deploy(&only_first).await.unwrap();
    let order = agent.order().await;
    agent.finish(&job.id, &order.root).await;
    assert_eq!(room.summary(&job.id).await.done, 1);
    room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_on_with_the_next_console() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::open(data.path()).await;
    let mut a = FakeAgent::join(&room, hello(1)).await;
    let mut b = FakeAgent::join(&room, hello(2)).await;
    let mut c = FakeAgent::join(&room, hello(3)).await;
    let job = room.deploy(&request(&image)).await.unwrap();
    let orders = [a.order().await, b.order().await, c.order().await];
    room.close().await;
    assert!(a.next().await.is_none());

    let room = Room::open(data.path()).await;
    assert_eq!(room.job(&job.id).await.state, JobState::Interrupted);
    // One continues, one ended while no console ran, one restarted and holds nothing.
    let mut back = hello(1);
    back.job = Some(unfinished(&orders[0], None));
    let mut a = FakeAgent::join(&room, back).await;
    let order = a.order().await;
    assert_eq!(order.job, job.id);
    assert_ne!(order.session.id, orders[0].session.id);
    assert_ne!(order.session.secret, orders[0].session.secret);
    assert_eq!(room.job(&job.id).await.state, JobState::Running);
    let mut back = hello(2);
    back.job = Some(unfinished(&orders[1], Some(outcome(&job.id, &order.root))));
    let mut b = FakeAgent::join(&room, back).await;
    assert_eq!(b.recorded().await, EndAction::None);
    let mut stranger = hello(3);
    stranger.instance = "f".repeat(32);
    stranger.job = Some(unfinished(&orders[2], Some(outcome(&job.id, &order.root))));
    let mut c = FakeAgent::join(&room, stranger).await;
    assert!(matches!(
        c.next().await,
        Some(ConsoleMessage::Cancel { .. })
    ));
    a.finish(&job.id, &order.root).await;
    let summary = room.summary(&job.id).await;
    let states: Vec<_> = summary.targets.iter().map(|target| target.state).collect();
    assert_eq!(
        states,
        [TargetState::Done, TargetState::Done, TargetState::Lost]
    );
    room.close().await;

    // The third console finds the ended job.
    let room = Room::open(data.path()).await;
    assert_eq!(room.summary(&job.id).await.done, 2);
    room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_job_waits_for_its_password() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), Some("open sesame"));
    let room = Room::open(data.path()).await;
    let mut agent = FakeAgent::join(&room, hello(1)).await;
    let mut request = request(&image);
    assert_eq!(
        room.deploy(&request).await.unwrap_err().code,
        ErrorCode::Usage
    );
    request.password = Some("open sesame".to_owned());
    let job = room.deploy(&request).await.unwrap();
    let order = agent.order().await;
    assert!(order.id_key.is_some());
    room.close().await;

    let room = Room::open(data.path()).await;
    let mut back = hello(1);
    back.job = Some(unfinished(&order, None));
    let mut agent = FakeAgent::join(&room, back).await;
    assert_eq!(room.job(&job.id).await.state, JobState::Interrupted);
    let log = room
        .client
        .text(&format!("/v1/jobs/{}/log", job.id))
        .await
        .unwrap();
    assert!(log.contains("job retry"), "{log}");
    let retry = format!("/v1/jobs/{}/retry", job.id);
    let error = room
        .client
        .post::<_, JobView>(&retry, &RetryRequest::default())
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Usage);
    let password = RetryRequest {
        password: Some("open sesame".to_owned()),
        targets: None,
        secrets: Default::default(),
    };
    let again: JobView = room.client.post(&retry, &password).await.unwrap();
    assert!(
        matches!(agent.next().await, Some(ConsoleMessage::Cancel { job: old, .. }) if old == job.id)
    );
    let order = agent.order().await;
    agent.finish(&again.id, &order.root).await;
    assert_eq!(room.summary(&again.id).await.done, 1);
    assert_eq!(room.job(&job.id).await.state, JobState::Failed);
    room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_rules_and_cancelling() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::impatient(data.path()).await;
    let mut a = FakeAgent::join(&room, hello(1)).await;
    // The job waits for two targets and one is there: the second joins after a technician has
    // confirmed it.
    let mut two = request(&image);
    two.start = StartRule::Count(2);
    let job = room.deploy(&two).await.unwrap();
    assert_eq!(room.job(&job.id).await.state, JobState::Waiting);
    // A target cannot be in two jobs.
    assert_eq!(
        room.deploy(&request(&image)).await.unwrap_err().code,
        ErrorCode::Refused
    );
    let mut b = FakeAgent::join(&room, hello(2)).await;
    room.add(&job.id, "pc-2").await.unwrap();
    a.order().await;
    let order = b.order().await;
    // One target is dropped, the other continues.
    let drop_a = CancelRequest {
        targets: Some("pc-1".to_owned()),
        reason: Some("smoke".to_owned()),
    };
    let _: JobView = room
        .client
        .post(&format!("/v1/jobs/{}/cancel", job.id), &drop_a)
        .await
        .unwrap();
    assert!(
        matches!(a.next().await, Some(ConsoleMessage::Cancel { reason, .. }) if reason.contains("smoke"))
    );
    // An agent that leaves sends its outcome.
    let left = Outcome {
        state: TargetState::Dropped,
        root: None,
        ..outcome(&job.id, "")
    };
    a.send(AgentMessage::Outcome(Box::new(left))).await;
    a.recorded().await;
    b.finish(&job.id, &order.root).await;
    let summary = room.summary(&job.id).await;
    assert_eq!(summary.targets[0].state, TargetState::Dropped);
    assert_eq!((summary.state, summary.done), (JobState::Failed, 1));

    // A start by hand, and a job that is cancelled before its start.
    let mut manual = request(&image);
    manual.start = StartRule::Manual;
    let job = room.deploy(&manual).await.unwrap();
    let _: JobView = room
        .client
        .post(
            &format!("/v1/jobs/{}/start", job.id),
            &StartRequest::default(),
        )
        .await
        .unwrap();
    a.order().await;
    let cancel = format!("/v1/jobs/{}/cancel", job.id);
    let _: JobView = room
        .client
        .post(&cancel, &CancelRequest::default())
        .await
        .unwrap();
    assert_eq!(room.summary(&job.id).await.state, JobState::Cancelled);
    assert_eq!(
        room.client
            .post::<_, JobView>(&cancel, &CancelRequest::default())
            .await
            .unwrap_err()
            .code,
        ErrorCode::Refused
    );
    manual.start = StartRule::At("9000-01-01T00:00:00Z".to_owned());
    let job = room.deploy(&manual).await.unwrap();
    let cancel = format!("/v1/jobs/{}/cancel", job.id);
    let _: JobView = room
        .client
        .post(&cancel, &CancelRequest::default())
        .await
        .unwrap();
    assert_eq!(room.summary(&job.id).await.state, JobState::Cancelled);
    manual.start = StartRule::At("tomorrow".to_owned());
    assert_eq!(
        room.deploy(&manual).await.unwrap_err().code,
        ErrorCode::Usage
    );
    assert_eq!(
        room.client
            .get::<JobView>("/v1/jobs/99")
            .await
            .unwrap_err()
            .code,
        ErrorCode::NothingMatched
    );
    room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_over_tcp_5003_for_those_with_a_token() {
    let data = tempfile::tempdir().unwrap();
    let image = image(data.path(), None);
    let room = Room::open(data.path()).await;
    let mut agent = FakeAgent::join(&room, hello(1)).await;
    let job = room.deploy(&request(&image)).await.unwrap();
    let order = agent.order().await;
    let last = order.image_blocks - 1;
    let path = |rest: &str| format!("/v1/jobs/{}/{rest}", job.id);

    let manifest = get(&room, &path("manifest"), &order.bulk.token).await;
    assert_eq!(manifest.0, 200);
    assert_eq!(manifest.1.len() as u64, order.manifest_bytes);
    assert_eq!(blake3::hash(&manifest.1).to_string(), order.manifest_digest);
    let blocks = get(
        &room,
        &path(&format!("blocks?ranges={last},0-1")),
        &order.bulk.token,
    )
    .await;
    assert_eq!(blocks.0, 200);
    let master = super::master::MasterImage::open(&image, None).unwrap();
    let mut expected = Vec::new();
    for index in [last, 0, 1] {
        let mut bytes = Vec::new();
        let key = multicast::BlockKey::image(index);
        net::sending::BlockSource::read_block(&master, key, &mut bytes).unwrap();
        expected.extend_from_slice(&index.to_be_bytes());
        expected.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
        expected.extend_from_slice(&bytes);
    }
    assert!(blocks.1 == expected);

    for (path, token, status) in [
        (
            path("blocks?ranges=0-9999999"),
            order.bulk.token.clone(),
            400,
        ),
        (path("blocks"), order.bulk.token.clone(), 400),
        (path("manifest"), format!("0.{}", "0".repeat(64)), 403),
        (path("manifest"), "nonsense".to_owned(), 403),
        (
            "/v1/jobs/77/manifest".to_owned(),
            order.bulk.token.clone(),
            403,
        ),
        ("/etc/passwd".to_owned(), order.bulk.token.clone(), 404),
    ] {
        assert_eq!(get(&room, &path, &token).await.0, status, "{path}");
    }
    agent.finish(&job.id, &order.root).await;
    assert!(room.summary(&job.id).await.session.bulk_bytes >= manifest.1.len() as u64);
    // The token is invalid after the job.
    assert_eq!(
        get(&room, &path("manifest"), &order.bulk.token).await.0,
        403
    );
    room.close().await;
}

/// Requests a path with the client that agents use; returns status and body.
async fn get(room: &Room, path: &str, token: &str) -> (u16, Vec<u8>) {
    use http_body_util::BodyExt;
    let stream = TcpStream::connect(("127.0.0.1", room.info.bulk_port))
        .await
        .unwrap();
    let config = tls::client_config(room.info.pin.parse().unwrap()).unwrap();
    let stream = TlsConnector::from(config)
        .connect(tls::server_name(), stream)
        .await
        .unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::get(path)
        .header("host", "diskcast")
        .header("authorization", format!("Bearer {token}"))
        .body(http_body_util::Empty::<hyper::body::Bytes>::new())
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status().as_u16();
    (
        status,
        answer
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .to_vec(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_console_a_folder_and_what_it_knows_stays() {
    let data = tempfile::tempdir().unwrap();
    let room = Room::open(data.path()).await;
    let error = super::serve::run(options(data.path()), std::future::pending())
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Refused);
    assert!(
        error
            .message
            .contains(&format!("pid {}", std::process::id())),
        "{}",
        error.message
    );
    let other = tempfile::tempdir().unwrap();
    let mut busy = options(other.path());
    busy.control_port = room.control().port();
    let error = super::serve::run(busy, std::future::pending())
        .await
        .unwrap_err();
    assert!(
        error
            .message
            .contains(&format!("port {}", room.control().port())),
        "{}",
        error.message
    );

    let agent = FakeAgent::join(&room, hello(1)).await;
    let (pin, target) = (room.info.pin.clone(), agent.target.clone());
    room.close().await;
    drop(agent);
    let mut strict = options(data.path());
    strict.approval = super::serve::Approval::Manual;
    let room = Room::with(strict).await;
    assert_eq!(room.info.pin, pin);
    let list: TargetList = room.client.get("/v1/targets").await.unwrap();
    assert_eq!(
        (list.targets[0].id.as_str(), list.targets[0].state),
        (target.as_str(), TargetState::Discovered)
    );
    // The first console approved it; a new target has to wait.
    let known = FakeAgent::join(&room, hello(1)).await;
    assert_eq!(known.target, target);
    let mut new = FakeAgent::join(&room, hello(2)).await;
    let list: TargetList = room.client.get("/v1/targets").await.unwrap();
    assert_eq!(list.targets[0].state, TargetState::Ready);
    assert_eq!(list.targets[1].state, TargetState::WaitingApproval);
    let _: api::TargetView = room
        .client
        .post("/v1/targets/pc-2/approve", &())
        .await
        .unwrap();
    assert!(matches!(
        new.next().await,
        Some(ConsoleMessage::Welcome { approved: true, .. })
    ));
    room.close().await;
}
