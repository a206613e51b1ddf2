//! Sessions, and information about the server.

use serde::Deserialize;
use serde_json::{Value, json};

use super::body;
use super::call::{Call, HandlerResult, ok};
use crate::local::server::state::{SESSION_RECORD, Session, SessionRecord, tagged, timestamp};
use crate::types::wire::{HeartbeatRequest, HeartbeatResponse, TelemetryResponse};
use crate::types::{GetServerCapabilitiesResponse, HealthResponse, SupportedModel};

/// Later protocol versions accept any JSON as metadata, unlike the request type of version 0.4.1.
#[derive(Deserialize)]
struct CreateSession {
    #[serde(default)]
    tags: Vec<String>,
    user_metadata: Option<Value>,
}

pub(super) fn create(call: &Call<'_>) -> HandlerResult {
    let CreateSession { tags, user_metadata } = body::parse(call.request)?;
    let mut tables = call.state.lock();
    let number = 1 + tables.sessions.values().map(|session| session.record.number).max().unwrap_or_default();
    let id = format!("session-{number}");
    let record = SessionRecord { owner: call.owner.clone(), number, created: timestamp(), tags, user_metadata };
    call.state.write_record(&["sessions", &id], SESSION_RECORD, &record)?;
    tables.sessions.insert(id.clone(), Session::new(record));
    let messages = json!({ "session_id": id, "info_message": null, "warning_message": null, "error_message": null });
    ok(&tagged("create_session", messages))
}

pub(super) fn heartbeat(call: &Call<'_>) -> HandlerResult {
    let HeartbeatRequest { session_id } = body::parse(call.request)?;
    call.state.lock().session(&session_id, &call.owner)?;
    ok(&HeartbeatResponse {})
}

pub(super) fn capabilities(call: &Call<'_>) -> HandlerResult {
    let models = call.state.models.iter().map(|model| SupportedModel {
        model_name: Some(model.name().to_owned()),
        max_context_length: Some(model.context_length() as u64),
        trainable: Some(true),
        sampleable: Some(true),
    });
    ok(&GetServerCapabilitiesResponse { supported_models: models.collect() })
}

pub(super) fn health(_: &Call<'_>) -> HandlerResult {
    ok(&HealthResponse { status: "ok".to_owned() })
}

pub(super) fn client_config(call: &Call<'_>) -> HandlerResult {
    ok(&call.state.flags.client_config)
}

pub(super) fn dynamic_config(call: &Call<'_>) -> HandlerResult {
    ok(&call.state.flags.dynamic_config)
}

pub(super) fn telemetry(_: &Call<'_>) -> HandlerResult {
    ok(&TelemetryResponse { status: "accepted".to_owned() })
}
