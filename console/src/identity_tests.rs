//! Identities through the real console: agents over TLS with invented facts, restarts in between,
//! and the verdicts of network boot.

use super::boot::orders::FromConsole;
use super::test_room::{FakeAgent, LIMIT, Room, hello, image, partitioned_image, request};
use api::{
    BindingList, ErrorCode, IdentifyRequest, ImportRequest, Plan, RenameRequest, TargetList,
    TargetView, TemplateUse,
};
use facts::boot::Verdict;
use facts::target::{NicFacts, TargetState};
use protocol::control::Hello;
use pxe::decide::UefiLoader;
use pxe::serve::{Ports, Settings};
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A UUID that many boards share.
const TWIN: &str = "03020100-0504-0706-0809-0a0b0c0d0e0f";
const JUNK: &str = "To be filled by O.E.M.";

fn card(number: u8) -> String {
    format!("52:54:00:00:00:{number:02x}")
}

/// Hello of a PC whose agent has just started; each start is another instance.
fn pc(start: u8, uuid: &str, serial: &str, cards: &[u8]) -> Hello {
    let mut hello = hello(start);
    hello.name = None;
    hello.facts.hostname = "pre-os".to_owned();
    hello.facts.uuid = Some(uuid.to_owned());
    hello.facts.serial = Some(serial.to_owned());
    hello.facts.nics = cards
        .iter()
        .map(|number| NicFacts {
            mac: card(*number),
            ..NicFacts::default()
        })
        .collect();
    hello
}

async fn list(room: &Room) -> Vec<TargetView> {
    let list: TargetList = room.client.get("/v1/targets").await.unwrap();
    list.targets
}

async fn show(room: &Room, target: &str) -> TargetView {
    let path = format!("/v1/targets/{target}");
    room.client.get(&path).await.unwrap()
}

