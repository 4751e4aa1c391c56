//! Routes of the local API for bindings and secrets.

use crate::answer::{Answer, Failure};
use crate::context::Console;
use api::{
    ApiError, BindingList, ErrorCode, ImportRequest, SecretList, SecretRequest, SecretView,
    SignRequest, SignatureView, SigningKeyView,
};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use std::sync::Arc;

type Shared = State<Arc<Console>>;

/// Returns the routes, to be merged into the others.
pub fn api() -> Router<Arc<Console>> {
    Router::new()
        .route("/v1/bindings", get(bindings))
        .route("/v1/bindings/import", post(import))
        .route("/v1/bindings/{machine}/release", post(release))
        .route("/v1/secrets", get(secrets).post(set_secret))
        .route("/v1/secrets/{name}/remove", post(remove_secret))
        .route("/v1/secrets/{name}/new-key", post(new_key))
        .route("/v1/secrets/{name}/public-key", get(public_key))
        .route("/v1/secrets/{name}/sign", post(sign))
}

/// Parses a body as JSON. The error never repeats the body, which may hold a secret.
fn document<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|_| {
        ApiError::new(
            ErrorCode::Usage,
            "the request is not what this address takes",
        )
    })
}

async fn bindings(State(console): Shared) -> Answer<BindingList> {
    Ok(Json(console.list_bindings().await?))
}

async fn import(State(console): Shared, body: Bytes) -> Answer<BindingList> {
    let request: ImportRequest = document(&body)?;
    Ok(Json(console.import_bindings(&request.text).await?))
}

async fn release(State(console): Shared, Path(machine): Path<String>) -> Answer<BindingList> {
    Ok(Json(console.release_binding(&machine).await?))
}

async fn secrets(State(console): Shared) -> Answer<SecretList> {
    Ok(Json(console.list_secrets().await?))
}

async fn set_secret(State(console): Shared, body: Bytes) -> Answer<SecretView> {
    console
        .set_secret(document::<SecretRequest>(&body)?)
        .await
        .map(Json)
        .map_err(Failure)
}

async fn remove_secret(
    State(console): Shared,
    Path(name): Path<String>,
) -> Answer<serde_json::Value> {
    console.remove_secret(&name).await?;
    Ok(Json(serde_json::json!({})))
}

async fn new_key(State(console): Shared, Path(name): Path<String>) -> Answer<SigningKeyView> {
    Ok(Json(console.new_signing_key(&name).await?))
}

async fn public_key(State(console): Shared, Path(name): Path<String>) -> Answer<SigningKeyView> {
    Ok(Json(console.signing_key(&name).await?))
}

async fn sign(
    State(console): Shared,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer<SignatureView> {
    let request: SignRequest = document(&body)?;
    Ok(Json(console.sign_root(&name, &request).await?))
}
