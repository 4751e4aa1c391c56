//! A console that deploys only signed images.

use super::test_room::{FakeAgent, Room, hello, image, options, request};
use api::{DeployRequest, ErrorCode, JobState, Plan, StartRequest, StartRule};
use api::{Offer, OfferRequest, SecretRequest, SecretView, SigningKeyView, TemplateUse};
use disk::{append::append, restore};
use imagefmt::SigningKey;
use protocol::control::ConsoleMessage;
use std::path::Path;

fn key(byte: u8) -> SigningKey {
    SigningKey::from_bytes(&[byte; 32])
}

fn sign(path: &Path, key: &SigningKey) {
    let opened = restore::open_image(path, None).unwrap();
    let signature = key.sign(&opened.root());
    append(path, &opened.with_signature(&signature).unwrap()).unwrap();
}

async fn strict(data_dir: &Path) -> Room {
    let mut options = options(data_dir);
    options.signed_by = vec![key(1).public()];
    Room::with(options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_a_trusted_signature_is_refused_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path(), None);
    let room = strict(&folder.path().join("data")).await;
    assert_eq!(room.info.signed_by.len(), 1);
    let _agent = FakeAgent::join(&room, hello(1)).await;
    let asked = DeployRequest {
        no_check: true,
        start: StartRule::Manual,
        ..request(&path)
    };
    let offer = OfferRequest {
        name: "lab".to_owned(),
        note: None,
        request: asked.clone(),
        limit: None,
        until: None,
    };
    for signed in [false, true] {
        if signed {
            sign(&path, &key(2));
        }
        let plan: Plan = room.client.post("/v1/plan", &asked).await.unwrap();
        let refused = plan.targets[0].refused.clone().unwrap();
        assert!(refused.contains("only images signed by"), "{refused}");
        assert_eq!(plan.image.signed_by.len(), usize::from(signed));
        let error = room.deploy(&asked).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Refused, "{error}");
        let offered = room.client.post::<_, Offer>("/v1/offers", &offer).await;
        assert_eq!(offered.unwrap_err().code, ErrorCode::Refused);
    }
    // A client cannot waive the rule: additional fields of its request have no effect.
    let mut sent = serde_json::to_value(&asked).unwrap();
    for word in ["signed_by", "accept_unsigned", "no_signature"] {
        sent[word] = serde_json::json!([]);
    }
    let plan: Plan = room.client.post("/v1/plan", &sent).await.unwrap();
    assert!(plan.targets[0].refused.is_some());

    sign(&path, &key(1));
    let job = room.deploy(&asked).await.unwrap();
    assert_eq!(job.state, JobState::Waiting);
    room.close().await;
}

/// Regression: a job was made, the console was restarted with the rule for signed images, and the
/// job erased disks all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_waited_is_judged_when_it_begins() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let path = image(folder.path(), None);
    let asked = DeployRequest {
        no_check: true,
        start: StartRule::Manual,
        ..request(&path)
    };
    let room = Room::open(&data).await;
    let agent = FakeAgent::join(&room, hello(1)).await;
    let job = room.deploy(&asked).await.unwrap();
    room.close().await;
    drop(agent);

    let room = strict(&data).await;
    let mut agent = FakeAgent::join(&room, hello(1)).await;
    let start = StartRequest::default();
    let path = format!("/v1/jobs/{}/start", job.id);
    let _: api::JobView = room.client.post(&path, &start).await.unwrap();
    let ended = room.ends(&job.id, JobState::Failed).await;
    let reason = ended.targets[0].reason.clone().unwrap();
    assert!(reason.contains("nobody signed the image"), "{reason}");
    // After the console has closed the connection, every message it ever sent has arrived.
    room.close().await;
    while let Some(message) = agent.next().await {
        assert!(
            !matches!(message, ConsoleMessage::Order(_)),
            "an order for a job that is refused: {message:?}"
        );
    }
}

/// Regression: a template that named the signing key as a password would have sent it to a target.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_signs_is_no_password_for_a_template() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path(), None);
    let room = Room::open(&folder.path().join("data")).await;
    let text = "schema = 1\n[[user]]\nname = \"ops\"\npassword = \"ref:lab\"\n";
    let offer = OfferRequest {
        name: "lab".to_owned(),
        note: None,
        request: DeployRequest {
            template: Some(TemplateUse {
                name: "lab".to_owned(),
                text: text.to_owned(),
                folder: folder.path().to_owned(),
            }),
            ..request(&path)
        },
        limit: None,
        until: None,
    };
    let nothing = serde_json::json!({});
    let made = room.client.post("/v1/secrets/lab/new-key", &nothing);
    let made: SigningKeyView = made.await.unwrap();
    let offered = room.client.post::<_, Offer>("/v1/offers", &offer).await;
    let error = offered.unwrap_err();
    assert_eq!(error.code, ErrorCode::Refused);
    assert!(
        error.message.contains("never leaves the console"),
        "{error}"
    );
    assert!(made.public_key.starts_with("dcpk1-"));
    // The same template with a password is accepted.
    let value = SecretRequest {
        name: "lab".to_owned(),
        value: "a word".to_owned(),
    };
    let _: SecretView = room.client.post("/v1/secrets", &value).await.unwrap();
    let _: Offer = room.client.post("/v1/offers", &offer).await.unwrap();
    room.close().await;
}