/// Closes an agent's connection and waits until the console has noticed; returns the target's id.
async fn gone(room: &Room, agent: FakeAgent) -> String {
    let id = agent.target.clone();
    drop(agent);
    let work = async {
        while show(room, &id).await.connected {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(LIMIT, work).await;
    assert!(waited.is_ok(), "{id} is still connected");
    id
}

async fn rename(room: &Room, target: &str, name: &str) {
    let request = RenameRequest {
        name: name.to_owned(),
    };
    let path = format!("/v1/targets/{target}/rename");
    let _: TargetView = room.client.post(&path, &request).await.unwrap();
}

async fn identify(
    room: &Room,
    target: &str,
    is: Option<&str>,
) -> Result<TargetView, api::ApiError> {
    let request = IdentifyRequest {
        is: is.map(str::to_owned),
    };
    let path = format!("/v1/targets/{target}/identify");
    room.client.post(&path, &request).await
}

/// Returns the answer of `diskcast pxe serve` to `GET /boot.ipxe?mac=...&uuid=...`, with the
/// console's orders, on free ports.
async fn boots(room: &Room, number: u8, uuid: &str) -> Verdict {
    let policy = FromConsole::default();
    policy.sync(&room.client).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    for file in ["vmlinuz", "initrd.img"] {
        std::fs::write(folder.path().join(file), "a file").unwrap();
    }
    let settings = Settings {
        interface: None,
        address: Ipv4Addr::LOCALHOST,
        prefix: 8,
        ports: Ports {
            dhcp: 0,
            client: 0,
            pxe: 0,
            tftp: 0,
            http: 0,
        },
        boot_files: folder.path().to_owned(),
        uefi: UefiLoader::default(),
        leases: None,
    };
    let service = pxe::serve::start(settings, Arc::new(policy)).await.unwrap();
    let port = service.http.port();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .unwrap();
    let mac = card(number);
    let question = format!(
        "GET /boot.ipxe?mac={mac}&uuid={uuid}&arch=uefi HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(question.as_bytes()).await.unwrap();
    let mut script = String::new();
    stream.read_to_string(&mut script).await.unwrap();
    assert!(script.contains("#!ipxe"), "{script}");
    if script.contains("kernel ") {
        Verdict::Agent
    } else {
        Verdict::Local
    }
}

async fn restarted(room: Room, data: &std::path::Path) -> Room {
    room.close().await;
    Room::open(data).await
}

/// Regression: two boards with one UUID and one serial number exchanged names when they restarted
/// in another order, and `--targets lab-a` erased the other PC.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twin_boards_keep_their_names() {
    let data = tempfile::tempdir().unwrap();
    let mut room = Room::open(data.path()).await;
    let image = image(data.path(), None);
    let a = FakeAgent::join(&room, pc(1, TWIN, JUNK, &[1])).await;
    let b = FakeAgent::join(&room, pc(2, TWIN, JUNK, &[2])).await;
    assert_ne!(a.target, b.target);
    rename(&room, &a.target, "lab-a").await;
    rename(&room, &b.target, "lab-b").await;
    let (id_a, id_b) = (a.target.clone(), b.target.clone());
    let shown = show(&room, "lab-b").await;
    assert_eq!(shown.state, TargetState::Ready);
    assert_eq!(shown.identity.not_unique.len(), 2, "{:?}", shown.identity);
    drop((a, b));
    let mut start = 10;
    for _ in 0..2 {
        room = restarted(room, data.path()).await;
        start += 2;
        let b = FakeAgent::join(&room, pc(start, TWIN, JUNK, &[2])).await;
        let a = FakeAgent::join(&room, pc(start + 1, TWIN, JUNK, &[1])).await;
        assert_eq!((&a.target, &b.target), (&id_a, &id_b));
        let mut wanted = request(&image);
        wanted.targets = "lab-a".to_owned();
        let plan: Plan = room.client.post("/v1/plan", &wanted).await.unwrap();
        assert_eq!(plan.targets[0].mac, Some(card(1)));
        // Both are done and start from their own disks; a third board is new.
        assert_eq!(boots(&room, 1, TWIN).await, Verdict::Local);
        assert_eq!(boots(&room, 2, TWIN).await, Verdict::Local);
        assert_eq!(boots(&room, 3, TWIN).await, Verdict::Agent);
    }
    room.close().await;
}

/// Regression: the second of two boards with one UUID was sent to its own disk and never joined.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_board_that_may_be_another_is_asked_about() {
    let data = tempfile::tempdir().unwrap();
    let room = Room::open(data.path()).await;
    let image = image(data.path(), None);
    let a = FakeAgent::join(&room, pc(1, TWIN, JUNK, &[1])).await;
    rename(&room, &a.target, "lab-a").await;
    let id_a = gone(&room, a).await;
    assert_eq!(boots(&room, 1, TWIN).await, Verdict::Local);
    assert_eq!(
        boots(&room, 2, TWIN).await,
        Verdict::Agent,
        "a twin board, or a new card"
    );

    let b = FakeAgent::join(&room, pc(2, TWIN, JUNK, &[2])).await;
    let shown = show(&room, &b.target).await;
    assert_eq!(
        (shown.state, shown.name.as_str()),
        (TargetState::Unidentified, "pre-os")
    );
    assert_eq!(shown.identity.may_be, ["lab-a"]);
    let plan: Plan = room
        .client
        .post("/v1/plan", &request(&image))
        .await
        .unwrap();
    let refused = plan.targets[0].refused.clone().unwrap();
    assert!(
        refused.contains("diskcast target identify pre-os --is lab-a, or --new"),
        "{refused}"
    );

    // A restart keeps the question, and the unidentified machine gets the agent.
    drop(b);
    let mut room = restarted(room, data.path()).await;
    assert_eq!(boots(&room, 2, TWIN).await, Verdict::Agent);
    let mut b = FakeAgent::join(&room, pc(3, TWIN, JUNK, &[2])).await;
    assert_eq!(
        show(&room, &b.target).await.state,
        TargetState::Unidentified
    );
    let error = identify(&room, "pre-os", Some("nobody")).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NothingMatched);
    let error = identify(&room, "pre-os", Some("pre-os")).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Refused);

    // It is lab-a with another card: the agent returns under its old name, and boots with either
    // card.
    let same = identify(&room, "pre-os", Some("lab-a")).await.unwrap();
    assert_eq!(
        (same.id.as_str(), same.name.as_str()),
        (id_a.as_str(), "lab-a")
    );
    assert!(b.next().await.is_none(), "it has to come back");
    assert_eq!(list(&room).await.len(), 1);
    for (start, number) in [(3, 2), (4, 1), (5, 2)] {
        let again = FakeAgent::join(&room, pc(start, TWIN, JUNK, &[number])).await;
        assert_eq!(again.target, id_a);
        assert_eq!(show(&room, "lab-a").await.state, TargetState::Ready);
        drop(again);
        room = restarted(room, data.path()).await;
        assert_eq!(boots(&room, number, TWIN).await, Verdict::Local);
    }

    // After one confirmed twin, the next one needs no question.
    let c = FakeAgent::join(&room, pc(6, TWIN, JUNK, &[3])).await;
    assert_eq!(
        show(&room, &c.target).await.state,
        TargetState::Unidentified
    );
    let id_c = identify(&room, &c.target, None).await.unwrap().id;
    assert_eq!(show(&room, &id_c).await.state, TargetState::Ready);
    assert_eq!(gone(&room, c).await, id_c);
    let d = FakeAgent::join(&room, pc(7, TWIN, JUNK, &[4])).await;
    assert_eq!(show(&room, &d.target).await.state, TargetState::Ready);
    drop(d);
    let room = restarted(room, data.path()).await;
    let c = FakeAgent::join(&room, pc(8, TWIN, JUNK, &[3])).await;
    assert_eq!(c.target, id_c);
    let a = FakeAgent::join(&room, pc(9, TWIN, JUNK, &[1])).await;
    assert_eq!(a.target, id_a);
    // Both are connected, so they are two machines.
    let error = identify(&room, &id_c, Some("lab-a")).await.unwrap_err();
    assert!(
        error.message.contains("lab-a is connected"),
        "{}",
        error.message
    );
    room.close().await;
}

