//! Uploads and choices of a hostile agent; none of them reaches an image, a disk or another target.

use crate::serve::Approval;
use crate::test_room::{
    DISK_BYTES, FakeAgent, FullDisk, Room, hello, image, options, outcome, request,
};
use api::{CancelRequest, CaptureRequest, ErrorCode, JobState, JobView, OfferRequest, TargetList};
use facts::look::Look;
use facts::order::EndAction;
use facts::target::TargetState;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use imagefmt::{ChunkId, DiskSet, Encoder, Entry, Geometry, Image, Mask, Meta};
use net::tls;
use protocol::capture::{FRAME_HEAD_BYTES, frame, hold};
use protocol::control::{
    AgentMessage, BackupRequest, CaptureBegin, CaptureBegun, CaptureOrder, ChoiceAnswer,
    ConsoleMessage, DiskOrder, Menu, TableSectors, TakeOffer, Unfinished,
};
use std::net::Ipv4Addr;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Sends one request on a connection of its own.
async fn post(room: &Room, path: &str, token: Option<&str>, body: Vec<u8>) -> (u16, String) {
    let address = (Ipv4Addr::LOCALHOST, room.info.bulk_port);
    let stream = TcpStream::connect(address).await.unwrap();
    let config = tls::client_config(room.info.pin.parse().unwrap()).unwrap();
    let stream = TlsConnector::from(config)
        .connect(tls::server_name(), stream)
        .await
        .unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let mut request = hyper::Request::post(path).header("host", "diskcast");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Full::new(body.into())).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&text).into_owned())
}

fn geometry() -> Geometry {
    Geometry::new(DISK_BYTES, 512, 20).unwrap()
}

fn chunk(number: u32) -> (Entry, Vec<u8>) {
    let mask = Mask::full(geometry().chunk_len(ChunkId(number)));
    let mut used = vec![0; mask.used_bytes() as usize];
    blake3::Hasher::new()
        .update(&number.to_le_bytes())
        .finalize_xof()
        .fill(&mut used);
    let mut encoder = Encoder::new(1, None).unwrap();
    let body = encoder.encode(&mask, &used).unwrap();
    let entry = Entry {
        chunk: ChunkId(number),
        codec: body.codec,
        body_len: u32::try_from(body.bytes.len()).unwrap(),
        mask,
        id: body.id,
    };
    let bytes = body.bytes.to_vec();
    (entry, bytes)
}

fn framed(number: u32) -> Vec<u8> {
    let (entry, body) = chunk(number);
    frame(&entry, &body)
}

fn survey() -> CaptureBegin {
    CaptureBegin {
        survey: "5a".repeat(32),
        disk_bytes: DISK_BYTES,
        sector_size: 512,
        chunk_log2: 20,
        chunks: 3,
        used_bytes: 3 << 20,
        expected_bytes: 1,
        meta: Meta {
            table_kind: "none".to_owned(),
            created: "the agent has no say in this".to_owned(),
            set: Some(DiskSet {
                id: "nor in this".to_owned(),
                disk: 7,
            }),
            ..Meta::default()
        },
        table: vec![TableSectors {
            offset: 0,
            bytes: "00".repeat(512),
        }],
        fresh: None,
    }
}

async fn order(agent: &mut FakeAgent) -> CaptureOrder {
    match agent.next().await {
        Some(ConsoleMessage::Capture(order)) => *order,
        other => panic!("no order but {other:?}"),
    }
}

