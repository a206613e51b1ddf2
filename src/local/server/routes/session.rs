//! Sessions, and what the server says about itself.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Call, respond};
use crate::local::server::http::Response;
use crate::local::server::input;
use crate::local::server::output::typed;
use crate::local::server::records::{SessionRecord, timestamp};
use crate::local::server::state::{SESSION, Session};
use crate::types::wire::{HeartbeatRequest, HeartbeatResponse, TelemetryResponse};
use crate::types::{GetServerCapabilitiesResponse, HealthResponse, SupportedModel};

/// Later versions take more than text as metadata, so the type of 0.4.1 does not do here.
#[derive(Deserialize)]
struct CreateSession {
    #[serde(default)]
    tags: Vec<String>,
    user_metadata: Option<Value>,
}

pub(super) fn create(call: &Call<'_>) -> Result<Answer, Response> {
    let CreateSession { tags, user_metadata } = input::body(call.request)?;
    let mut tables = call.state.lock();
    let number = 1 + tables.sessions.values().map(|session| session.record.number).max().unwrap_or_default();
    let id = format!("session-{number}");
    let record = SessionRecord { owner: call.owner.clone(), number, created: timestamp(), tags, user_metadata };
    call.state.record(&["sessions", &id], SESSION, &record)?;
    tables.sessions.insert(id.clone(), Session::new(record));
    let messages = json!({ "session_id": id, "info_message": null, "warning_message": null, "error_message": null });
    respond(&typed("create_session", messages))
}

pub(super) fn heartbeat(call: &Call<'_>) -> Result<Answer, Response> {
    let HeartbeatRequest { session_id } = input::body(call.request)?;
    call.state.lock().session(&session_id, &call.owner)?;
    respond(&HeartbeatResponse {})
}

pub(super) fn capabilities(call: &Call<'_>) -> Result<Answer, Response> {
    let models = call.state.models.iter().map(|model| SupportedModel { model_name: Some(model.name().to_owned()) });
    respond(&GetServerCapabilitiesResponse { supported_models: models.collect() })
}

pub(super) fn health(_: &Call<'_>) -> Result<Answer, Response> {
    respond(&HealthResponse { status: "ok".to_owned() })
}

/// Later clients ask for their flags; each that is not named stays at its default.
pub(super) fn client_config(_: &Call<'_>) -> Result<Answer, Response> {
    respond(&json!({}))
}

pub(super) fn telemetry(_: &Call<'_>) -> Result<Answer, Response> {
    respond(&TelemetryResponse { status: "accepted".to_owned() })
}
