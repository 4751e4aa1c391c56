//! An image with unreadable ranges of its master is deployed only if that was accepted.

use super::test_room::{FakeAgent, Room, hello, image_of, request};
use api::{ErrorCode, Plan};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_with_holes_has_to_be_accepted() {
    let data = tempfile::tempdir().unwrap();
    let room = Room::open(data.path()).await;
    let hole = imagefmt::Hole {
        start: 2 << 20,
        length: 512,
    };
    let image = image_of(data.path(), None, vec![hole]);
    let mut agent = FakeAgent::join(&room, hello(1)).await;
    let mut request = request(&image);
    let plan: Plan = room.client.post("/v1/plan", &request).await.unwrap();
    let says = |text: &str| plan.notes.iter().any(|note| note.contains(text));
    assert!(says("could not be read") && says("bytes 2097152..2097664"));
    let refused = plan.targets[0].refused.as_deref().unwrap();
    assert!(refused.contains("--accept-holes"), "{refused}");
    let error = room.deploy(&request).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Refused);

    request.accept_holes = true;
    let job = room.deploy(&request).await.unwrap();
    let order = agent.order().await;
    assert_eq!(order.root, job.root);
    room.close().await;
}
