//! Sessions, and information about the server.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::local::server::api::call::{Call, HandlerResult, no_content, ok};
use crate::local::server::api::{body, decode};
use crate::local::server::state::{
    AuditEvent, SESSION_RECORD, Session, SessionRecord, check_owner, not_found, tagged, timestamp,
};
use crate::types::wire::{
    AssignSessionProjectRequest, FinishSessionRequest, HeartbeatRequest, HeartbeatResponse, TelemetryResponse,
};
use crate::types::{GetServerCapabilitiesResponse, HealthResponse, SupportedModel};

/// The values of the metadata may be any JSON: the Python client does not check them.
#[derive(Deserialize)]
struct CreateSession {
    #[serde(default)]
    tags: Vec<String>,
    user_metadata: Option<BTreeMap<String, Value>>,
    project_id: Option<String>,
    display_name: Option<String>,
}

pub(super) fn create(call: &Call<'_>) -> HandlerResult {
    let CreateSession { tags, user_metadata, project_id, display_name } = body::parse(call.request)?;
    // The official client passes on a setting that may be empty.
    let project_id = project_id.filter(|id| !id.is_empty());
    project_id.as_deref().map_or(Ok(()), |id| decode::check_project_id("project_id", id))?;
    let mut tables = call.state.lock();
    let number = 1 + tables.sessions.values().map(|session| session.record.number).max().unwrap_or_default();
    let id = format!("session-{number}");
    let record = SessionRecord {
        owner: call.owner.clone(),
        number,
        created: timestamp(),
        tags,
        user_metadata,
        project_id,
        display_name,
        finish: None,
    };
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

/// Ends a session. The first reason counts; a client that lost the response asks again.
pub(super) fn finish(call: &Call<'_>) -> HandlerResult {
    let [id] = call.captures()?;
    let finish: FinishSessionRequest<'static> = body::parse(call.request)?;
    let mut tables = call.state.lock();
    let session = tables.sessions.get_mut(id).ok_or_else(|| not_found("session", id))?;
    check_owner(&session.record.owner, &call.owner, id)?;
    if session.record.finish.is_none() {
        let record = SessionRecord { finish: Some(finish), ..session.record.clone() };
        call.state.write_record(&["sessions", id], SESSION_RECORD, &record)?;
        session.record = record;
        call.state.end_session(&mut tables, id);
    }
    no_content()
}

/// Moves a session, with its runs and checkpoints, to a project. A project exists as soon as something is in it.
pub(super) fn set_project(call: &Call<'_>) -> HandlerResult {
    let [id] = call.captures()?;
    let AssignSessionProjectRequest { project_id } = body::parse(call.request)?;
    decode::check_project_id("project_id", &project_id)?;
    let mut tables = call.state.lock();
    let session = tables.sessions.get_mut(id).ok_or_else(|| not_found("session", id))?;
    check_owner(&session.record.owner, &call.owner, id)?;
    let record = SessionRecord { project_id: Some(project_id.clone().into_owned()), ..session.record.clone() };
    call.state.write_record(&["sessions", id], SESSION_RECORD, &record)?;
    session.record = record;
    let details = [("session_id", id), ("project_id", &*project_id)];
    call.state.audit(AuditEvent::new("project_session_assign", &call.owner, &call.owner, details));
    no_content()
}

pub(super) fn capabilities(call: &Call<'_>) -> HandlerResult {
    let models = call.state.models.iter().map(|model| SupportedModel {
        model_name: Some(model.name().to_owned()),
        max_context_length: Some(model.context_length() as u64),
        trainable: Some(true),
        sampleable: Some(true),
        tokenizer_package: call.state.tokenizer_package(model.name()),
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
