//! The request bodies of scenarios 01 to 31 and 40 to 43, rebuilt.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use tinkex::types::wire::*;
use tinkex::types::*;

use super::normal::{assert_same, ours, python};
use super::{entries, fixture};
use crate::support::image_prompt;

const MODEL: &str = "sess-golden-0001:train:0";
const SESSION: &str = "sess-golden-0001";
const SAMPLER: &str = "sess-golden-0001:sample:0";

/// A request expected in a scenario: the last segment of its path, and its body.
type Request = (&'static str, Value);

fn request(kind: &'static str, body: impl Serialize) -> Request {
    (kind, serde_json::to_value(body).unwrap())
}

/// Compares the requests of a scenario in order, except for telemetry. Polls are compared separately.
fn assert_scenario(name: &str, requests: &[Request]) {
    let mut requests = requests.iter();
    for (index, exchange) in entries(&fixture(name)["exchanges"]).iter().enumerate() {
        let kind = exchange["path"].as_str().unwrap().rsplit('/').next().unwrap();
        let golden = &exchange["body"]["json"];
        match kind {
            "telemetry" => {}
            _ if exchange["method"] == "GET" => {}
            "retrieve_future" => {
                let request_id = golden["request_id"].as_str().unwrap().into();
                assert_eq!(request("", RetrieveFutureRequest { request_id, allow_metadata_only: None }).1, *golden);
            }
            _ => {
                let place = format!("{name}, exchange {index}");
                let (our_kind, our_body) = requests.next().unwrap_or_else(|| panic!("{place}: {kind} was not built"));
                assert_eq!(*our_kind, kind, "{place}");
                assert_same(&ours(our_body.clone()), &python(kind, golden.clone()), &place);
            }
        }
    }
    assert!(requests.next().is_none(), "{name} has fewer requests");
}

fn metadata(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn create_session() -> Request {
    let user_metadata = Some(std::borrow::Cow::Owned(BTreeMap::new()));
    request("create_session", CreateSessionRequest { user_metadata, sdk_version: "0.4.1".into(), ..Default::default() })
}

fn create_model(
    model_seq_id: u64,
    base_model: &str,
    lora_config: LoraConfig,
    user_metadata: Option<&[(&str, &str)]>,
) -> Request {
    let user_metadata = user_metadata.map(metadata);
    request(
        "create_model",
        CreateModelRequest {
            session_id: SESSION.into(),
            model_seq_id,
            base_model: base_model.into(),
            user_metadata: user_metadata.as_ref().map(std::borrow::Cow::Borrowed),
            lora_config: Some(lora_config),
            optimizer_config: None,
        },
    )
}

fn default_model() -> Request {
    create_model(0, "Qwen/Qwen3-8B", LoraConfig::default(), None)
}

fn create_sampling_session(
    sampling_session_seq_id: u64,
    base_model: Option<&str>,
    model_path: Option<&str>,
) -> Request {
    request(
        "create_sampling_session",
        CreateSamplingSessionRequest {
            session_id: SESSION.into(),
            sampling_session_seq_id,
            base_model: base_model.map(Into::into),
            model_path: model_path.map(Into::into),
        },
    )
}

fn forward_backward(seq_id: u64, data: &[Datum], loss: &Loss) -> Request {
    let forward_backward_input = ForwardBackwardInput::new(data, loss);
    request(
        "forward_backward",
        ForwardBackwardRequest { forward_backward_input, model_id: MODEL.into(), seq_id: Some(seq_id) },
    )
}

fn forward(seq_id: u64, data: &[Datum], loss: &Loss) -> Request {
    let forward_input = ForwardBackwardInput::new(data, loss);
    request("forward", ForwardRequest { forward_input, model_id: MODEL.into(), seq_id: Some(seq_id) })
}

fn optim_step(seq_id: u64, adam_params: AdamParams) -> Request {
    let adam_params = Some(std::borrow::Cow::Owned(adam_params));
    let (model_id, seq_id) = (MODEL.into(), Some(seq_id));
    request("optim_step", OptimStepRequest { adam_params, optimizer_params: None, model_id, seq_id })
}

fn save_weights(seq_id: u64, name: &str) -> Request {
    let (path, seq_id) = (Some(name.into()), Some(seq_id));
    request("save_weights", SaveWeightsRequest { model_id: MODEL.into(), path, seq_id, ..Default::default() })
}

fn load_weights(seq_id: u64, path: &str) -> Request {
    let (model_id, seq_id) = (Some(MODEL.into()), Some(seq_id));
    request("load_weights", LoadWeightsRequest { model_id, path: path.into(), seq_id, ..Default::default() })
}

fn sample(seq_id: u64, prompt: &ModelInput, sampling_params: &SamplingParams, prompt_logprobs: bool) -> Request {
    request(
        "asample",
        SampleRequest {
            prompt: std::borrow::Cow::Borrowed(prompt),
            sampling_params: std::borrow::Cow::Borrowed(sampling_params),
            sampling_session_id: Some(SAMPLER.into()),
            seq_id: Some(seq_id),
            prompt_logprobs: Some(prompt_logprobs),
            ..SampleRequest::default()
        },
    )
}

/// A datum whose targets are the next tokens, with weights.
fn datum(tokens: impl Into<Vec<u32>>, targets: impl Into<Vec<u32>>, weights: impl Into<Vec<f64>>) -> Datum {
    let datum = Datum::new(ModelInput::from_tokens(tokens));
    datum.input("target_tokens", targets.into()).unwrap().input("weights", weights.into()).unwrap()
}

/// The plain example of the fixtures: ascending tokens from `first`, the first one without weight.
fn counted(first: u32, length: u32) -> Datum {
    let weights: Vec<f64> = (0..length).map(|index| if index == 0 { 0.0 } else { 1.0 }).collect();
    datum((first..first + length).collect::<Vec<_>>(), (first + 1..first + 1 + length).collect::<Vec<_>>(), weights)
}

fn ones(length: usize) -> Datum {
    datum(vec![1; length], vec![2; length], vec![1.0; length])
}

#[test]
fn sessions() {
    assert_scenario("01_session_default", &[create_session()]);
    let tags = ["alpha".to_owned(), "beta".to_owned()];
    let user_metadata = metadata(&[("k", "v"), ("\u{fc}n\u{ef}", "\u{2713} \" \\ \n")]);
    let session = CreateSessionRequest {
        tags: tags.as_slice().into(),
        user_metadata: Some(std::borrow::Cow::Borrowed(&user_metadata)),
        sdk_version: "0.4.1".into(),
        ..Default::default()
    };
    assert_scenario("02_session_tags_metadata", &[request("create_session", session)]);
    let heartbeat = || request("session_heartbeat", HeartbeatRequest { session_id: SESSION.into() });
    let heartbeats = [create_session(), heartbeat(), heartbeat(), heartbeat(), heartbeat()];
    assert_scenario("04_session_heartbeat", &heartbeats);
    assert_scenario("05_session_error_messages", &[create_session(), create_session()]);
    // A body that the caller of the low-level client has extended by a key.
    let mut extended =
        request("create_session", CreateSessionRequest { sdk_version: "x".into(), ..Default::default() });
    extended.1["extra"] = true.into();
    assert_scenario("06_low_level_service", &[extended]);
}

#[test]
fn models() {
    let ranked = create_model(1, "Qwen/Qwen3-8B", LoraConfig::default().rank(16), None);
    assert_scenario("10_create_model_default", &[create_session(), default_model(), ranked]);
    let config = LoraConfig::new().rank(8).seed(42).train_unembed(false).train_mlp(false).train_attn(true);
    let all = create_model(0, "meta-llama/Llama-3.1-8B", config, Some(&[("purpose", "golden"), ("n", "1")]));
    let zero_seed = create_model(1, "m", LoraConfig::new().seed(0), Some(&[]));
    assert_scenario("11_create_model_all_options", &[create_session(), all, zero_seed]);
    let info = request("get_info", GetInfoRequest { model_id: MODEL.into() });
    let unload = request("unload_model", UnloadModelRequest { model_id: MODEL.into() });
    assert_scenario("12_get_info_unload", &[create_session(), default_model(), info, unload]);
}

#[test]
fn losses() {
    let loss = Loss::cross_entropy();
    assert_scenario(
        "20_fwdbwd_ce_1",
        &[create_session(), default_model(), forward_backward(1, &[counted(10, 4)], &loss)],
    );

    // Empty settings are an empty map, not null; a tensor without a shape omits the key.
    let shapeless = Datum::new([5])
        .input("target_tokens", TensorData::from(vec![7_i64]).without_shape())
        .and_then(|datum| datum.input("weights", TensorData::from(vec![1.0_f32]).without_shape()));
    let data =
        [datum([1, 2, 3], [2, 3, 4], [0.1, 1e-7, 1e20]), datum([1, 2], [2, 3], [0.1, 1.0 / 3.0]), shapeless.unwrap()];
    let mut input = ForwardBackwardInput::new(&data, &loss);
    input.loss_fn_config = Some(Default::default());
    let request = request(
        "forward_backward",
        ForwardBackwardRequest { forward_backward_input: input, model_id: MODEL.into(), seq_id: Some(1) },
    );
    assert_scenario("21_fwdbwd_ce_3_inputs", &[create_session(), default_model(), request]);

    let sampled = |logprobs: [f64; 5], targets: [i64; 5]| {
        let datum = Datum::new([0, 1, 2, 3, 4]).input("target_tokens", targets).unwrap();
        datum.input("logprobs", logprobs).unwrap().input("advantages", [0.1, 1.0, -1.0, 2.0, 0.0]).unwrap()
    };
    let logprobs = [-0.1, -2.5, 0.0, -1e-9, -0.300_000_011_920_928_96];
    let data =
        [sampled(logprobs, [1, 2, 3, 4, 5]), sampled(logprobs.map(|value| f64::from(value as f32)), [0, 1, 2, 3, 4])];
    assert_scenario(
        "24_fwdbwd_importance_sampling",
        &[create_session(), default_model(), forward_backward(1, &data, &Loss::importance_sampling())],
    );

    let two = [counted(10, 2), counted(20, 3)];
    let configured = forward(1, &two, &loss.clone().config("a", 0.5));
    assert_scenario("26_forward", &[create_session(), default_model(), configured]);

    let gradients = [
        datum([10, 11, 12], [11, 12, 13], [0.2, 0.4, 0.6]),
        // One less than 0.22 and 0.42 in the last bit: a float32 gradient.
        datum([30, 31], [31, 32], [0.219_999_998_807_907_1, 0.419_999_986_886_978_15]),
    ];
    assert_scenario(
        "27_fwdbwd_custom",
        &[
            create_session(),
            default_model(),
            forward(1, &[counted(10, 3), counted(30, 2)], &loss),
            forward_backward(2, &gradients, &loss),
            optim_step(3, AdamParams::default()),
            forward_backward(4, &[datum([1, 2], [1, 2], [0.5, 1.5])], &loss),
        ],
    );
}

#[test]
fn large_batches_by_count_shapes_and_ends() {
    let loss = Loss::cross_entropy();
    let data: Batch = (0..130).map(|first| counted(first, 2)).collect();
    assert_scenario(
        "22_fwdbwd_130_datums",
        &[
            create_session(),
            default_model(),
            forward_backward(1, &data[..128], &loss),
            forward_backward(2, &data[128..], &loss),
            optim_step(3, AdamParams::default()),
        ],
    );
    let large: Batch = vec![ones(80_000); 2].into();
    assert_eq!(large[0].size(), 240_000);
    assert_scenario(
        "23_fwdbwd_size_limit",
        &[
            create_session(),
            default_model(),
            forward_backward(1, &large, &loss),
            forward_backward(2, &large, &loss),
            forward_backward(3, &large[..1], &loss),
            forward_backward(4, &[ones(200_000)], &loss),
            forward_backward(5, &[counted(10, 2), counted(10, 2)], &loss),
        ],
    );
}

#[test]
fn steps_and_weights() {
    let all = AdamParams::new().learning_rate(1e-5).beta1(0.8).beta2(0.99).eps(1e-8);
    let steps = [AdamParams::default(), all, AdamParams::default().learning_rate(3.0)];
    let steps = (1..).zip(steps).map(|(seq_id, params)| optim_step(seq_id, params));
    assert_scenario("28_optim_step", &[create_session(), default_model()].into_iter().chain(steps).collect::<Vec<_>>());

    let loss = Loss::cross_entropy();
    assert_scenario(
        "29_pipeline_order",
        &[
            create_session(),
            default_model(),
            forward_backward(1, &[counted(10, 2), counted(10, 2)], &loss),
            optim_step(2, AdamParams::default()),
            forward_backward(3, &[counted(10, 2)], &loss),
            save_weights(4, "s1"),
        ],
    );

    let for_sampler = |seq_id, path: Option<&str>, sampling_session_seq_id| {
        let path = path.map(Into::into);
        let seq_id = Some(seq_id);
        let body = SaveWeightsForSamplerRequest { path, sampling_session_seq_id, seq_id, ..Default::default() };
        request("save_weights_for_sampler", SaveWeightsForSamplerRequest { model_id: MODEL.into(), ..body })
    };
    assert_scenario(
        "30_weights",
        &[
            create_session(),
            default_model(),
            save_weights(1, "ckpt-1"),
            load_weights(2, "tinker://run-golden/weights/ckpt-1"),
            for_sampler(3, Some("samp-1"), None),
            for_sampler(4, None, Some(0)),
            for_sampler(5, None, Some(1)),
            create_sampling_session(2, None, Some("tinker://run-golden/sampler_weights/samp-1")),
        ],
    );
    assert_scenario(
        "31_training_client_from_state",
        &[
            create_session(),
            create_model(0, "Qwen/Qwen3-8B", LoraConfig::default(), Some(&[("k", "override"), ("x", "y")])),
            load_weights(1, "tinker://run-golden/weights/0001"),
        ],
    );
}

#[test]
fn sampling() {
    let prompt = ModelInput::from_tokens([1, 2, 3]);
    let params = SamplingParams::default();
    assert_scenario(
        "40_sample_default",
        &[
            create_session(),
            create_sampling_session(0, Some("Qwen/Qwen3-8B"), None),
            sample(0, &prompt, &params, false),
            sample(1, &prompt, &params.clone().max_tokens(5), false),
        ],
    );
    let two = params.clone().max_tokens(2);
    let datum = Datum::new(image_prompt()).input("target_tokens", (0..12).collect::<Vec<_>>()).unwrap();
    let datum = datum.input("weights", [1.0; 12]).unwrap();
    assert_scenario(
        "42_sample_chunks",
        &[
            create_session(),
            create_sampling_session(0, Some("m"), None),
            sample(0, &image_prompt(), &two, false),
            sample(1, &ModelInput::default(), &two, false),
            default_model(),
            forward_backward(1, &[datum], &Loss::cross_entropy()),
        ],
    );
    assert_scenario(
        "43_compute_logprobs",
        &[
            create_session(),
            create_sampling_session(0, Some("m"), None),
            sample(0, &ModelInput::from_tokens([1, 2, 3, 4]), &params.max_tokens(1), true),
        ],
    );
}
