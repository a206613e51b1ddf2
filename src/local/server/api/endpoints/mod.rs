//! The table of endpoints, and their handlers: one file for each group.

mod archives;
mod audit;
mod auth;
mod billing;
mod checkpoints;
mod futures;
mod listings;
mod models;
mod sampling;
mod search;
mod sessions;
mod traces;
mod training;
mod weights;

use self::archives::{ARCHIVES, FILES};
use self::traces::TRACES;
use super::call::{Download, Handler};

/// Method, path below the prefix, handler.
pub(super) const ROUTES: &[(&str, &str, Handler)] = &[
    ("POST", "auth/token", auth::token),
    ("GET", "auth/apikey/me", auth::own_key),
    ("DELETE", "auth/apikey/me", auth::revoke_own_key),
    ("POST", "create_session", sessions::create),
    ("POST", "session_heartbeat", sessions::heartbeat),
    ("GET", "get_server_capabilities", sessions::capabilities),
    ("GET", "healthz", sessions::health),
    ("GET", "client/config", sessions::client_config),
    ("POST", "client/config", sessions::client_config),
    ("POST", "client/dynamic_config", sessions::dynamic_config),
    ("POST", "telemetry", sessions::telemetry),
    ("POST", "create_model", models::create_model),
    ("POST", "get_info", models::get_info),
    ("POST", "unload_model", models::unload_model),
    ("POST", "forward", training::forward),
    ("POST", "forward_backward", training::forward_backward),
    ("POST", "create_custom_loss", training::create_custom_loss),
    ("POST", "optim_step", training::optim_step),
    ("POST", "save_weights", weights::save_weights),
    ("POST", "load_weights", weights::load_weights),
    ("POST", "save_weights_for_sampler", weights::save_weights_for_sampler),
    ("POST", "save_weights_external", weights::save_weights_external),
    ("POST", "create_sampling_session", sampling::create),
    ("POST", "join_sampling_session", sampling::join),
    ("POST", "asample", sampling::sample),
    ("POST", "retrieve_futures", futures::retrieve_futures),
    ("POST", "cancel_future", futures::cancel_future),
    ("POST", "retrieve_future", futures::retrieve_future),
    ("GET", "training_runs", listings::training_runs),
    ("GET", "training_runs/{}", listings::training_run),
    ("GET", "training_runs/{}/checkpoints", listings::checkpoints_of_run),
    ("DELETE", "training_runs/{}/checkpoints/{}/{}", checkpoints::delete),
    ("POST", "training_runs/{}/checkpoints/{}/{}/publish", checkpoints::publish),
    ("DELETE", "training_runs/{}/checkpoints/{}/{}/publish", checkpoints::unpublish),
    ("PUT", "training_runs/{}/checkpoints/{}/{}/ttl", checkpoints::set_ttl),
    ("GET", "training_runs/{}/checkpoints/{}/{}/archive", archives::link),
    ("GET", "training_runs/{}/checkpoints/{}/{}/external_weights_urls", archives::external_urls),
    ("POST", "copy_weights", checkpoints::copy),
    ("GET", "checkpoints", listings::checkpoints),
    ("GET", "sessions", listings::sessions),
    ("POST", "sessions/{}/finish", sessions::finish),
    ("GET", "sessions/{}", listings::session),
    ("PUT", "sessions/{}/project", sessions::set_project),
    ("POST", "sessions/search", search::search),
    ("GET", "samplers/{}", listings::sampler),
    ("POST", "weights_info", listings::weights_info),
    ("GET", "sessions/{}/trace_export", traces::export),
    ("GET", "audit", audit::audit),
    ("GET", "billing/usage/events", billing::usage),
    ("GET", "billing/usage/checkpoints/current", billing::checkpoint_storage),
];

/// What signed links lead to, by the first segment of the path.
pub(super) const DOWNLOADS: &[(&str, Download)] =
    &[(ARCHIVES, archives::download_archive), (FILES, archives::download_file), (TRACES, traces::download)];