fn wanted(target: &str) -> CaptureRequest {
    CaptureRequest {
        target: target.to_owned(),
        name: Some("m".to_owned()),
        end: EndAction::Restart,
        set: Some(DiskSet {
            id: "lab-pc".to_owned(),
            disk: 2,
        }),
        ..CaptureRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_upload_must_not_do_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let room = Room::open(data.path()).await;
    let mut agent = FakeAgent::join(&room, hello(1)).await;
    let job: JobView = room
        .client
        .post("/v1/captures", &wanted("pc-1"))
        .await
        .unwrap();
    let order = order(&mut agent).await;
    assert_eq!(
        (&order.job, order.disk.path.as_str()),
        (&job.id, "/dev/sda")
    );
    let base = format!("/v1/captures/{}", job.id);
    let token = order.bulk.token.as_str();
    let send = async |what: &str, body: Vec<u8>| {
        post(&room, &format!("{base}/{what}"), Some(token), body)
            .await
            .0
    };
    let begin = |change: fn(&mut CaptureBegin)| {
        let mut begin = survey();
        change(&mut begin);
        serde_json::to_vec(&begin).unwrap()
    };

    // Requests before `begin`, and `begin` without the token.
    assert_eq!(send("chunks?upload=1", framed(3)).await, 409);
    assert_eq!(send("end?upload=0", b"{}".to_vec()).await, 409);
    let path = format!("{base}/begin");
    let good = begin(|_| {});
    assert_eq!(post(&room, &path, None, good.clone()).await.0, 401);
    for wrong in ["x", "0.", "1.00", &format!("{token}0")] {
        assert_eq!(post(&room, &path, Some(wrong), good.clone()).await.0, 403);
    }
    let other = "/v1/captures/999/begin";
    assert_eq!(post(&room, other, Some(token), good.clone()).await.0, 403);
    for nonsense in [
        b"{}".to_vec(),
        vec![0xff; 5000],
        begin(|b| b.disk_bytes += 512),
        begin(|b| b.chunk_log2 = 60),
        begin(|b| b.sector_size = 7),
        begin(|b| b.chunks = 9),
        begin(|b| b.used_bytes = u64::MAX),
        begin(|b| b.survey.clear()),
        begin(|b| b.table[0].bytes = "zz".to_owned()),
        begin(|b| b.table[0].offset = u64::MAX),
    ] {
        assert_eq!(send("begin", nonsense).await, 422);
    }
    // A lack of room is reported before a chunk is read.
    assert_eq!(
        send("begin", begin(|b| b.expected_bytes = u64::MAX)).await,
        507
    );

    let (status, text) = post(&room, &path, Some(token), good.clone()).await;
    assert_eq!(status, 200, "{text}");
    let begun: CaptureBegun = serde_json::from_str(&text).unwrap();
    assert_eq!((begun.held, begun.note), (0, None));
    let chunks = format!("chunks?upload={}", begun.upload);
    let end = format!("end?upload={}", begun.upload);
    assert_eq!(send("chunks?upload=99", framed(3)).await, 409);
    let mut damaged = framed(3);
    damaged[FRAME_HEAD_BYTES + 1000] ^= 1;
    let mut beyond = framed(3);
    beyond[..4].copy_from_slice(&8u32.to_be_bytes());
    let mut another = framed(3);
    another[..4].copy_from_slice(&4u32.to_be_bytes());
    another[12] ^= 1;
    let mut oversized = framed(3);
    oversized[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    for (bytes, status) in [
        (vec![0xee; 5000], 422),
        (damaged, 422),
        (beyond, 422),
        (another, 422),
        (oversized, 422),
        (framed(3)[..70_000].to_vec(), 400),
    ] {
        assert_eq!(send(&chunks, bytes).await, status);
    }
    assert_eq!(room.job(&job.id).await.targets[0].done_bytes, 0);

    // One good chunk, then repeated and out-of-order ones, then an early end.
    assert_eq!(send(&chunks, framed(3)).await, 200);
    for number in [3, 1] {
        assert_eq!(send(&chunks, framed(number)).await, 422);
    }
    assert_eq!(send(&end, b"{}".to_vec()).await, 422);
    // A good chunk before a bad one is kept; the bad one is not.
    let mut two = framed(5);
    two.extend(framed(4));
    assert_eq!(send(&chunks, two).await, 422);
    assert_eq!(send(&chunks, framed(6)).await, 200);
    assert_eq!(send(&chunks, framed(7)).await, 422);

    // Another upload takes over and learns which chunks exist; the former upload is refused.
    let (_, text) = post(&room, &path, Some(token), good).await;
    let again: CaptureBegun = serde_json::from_str(&text).unwrap();
    let mut digest = blake3::Hasher::new();
    for number in [3, 5, 6] {
        hold(&mut digest, ChunkId(number), chunk(number).0.id);
    }
    assert_eq!(
        (again.held, again.held_digest.as_str()),
        (3, digest.finalize().to_hex().as_str())
    );
    assert_eq!(send(&end, b"{}".to_vec()).await, 409);
    let partial = data.path().join("images/m.dcimg.partial");
    assert!(partial.exists());
    // The request allows no unreadable ranges, so the end must list none.
    let end = format!("end?upload={}", again.upload);
    for wrong in ["", r#"{"holes":[{"start":0,"length":512}]}"#] {
        assert_eq!(send(&end, wrong.into()).await, 422);
    }
    assert_eq!(send(&end, b"{}".to_vec()).await, 200);
    assert_eq!(agent.recorded().await, EndAction::Restart);
    let summary = room.summary(&job.id).await;
    assert_eq!((summary.state, summary.done), (JobState::Done, 1));
    assert_eq!(post(&room, &path, Some(token), Vec::new()).await.0, 403);
    let bytes = std::fs::read(data.path().join("images/m.dcimg")).unwrap();
    let image = Image::open(bytes.as_slice(), bytes.len() as u64, None).unwrap();
    let there: Vec<u32> = image.manifest().entries.iter().map(|e| e.chunk.0).collect();
    assert_eq!(
        (there, image.root().to_string()),
        (vec![3, 5, 6], summary.root)
    );
    assert!(image.manifest().meta.created.starts_with("20"));
    assert_eq!(image.manifest().meta.set, wanted("pc-1").set);
    assert!(!partial.exists());
    room.close().await;
}

/// Regression: the agent forgot its capture before a store had it, so the next console found an
/// image and a job that ran for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capture_that_is_not_stored_is_not_told_recorded() {
    let data = tempfile::tempdir().unwrap();
    let room = Room::open(data.path()).await;
    let mut agent = FakeAgent::join(&room, hello(1)).await;
    let job: JobView = room
        .client
        .post("/v1/captures", &wanted("pc-1"))
        .await
        .unwrap();
    let order = order(&mut agent).await;
    let base = format!("/v1/captures/{}", job.id);
    let token = order.bulk.token.as_str();
    let send = async |what: &str, body: Vec<u8>| {
        let (status, text) = post(&room, &format!("{base}/{what}"), Some(token), body).await;
        assert_eq!(status, 200, "{what}: {text}");
        text
    };
    let begun = send("begin", serde_json::to_vec(&survey()).unwrap()).await;
    let begun: CaptureBegun = serde_json::from_str(&begun).unwrap();
    let frames = [3, 5, 6].map(framed).concat();
    send(&format!("chunks?upload={}", begun.upload), frames).await;
    let full = FullDisk::of(data.path());
    send(&format!("end?upload={}", begun.upload), b"{}".to_vec()).await;
    let summary = room.summary(&job.id).await;
    assert_eq!((summary.state, summary.done), (JobState::Done, 1));
    // Planning requests the facts of the disks; when the agent answers, all earlier messages have
    // arrived.
    let other = image(data.path(), None);
    let plan = async || {
        let _: api::Plan = room
            .client
            .post("/v1/plan", &request(&other))
            .await
            .unwrap();
    };
    plan().await;
    assert!(agent.heard_nothing(), "told that it is recorded");
    // It is not sent after a reconnect either.
    drop(agent);
    let mut back = hello(1);
    back.job = Some(Unfinished {
        job: job.id.clone(),
        root: String::new(),
        state: TargetState::Capturing,
        outcome: None,
    });
    let mut agent = FakeAgent::join(&room, back).await;
    plan().await;
    assert!(agent.heard_nothing(), "told when it came back");
    let shown = room.job(&job.id).await;
    assert_eq!(
        (shown.state, &shown.root),
        (JobState::Done, &summary.root),
        "shown as it is"
    );
    drop(full);
    assert_eq!(agent.recorded().await, EndAction::Restart);
    room.close().await;
    // The next console finds the image, not only the ended job.
    let room = Room::open(data.path()).await;
    let view = room.job(&job.id).await;
    assert_eq!((view.state, view.root), (JobState::Done, summary.root));
    let capture = view.capture.unwrap();
    assert!(capture.file_bytes > 0 && capture.meta.is_some());
    room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_agent_turns_a_cancelled_capture_into_a_done_one() {
    let data = tempfile::tempdir().unwrap();
    let room = Room::open(data.path()).await;
    let mut agent = FakeAgent::join(&room, hello(1)).await;
    let job: JobView = room
        .client
        .post("/v1/captures", &wanted("pc-1"))
        .await
        .unwrap();
    order(&mut agent).await;
    let path = format!("/v1/jobs/{}/cancel", job.id);
    let cancel = CancelRequest::default();
    let _: serde_json::Value = room.client.post(&path, &cancel).await.unwrap();
    room.ends(&job.id, JobState::Cancelled).await;
    // The root in the job's record, and the root of an image without chunks.
    for root in [String::new(), "00".repeat(32)] {
        let done = outcome(&job.id, &root);
        agent.send(AgentMessage::Outcome(Box::new(done))).await;
        loop {
            match agent.next().await {
                Some(ConsoleMessage::Cancel { reason, .. }) if reason.contains("not done") => break,
                Some(_) => {}
                None => panic!("the connection ended"),
            }
        }
    }
    let now = room.job(&job.id).await;
    assert_eq!(now.state, JobState::Cancelled);
    assert_eq!(now.targets[0].state, TargetState::Dropped);
    room.close().await;
}

async fn answered(agent: &mut FakeAgent) -> ChoiceAnswer {
    match agent.next().await {
        Some(ConsoleMessage::ChoiceAnswer(answer)) => answer,
        other => panic!("no answer but {other:?}"),
    }
}

async fn menu(agent: &mut FakeAgent) -> Menu {
    agent.send(AgentMessage::MenuRequest).await;
    match agent.next().await {
        Some(ConsoleMessage::Menu(menu)) => *menu,
        other => panic!("no menu but {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn choices_made_at_a_target_are_checked_again() {
    let data = tempfile::tempdir().unwrap();
    let mut options = options(data.path());
    options.approval = Approval::Manual;
    let room = Room::with(options).await;
    let mut agent = FakeAgent::join(&room, hello(1)).await;
    let disk = DiskOrder {
        path: "/dev/sda".to_owned(),
        serial: None,
        size: DISK_BYTES,
        model: None,
        look: Look::Any,
    };
    let backup = |disk: &DiskOrder| {
        AgentMessage::BackupRequest(Box::new(BackupRequest {
            disk: disk.clone(),
            name: Some("mine".to_owned()),
        }))
    };
    let take = |offer: &str, disk: &DiskOrder| {
        AgentMessage::TakeOffer(Box::new(TakeOffer {
            offer: offer.to_owned(),
            disk: disk.clone(),
        }))
    };
    let image = image(data.path(), None);
    let mut offered = OfferRequest {
        name: "lab".to_owned(),
        note: None,
        request: request(&image),
        limit: Some(1),
        until: None,
    };
    offered.request.targets = "pc-*".to_owned();
    let add =
        async |offer: &OfferRequest| room.client.post::<_, api::Offer>("/v1/offers", offer).await;
    add(&offered).await.unwrap();
    offered.name = "office".to_owned();
    offered.request.targets = "office-*".to_owned();
    add(&offered).await.unwrap();
    let mut bad = offered.clone();
    (bad.name, bad.until) = ("old".to_owned(), Some("2000-01-01T00:00:00Z".to_owned()));
    assert_eq!(add(&bad).await.unwrap_err().code, ErrorCode::Usage);

    // Requests of a target that is not approved are refused, however many come.
    for _ in 0..100 {
        agent.send(backup(&disk)).await;
        assert!(!answered(&mut agent).await.accepted);
        agent.send(take("lab", &disk)).await;
        assert!(!answered(&mut agent).await.accepted);
    }
    assert!(menu(&mut agent).await.offers.is_empty());
    let asks = async || {
        let list: TargetList = room.client.get("/v1/targets").await.unwrap();
        list.targets[0].asks.clone()
    };
    assert_eq!(asks().await, None);
    let none = room
        .client
        .post::<_, JobView>("/v1/captures", &wanted("pc-1"))
        .await;
    assert_eq!(none.unwrap_err().code, ErrorCode::Refused);
    let _: api::TargetView = room
        .client
        .post("/v1/targets/pc-1/approve", &serde_json::json!({}))
        .await
        .unwrap();
    assert!(matches!(
        agent.next().await,
        Some(ConsoleMessage::Welcome { approved: true, .. })
    ));

    let offers = menu(&mut agent).await.offers;
    assert_eq!(offers.len(), 1, "only what is for it");
    assert_eq!(
        (offers[0].name.as_str(), &offers[0].disk.disk.path),
        ("lab", &disk.path)
    );
    let mut other = disk.clone();
    other.size += 512;
    for (offer, disk) in [("office", &disk), ("nothing", &disk), ("lab", &other)] {
        agent.send(take(offer, disk)).await;
        let answer = answered(&mut agent).await;
        assert!(!answer.accepted, "{offer}: {}", answer.text);
    }
    agent.send(backup(&other)).await;
    assert!(!answered(&mut agent).await.accepted);
    agent.send(backup(&disk)).await;
    assert!(answered(&mut agent).await.accepted);
    agent.send(backup(&disk)).await;
    assert!(answered(&mut agent).await.text.contains("moment"));
    assert!(asks().await.unwrap().contains("/dev/sda"));

    agent.send(take("lab", &disk)).await;
    let mut accepted = false;
    let order = loop {
        match agent.next().await {
            Some(ConsoleMessage::Order(order)) => break *order,
            Some(ConsoleMessage::ChoiceAnswer(answer)) => accepted = answer.accepted,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(order.disk.path, disk.path);
    if !accepted {
        assert!(answered(&mut agent).await.accepted);
    }
    agent.finish(&order.job, &order.root).await;
    assert_eq!(room.summary(&order.job).await.done, 1);
    agent.recorded().await;
    agent.send(take("lab", &disk)).await;
    assert!(
        answered(&mut agent).await.text.contains("often"),
        "the limit"
    );
    room.close().await;

    // The next console knows its offers and how often they were taken.
    let room = Room::open(data.path()).await;
    let list: api::OfferList = room.client.get("/v1/offers").await.unwrap();
    let taken: Vec<(&str, u32)> = list
        .offers
        .iter()
        .map(|o| (o.name.as_str(), o.taken))
        .collect();
    assert_eq!(taken, [("lab", 1), ("office", 0)]);
    room.close().await;
}