/// Regression: a school booted its laptops one after the other on the only dock of the office.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_laptops_on_one_dock_have_three_names() {
    let data = tempfile::tempdir().unwrap();
    let mut room = Room::open(data.path()).await;
    let uuid = |number: u8| format!("4c4c4544-0042-3510-8052-b4c04f5644{number:02x}");
    let laptop = |start: u8, number: u8| pc(start, &uuid(number), &format!("SER{number}"), &[7]);
    let mut ids = Vec::new();
    for number in 1..=3 {
        assert_eq!(boots(&room, 7, &uuid(number)).await, Verdict::Agent);
        let agent = FakeAgent::join(&room, laptop(number, number)).await;
        assert_eq!(show(&room, &agent.target).await.state, TargetState::Ready);
        rename(&room, &agent.target, &format!("laptop-{number}")).await;
        ids.push(gone(&room, agent).await);
    }
    for (start, number) in [(11, 3), (12, 1), (13, 2), (14, 1)] {
        room = restarted(room, data.path()).await;
        assert_eq!(boots(&room, 7, &uuid(number)).await, Verdict::Local);
        let agent = FakeAgent::join(&room, laptop(start, number)).await;
        assert_eq!(agent.target, ids[usize::from(number) - 1]);
        let shown = show(&room, &agent.target).await;
        assert_eq!(shown.name, format!("laptop-{number}"));
        assert_eq!(
            shown.identity.not_unique,
            [format!("network card {}", card(7))]
        );
    }
    // A list that names a machine by the dock would name all of them.
    let text = format!("{},LAB-01\n", card(7));
    let imported: Result<api::BindingList, _> = room
        .client
        .post("/v1/bindings/import", &ImportRequest { text })
        .await;
    let error = imported.unwrap_err();
    assert!(
        error.message.contains("several machines have network card"),
        "{}",
        error.message
    );
    // A new board in laptop 1, on a card of its own, leads to a question, and laptop 1 is not lost.
    assert_eq!(list(&room).await.len(), 3);
    room.close().await;
}

/// Stores the findings of the image: the small Linux in its partition.
async fn found_linux(data: &std::path::Path, image: &std::path::Path) {
    let found = serde_json::json!({
        "partitions": [{"number": 1, "file_system": "ext"}],
        "systems": [{
            "family": "linux", "partition": 1, "id": "debian", "pretty_name": "Debian GNU/Linux 12 (bookworm)",
            "arch": "x64", "systemd": true, "renderers": ["networkd"]
        }]
    });
    let master = super::master::MasterImage::open(image, None).unwrap();
    let store = super::store::Store::open(&data.join("console.db")).unwrap();
    let found = serde_json::from_value(found).unwrap();
    let root = master.root().to_owned();
    store.save_findings(root, found).await.unwrap();
}

/// Regression: each laptop on the dock was LAB-01, because the name was looked up by the card.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_gives_three_laptops_on_one_dock_three_names() {
    let data = tempfile::tempdir().unwrap();
    let image = partitioned_image(data.path());
    found_linux(data.path(), &image).await;
    let mut room = Room::open(data.path()).await;
    let mut request = request(&image);
    request.targets = "state:ready".to_owned();
    let text = "schema = 1\n[identity]\nhostname = \"LAB-{nn}\"\n\
        [network]\nmode = \"static\"\nrange = \"10.20.0.50-10.20.0.59\"\nprefix = 24\n[linux]\n";
    request.template = Some(TemplateUse {
        name: "lab".to_owned(),
        text: text.to_owned(),
        folder: data.path().to_owned(),
    });
    let uuid = |number: u8| format!("4c4c4544-0042-3510-8052-b4c04f5644{number:02x}");
    let laptop = |start: u8, number: u8| pc(start, &uuid(number), &format!("SER{number}"), &[7]);
    // In order, then in another order after a restart of the console.
    for (start, number) in [(1, 1), (2, 2), (3, 3), (11, 3), (12, 1), (13, 2)] {
        if start == 11 {
            room = restarted(room, data.path()).await;
        }
        let mut agent = FakeAgent::join(&room, laptop(start, number)).await;
        let job = room.deploy(&request).await.unwrap();
        let order = agent.order().await;
        let plan = &order.apply.as_ref().unwrap().plan;
        assert_eq!(
            plan.hostname,
            Some(format!("LAB-0{number}")),
            "start {start}"
        );
        let address = format!("10.20.0.{}", 49 + number);
        assert_eq!(plan.address.map(|own| own.to_string()), Some(address));
        agent.finish(&job.id, &order.root).await;
        agent.recorded().await;
        room.summary(&job.id).await;
        gone(&room, agent).await;
    }
    let list: BindingList = room.client.get("/v1/bindings").await.unwrap();
    assert_eq!(list.bindings.len(), 3);
    room.close().await;
}
