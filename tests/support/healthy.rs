//! The responses of a healthy service.

use serde_json::{Value, json};

use super::{RecordedRequest, Reply, Service};

/// The response of a healthy service. The id of a promise names its request: `PATH:MODEL OR SAMPLER:SEQ`.
pub fn healthy_service(request: &RecordedRequest) -> Reply {
    let body = &request.body;
    Reply::ok(match request.path.as_str() {
        "create_session" => json!({"session_id": "session-1"}),
        "session_heartbeat" => json!({"type": "session_heartbeat"}),
        "telemetry" => json!({"status": "accepted"}),
        "healthz" => json!({"status": "ok"}),
        "get_server_capabilities" => json!({"supported_models": [{"model_name": "base"}]}),
        "get_info" => json!({"model_id": body["model_id"], "model_data": {}}),
        "create_sampling_session" => {
            json!({"sampling_session_id": format!("sampler-{}", body["sampling_session_seq_id"])})
        }
        "create_model" => json!({"request_id": format!("create_model:model-{}:0", body["model_seq_id"])}),
        "retrieve_future" => return result(request.request_id()),
        path => {
            let owner = body["model_id"].as_str().or(body["sampling_session_id"].as_str()).unwrap_or_default();
            json!({"request_id": format!("{path}:{owner}:{}", body["seq_id"])})
        }
    })
}

/// The result of a promise that [`healthy_service`] gave.
pub fn result(request_id: &str) -> Reply {
    let mut parts = request_id.split(':');
    let (path, owner, seq_id) = (parts.next(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let seq_id: u32 = seq_id.parse().unwrap_or_default();
    Reply::ok(match path.unwrap_or_default() {
        "create_model" => json!({"model_id": owner}),
        "forward" | "forward_backward" => json!({
            "loss_fn_output_type": "ArrayRecord",
            "loss_fn_outputs": [{"logprobs": {"data": [-0.5], "dtype": "float32", "shape": [1]}}],
            "metrics": {"loss:sum": f64::from(seq_id)},
        }),
        "optim_step" => json!({"metrics": {"step": f64::from(seq_id)}}),
        "unload_model" => json!({"model_id": owner}),
        "save_weights" => json!({"path": "tinker://run/weights/a"}),
        "load_weights" => json!({"path": "tinker://run/weights/a"}),
        "save_weights_external" => json!({"path": "tinker://run/external_weights/a", "size_bytes": 7}),
        "save_weights_for_sampler" => json!({"path": "tinker://run/sampler_weights/a", "sampling_session_id": "saved"}),
        "asample" => json!({"sequences": [{"stop_reason": "stop", "tokens": [seq_id], "logprobs": [-0.25]}]}),
        other => panic!("no result for {other:?}"),
    })
}

/// A service that responds to polls by the script, and is otherwise healthy.
pub fn service_with_polls(script: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static) -> Service {
    Service::start(
        move |request| if request.path == "retrieve_future" { script(request) } else { healthy_service(request) },
    )
}

/// A service of 2026 with these settings. The script responds to the rest.
pub fn service_with_settings(
    settings: Value,
    script: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static,
) -> Service {
    Service::start_current(move |request| match &*request.path {
        "client/config" => Reply::ok(settings.clone()),
        "client/dynamic_config" => Reply::ok(json!({})),
        path if path.ends_with("/finish") => Reply::no_content(),
        _ => script(request),
    })
}
