//! The responses of a healthy service.

use serde_json::{Value, json};

use super::double::{SeenDatum, SeenPass};
use super::{RecordedRequest, Reply, Service};

/// The response of a healthy service. The id of a promise names its request: `PATH:MODEL OR SAMPLER:SEQ`. If the request is not
/// for one sample, or a pass over one datum of three targets, the number of its samples, or of the targets of each datum, follows
/// after `#`.
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
            json!({"request_id": format!("{path}:{owner}:{}{}", body["seq_id"], asked(request))})
        }
    })
}

/// What a request asks for, if it is not the usual.
fn asked(request: &RecordedRequest) -> String {
    let (asked, usual) = match &*request.path {
        "asample" => (request.body["num_samples"].as_u64().unwrap_or(1).to_string(), USUAL_SAMPLE),
        "forward" | "forward_backward" => {
            let targets = |datum: &SeenDatum| datum.inputs.get("target_tokens").map_or(0, Vec::len).to_string();
            let pass = SeenPass::read(request);
            let targets = pass.map(|pass| pass.data.iter().map(targets).collect::<Vec<_>>().join(","));
            (targets.unwrap_or_else(|_| USUAL_PASS.to_owned()), USUAL_PASS)
        }
        _ => return String::new(),
    };
    if asked == usual { String::new() } else { format!("#{asked}") }
}

const USUAL_SAMPLE: &str = "1";
const USUAL_PASS: &str = "3";

/// The number in the id of a promise that [`healthy_service`] gave.
pub fn number_of(request_id: &str) -> &str {
    request_id.split('#').next().and_then(|id| id.rsplit(':').next()).unwrap_or_default()
}

/// The result of a promise that [`healthy_service`] gave.
pub fn result(request_id: &str) -> Reply {
    let (request_id, asked) = request_id.split_once('#').map_or((request_id, None), |(id, asked)| (id, Some(asked)));
    let mut parts = request_id.split(':');
    let (path, owner, seq_id) = (parts.next(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let seq_id: u32 = seq_id.parse().unwrap_or_default();
    let outputs = || -> Vec<Value> {
        let output = |targets: &str| {
            let logprobs = vec![-0.5; targets.parse().unwrap()];
            json!({"logprobs": {"data": logprobs, "dtype": "float32", "shape": [logprobs.len()]}})
        };
        asked.unwrap_or(USUAL_PASS).split(',').map(output).collect()
    };
    let sequence = json!({"stop_reason": "stop", "tokens": [seq_id], "logprobs": [-0.25]});
    Reply::ok(match path.unwrap_or_default() {
        "create_model" => json!({"model_id": owner}),
        "forward" | "forward_backward" => json!({
            "loss_fn_output_type": "ArrayRecord",
            "loss_fn_outputs": outputs(),
            "metrics": {"loss:sum": f64::from(seq_id)},
        }),
        "optim_step" => json!({"metrics": {"step": f64::from(seq_id)}}),
        "unload_model" => json!({"model_id": owner}),
        "save_weights" => json!({"path": "tinker://run/weights/a"}),
        "load_weights" => json!({"path": "tinker://run/weights/a"}),
        "save_weights_external" => json!({"path": "tinker://run/external_weights/a", "size_bytes": 7}),
        "save_weights_for_sampler" => json!({"path": "tinker://run/sampler_weights/a", "sampling_session_id": "saved"}),
        "asample" => json!({"sequences": vec![sequence; asked.unwrap_or(USUAL_SAMPLE).parse().unwrap()]}),
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
