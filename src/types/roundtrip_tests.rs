//! Every value of every wire type survives a round trip through JSON, and no input makes parsing panic.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use quickcheck::{Arbitrary, Gen, QuickCheck};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::wire::*;
use super::*;

/// Generates values that JSON can represent.
trait Sample {
    fn sample(g: &mut Gen) -> Self;
}

macro_rules! sample {
    // The values that quickcheck generates.
    (plain $($Type:ty)*) => {$(
        impl Sample for $Type {
            fn sample(g: &mut Gen) -> Self {
                Arbitrary::arbitrary(g)
            }
        }
    )*};
    (struct $($Type:ident$(<$lifetime:lifetime>)? { $($field:ident),* })*) => {$(
        impl Sample for $Type$(<$lifetime>)? {
            fn sample(g: &mut Gen) -> Self {
                let _ = &g;
                $Type { $($field: Sample::sample(g)),* }
            }
        }
    )*};
    (enum $($Type:ident { $($make:expr),* $(,)? })*) => {$(
        impl Sample for $Type {
            fn sample(g: &mut Gen) -> Self {
                let make: &[fn(&mut Gen) -> $Type] = &[$($make),*];
                g.choose(make).unwrap()(g)
            }
        }
    )*};
}

impl Sample for f64 {
    fn sample(g: &mut Gen) -> Self {
        std::iter::repeat_with(|| f64::arbitrary(g)).find(|number| number.is_finite()).unwrap()
    }
}

impl Sample for f32 {
    fn sample(g: &mut Gen) -> Self {
        std::iter::repeat_with(|| f32::arbitrary(g)).find(|number| number.is_finite()).unwrap()
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(g: &mut Gen) -> Self {
        bool::arbitrary(g).then(|| T::sample(g))
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(g: &mut Gen) -> Self {
        (0..usize::arbitrary(g) % 6).map(|_| T::sample(g)).collect()
    }
}

impl<T: Sample> Sample for BTreeMap<String, T> {
    fn sample(g: &mut Gen) -> Self {
        Vec::<(String, T)>::sample(g).into_iter().collect()
    }
}

impl<A: Sample, B: Sample> Sample for (A, B) {
    fn sample(g: &mut Gen) -> Self {
        (A::sample(g), B::sample(g))
    }
}

impl<T: ToOwned<Owned: Sample> + ?Sized> Sample for Cow<'_, T> {
    fn sample(g: &mut Gen) -> Self {
        Cow::Owned(Sample::sample(g))
    }
}

impl Sample for TensorData {
    fn sample(g: &mut Gen) -> Self {
        let (rows, columns) = (usize::arbitrary(g) % 3, usize::arbitrary(g) % 3);
        let tensor: TensorData = match bool::arbitrary(g) {
            true => (0..rows * columns).map(|_| f32::sample(g)).collect::<Vec<_>>().into(),
            false => (0..rows * columns).map(|_| i64::arbitrary(g)).collect::<Vec<_>>().into(),
        };
        match u8::arbitrary(g) % 4 {
            0 => tensor.without_shape(),
            1 => tensor.with_shape([rows, columns]).unwrap(),
            2 => {
                let crow: Vec<i64> = (0..=rows).map(|row| (row * columns) as i64).collect();
                let col: Vec<i64> = (0..rows * columns).map(|cell| 2 * (cell % columns) as i64).collect();
                tensor.with_indices(crow, col, vec![rows, 2 * columns]).unwrap()
            }
            _ => tensor,
        }
    }
}

impl Sample for Datum {
    /// Without provenance, which JSON has no form for.
    fn sample(g: &mut Gen) -> Self {
        Datum { loss_fn_inputs: Sample::sample(g), model_input: Sample::sample(g), ..Datum::default() }
    }
}

impl Sample for Batch {
    fn sample(g: &mut Gen) -> Self {
        Vec::sample(g).into()
    }
}

impl Sample for Timestamp {
    fn sample(g: &mut Gen) -> Self {
        let seconds = i64::arbitrary(g).rem_euclid(250_000_000_000);
        let offset = g.choose(&["", "Z", "+02:00", "-07:30"]).unwrap().to_string();
        let time = std::time::UNIX_EPOCH + Duration::new(seconds.unsigned_abs(), u32::arbitrary(g) % 1_000_000_000);
        Timestamp::from(time).to_string().replace('Z', &offset).parse().unwrap()
    }
}

impl Sample for SessionDuration {
    fn sample(g: &mut Gen) -> Self {
        Duration::arbitrary(g).into()
    }
}

impl Sample for serde_json::Map<String, Value> {
    fn sample(g: &mut Gen) -> Self {
        (0..usize::arbitrary(g) % 3).map(|_| (String::arbitrary(g), any_json(g, 2))).collect()
    }
}

sample! { plain bool i32 i64 u8 u32 u64 usize String }

sample! { enum
    RequestErrorCategory {
        |_| RequestErrorCategory::Unknown, |_| RequestErrorCategory::Server, |_| RequestErrorCategory::User,
    }
    QueueState {
        |_| QueueState::Active, |_| QueueState::PausedRateLimit, |_| QueueState::PausedCapacity,
        |g| QueueState::from(&*String::sample(g)),
    }
    CheckpointType {
        |_| CheckpointType::Training, |_| CheckpointType::Sampler, |_| CheckpointType::External,
        |g| CheckpointType::from(&*String::sample(g)),
    }
    StopReason { |_| StopReason::Length, |_| StopReason::Stop, |g| StopReason::from(&*String::sample(g)) }
    LossFn {
        |_| LossFn::CrossEntropy, |_| LossFn::ImportanceSampling, |_| LossFn::Ppo, |_| LossFn::Cispo, |_| LossFn::Dro,
        |_| LossFn::Gspo, |_| LossFn::StableReinforce, |_| LossFn::Custom,
        |g| LossFn::from(&*String::sample(g)),
    }
    LossSetting { |g| LossSetting::Number(Sample::sample(g)), |g| LossSetting::Text(Sample::sample(g)) }
    Severity {
        |_| Severity::Debug, |_| Severity::Info, |_| Severity::Warning, |_| Severity::Error, |_| Severity::Critical,
    }
    TelemetryEventKind {
        |_| TelemetryEventKind::SessionStart,
        |g| TelemetryEventKind::SessionEnd { duration: Sample::sample(g) },
        |g| TelemetryEventKind::GenericEvent { event_name: Sample::sample(g), event_data: Sample::sample(g) },
        |g| TelemetryEventKind::UnhandledException {
            error_message: Sample::sample(g), error_type: Sample::sample(g), traceback: Sample::sample(g),
        },
    }
    ImageFormat { |_| ImageFormat::Png, |_| ImageFormat::Jpeg }
    SamplerKind { |_| SamplerKind::Snapshot, |_| SamplerKind::Inflight, |g| SamplerKind::from(&*String::sample(g)) }
    OptimizerConfig { |_| OptimizerConfig::default(), |g| DimuonOptimizerConfig::sample(g).into() }
    Dtype { |_| Dtype::Float32, |_| Dtype::Int64 }
    ModelInputChunk {
        |g| EncodedTextChunk::sample(g).into(), |g| ImageChunk::sample(g).into(),
        |g| ImageAssetPointerChunk::sample(g).into(),
    }
    Stop {
        |g| Stop::Texts(Vec::sample(g)),
        // An empty list has no type: it is parsed as texts.
        |g| Stop::Tokens([vec![u32::sample(g)], Vec::sample(g)].concat()),
    }
}

sample! { struct
    TokenLogprob { token, logprob }
    Promise { request_id, model_id, sample_sequence_ids }
    RetrieveFutureRequest<'_> { request_id, allow_metadata_only }
    RetrieveFuturesRequest<'_> { target, prev_cursor, timeout, retrieved_request_ids }
    FuturesTarget<'_> { sampling_session_id, cloned_sampler_id }
    RetrieveFuturesResponse { completions, cursor }
    FutureCompletion { state, request_id, response_payload_uncompressed_size }
    CancelFutureRequest<'_> { request_id }
    TryAgainResponse { request_id, queue_state, queue_state_reason }
    RequestFailedResponse { error, category }
    EncodedTextChunk { tokens }
    ImageChunk { data, format, height, tokens, width, expected_tokens }
    ImageAssetPointerChunk { format, height, location, tokens, width, expected_tokens }
    ModelInput { chunks }
    Cursor { offset, limit, total_count }
    Checkpoint { checkpoint_id, checkpoint_type, time, tinker_path, size_bytes, public, user_metadata, expires_at }
    TrainingRun {
        training_run_id, base_model, model_owner, is_lora, corrupted, lora_rank, last_request_time, last_checkpoint,
        last_sampler_checkpoint, user_metadata
    }
    TrainingRunsResponse { training_runs, cursor }
    CheckpointsListResponse { checkpoints, cursor }
    CheckpointArchiveUrlResponse { url, expires }
    SessionsListResponse { sessions }
    SessionResponse { training_run_ids, sampler_ids, user_metadata, display_name }
    SamplerResponse { sampler_id, base_model, model_path }
    WeightsInfoRequest<'_> { tinker_path }
    WeightsInfoResponse { base_model, is_lora, lora_rank, optimizer_config, train_unembed, train_mlp, train_attn }
    SamplingParams { max_tokens, seed, stop, temperature, top_k, top_p }
    SampleRequest<'_> {
        num_samples, prompt, sampling_params, base_model, model_path, sampling_session_id, seq_id, prompt_logprobs,
        topk_prompt_logprobs, topk_sample_logprobs, target_prompt_logprobs, prompt_alt_tokens_k, prompt_logprobs_last_n,
        record_stability_info
    }
    SampledSequence { stop_reason, tokens, logprobs, topk_logprobs, sequence_id }
    SampleResponse {
        sequences, prompt_logprobs, topk_prompt_logprobs, prompt_cache_hit_tokens, target_prompt_logprobs,
        prompt_alt_tokens
    }
    PromptAltTokens { tokens, logprobs }
    CreateSessionRequest<'_> { tags, user_metadata, sdk_version, project_id, display_name }
    CreateSessionResponse { session_id, info_message, warning_message, error_message }
    HeartbeatRequest<'_> { session_id }
    HeartbeatResponse {}
    SupportedModel { model_name, max_context_length, trainable, sampleable }
    GetServerCapabilitiesResponse { supported_models }
    HealthResponse { status }
    TelemetrySendRequest<'_> { events, platform, sdk_version, session_id }
    TelemetryEvent { kind, event_id, event_session_index, severity, timestamp }
    TelemetryResponse { status }
    LoraConfig { rank, seed, train_unembed, train_mlp, train_attn }
    CreateModelRequest<'_> { session_id, model_seq_id, base_model, user_metadata, lora_config, optimizer_config }
    DimuonOptimizerConfig { version }
    DimuonParams { learning_rate, grad_clip_norm, beta1 }
    CreateModelResponse { model_id }
    GetInfoRequest<'_> { model_id }
    ModelData { arch, model_name, tokenizer_id }
    GetInfoResponse { model_id, model_data, is_lora, lora_rank, model_name, optimizer_config }
    UnloadModelRequest<'_> { model_id }
    UnloadModelResponse { model_id }
    CreateSamplingSessionRequest<'_> { session_id, sampling_session_seq_id, base_model, model_path }
    CreateSamplingSessionResponse { sampling_session_id }
    ForwardBackwardInput<'_> { data, loss_fn, loss_fn_config }
    ForwardRequest<'_> { forward_input, model_id, seq_id }
    ForwardBackwardRequest<'_> { forward_backward_input, model_id, seq_id }
    ForwardBackwardOutput { loss_fn_output_type, loss_fn_outputs, metrics }
    AdamParams { learning_rate, beta1, beta2, eps, weight_decay, grad_clip_norm }
    OptimStepRequest<'_> { adam_params, optimizer_params, model_id, seq_id }
    OptimStepResponse { metrics }
    SaveWeightsRequest<'_> { model_id, path, seq_id, ttl_seconds, overwrite, user_metadata }
    SaveWeightsExternalRequest<'_> { model_id, path, seq_id, ttl_seconds, age_encryption_recipients }
    SaveWeightsExternalResponse { path, size_bytes }
    SaveWeightsResponse { path }
    LoadWeightsRequest<'_> {
        model_id, seq_id, session_id, model_seq_id, base_model, user_metadata, path, optimizer, optimizer_config,
        weights_access_token
    }
    LoadWeightsResponse { path, model_id }
    SaveWeightsForSamplerRequest<'_> { model_id, path, sampling_session_seq_id, kind, seq_id, ttl_seconds, user_metadata }
    SaveWeightsForSamplerResponse { path, sampling_session_id }
}

impl Sample for LossFnOutput {
    fn sample(g: &mut Gen) -> Self {
        Vec::<(String, TensorData)>::sample(g).into_iter().collect()
    }
}

/// Any JSON, with the protocol's own words where possible.
fn any_json(g: &mut Gen, depth: u8) -> Value {
    let kinds = if depth == 0 { 4 } else { 6 };
    match u8::arbitrary(g) % kinds {
        0 => Value::Null,
        1 => Value::Bool(bool::arbitrary(g)),
        2 => match bool::arbitrary(g) {
            true => i64::arbitrary(g).into(),
            false => f64::sample(g).into(),
        },
        3 => any_key(g).into(),
        4 => (0..u8::arbitrary(g) % 4).map(|_| any_json(g, depth - 1)).collect(),
        _ => (0..u8::arbitrary(g) % 6).map(|_| (any_key(g), any_json(g, depth - 1))).collect(),
    }
}

fn any_key(g: &mut Gen) -> String {
    const WORDS: [&str; 20] = [
        "type",
        "tokens",
        "data",
        "dtype",
        "shape",
        "float32",
        "int64",
        "image",
        "encoded_text",
        "chunks",
        "metrics",
        "location",
        "format",
        "png",
        "height",
        "model_id",
        "path",
        "time",
        "2025-11-01T10:00:00Z",
        "1 day, 0:00:00",
    ];
    if bool::arbitrary(g) { (*g.choose(&WORDS).unwrap()).to_owned() } else { String::arbitrary(g) }
}

/// Replaces one value in a JSON tree.
fn damage(json: &mut Value, g: &mut Gen) {
    let children: Vec<&mut Value> = match json {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(fields) => fields.values_mut().collect(),
        _ => Vec::new(),
    };
    let index = usize::arbitrary(g) % (children.len() + 1);
    match children.into_iter().nth(index) {
        Some(child) => damage(child, g),
        None => *json = any_json(g, 2),
    }
}

/// A value of the type, damaged JSON of another one, any JSON, and bytes.
#[derive(Clone, Debug)]
struct Case<T> {
    value: T,
    json: [Value; 2],
    bytes: Vec<u8>,
}

impl<T: Sample + Serialize + Clone + 'static> Arbitrary for Case<T> {
    fn arbitrary(g: &mut Gen) -> Self {
        let value = T::sample(g);
        let mut damaged = serde_json::to_value(T::sample(g)).unwrap();
        damage(&mut damaged, g);
        let mut bytes = serde_json::to_vec(&T::sample(g)).unwrap();
        for _ in 0..u8::arbitrary(g) % 4 {
            let place = usize::arbitrary(g) % bytes.len();
            bytes[place] = u8::arbitrary(g);
        }
        bytes.truncate(usize::arbitrary(g) % 300);
        Case { value, json: [damaged, any_json(g, 4)], bytes }
    }
}

fn check<T>()
where
    T: Sample + Serialize + DeserializeOwned + Clone + PartialEq + std::fmt::Debug + 'static,
{
    fn holds<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(case: Case<T>) {
        let text = serde_json::to_string(&case.value).unwrap();
        let name = std::any::type_name::<T>();
        let read: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}: {text}"));
        assert_eq!(read, case.value, "{text}");
        let tree = serde_json::to_value(&case.value).unwrap();
        let read: T = serde_json::from_value(tree).unwrap_or_else(|error| panic!("{name}: {error}: {text}"));
        assert_eq!(read, case.value, "{text}");
        // These may parse or not, but never panic; what parses can be written again.
        for json in case.json {
            if let Ok(read) = serde_json::from_value::<T>(json) {
                serde_json::to_string(&read).unwrap();
            }
        }
        let _ = serde_json::from_slice::<T>(&case.bytes);
    }
    QuickCheck::new().tests(40).quickcheck(holds as fn(Case<T>));
}

macro_rules! check {
    ($($test:ident: $($Type:ty)*;)*) => {$(
        #[test]
        fn $test() {
            $(check::<$Type>();)*
        }
    )*};
}

check! {
    tensors_and_data: TensorData Dtype Datum Batch ModelInput ModelInputChunk EncodedTextChunk ImageChunk
        ImageAssetPointerChunk ImageFormat;
    futures: Promise RetrieveFutureRequest<'static> RetrieveFuturesRequest<'static> FuturesTarget<'static>
        RetrieveFuturesResponse FutureCompletion CancelFutureRequest<'static> TryAgainResponse RequestFailedResponse RequestErrorCategory
        QueueState;
    rest: Cursor Checkpoint CheckpointType TrainingRun TrainingRunsResponse CheckpointsListResponse SessionsListResponse
        CheckpointArchiveUrlResponse SessionResponse SamplerResponse WeightsInfoRequest<'static> WeightsInfoResponse
        Timestamp SessionDuration;
    sampling: SamplingParams Stop SampleRequest<'static> SampledSequence SampleResponse StopReason;
    sessions: CreateSessionRequest<'static> CreateSessionResponse HeartbeatRequest<'static> HeartbeatResponse
        SupportedModel GetServerCapabilitiesResponse HealthResponse LoraConfig CreateModelRequest<'static>
        CreateModelResponse GetInfoRequest<'static> ModelData GetInfoResponse UnloadModelRequest<'static>
        UnloadModelResponse CreateSamplingSessionRequest<'static> CreateSamplingSessionResponse;
    telemetry: TelemetrySendRequest<'static> TelemetryEvent TelemetryEventKind TelemetryResponse Severity;
    training: ForwardBackwardInput<'static> ForwardRequest<'static> ForwardBackwardRequest<'static>
        ForwardBackwardOutput AdamParams DimuonParams OptimizerConfig OptimStepRequest<'static> OptimStepResponse LossFn LossFnOutput;
    weights: SaveWeightsRequest<'static> SaveWeightsResponse SaveWeightsExternalRequest<'static>
        SaveWeightsExternalResponse SamplerKind LoadWeightsRequest<'static> LoadWeightsResponse
        SaveWeightsForSamplerRequest<'static> SaveWeightsForSamplerResponse;
}

#[test]
fn no_text_makes_a_parser_panic() {
    fn holds(text: String, at: usize, garbage: String) {
        for form in ["tinker://run/weights/1", "2025-11-01T10:00:00.5+02:00", "1 day, 0:01:01.500000"] {
            let at = (0..=at % form.len()).rev().find(|&at| form.is_char_boundary(at)).unwrap_or_default();
            let damaged = format!("{}{garbage}{}", &form[..at], &form[at..]);
            for text in [&text, &damaged] {
                let _ = text.parse::<CheckpointPath>();
                let _ = text.parse::<Timestamp>();
                let _ = text.parse::<SessionDuration>();
                let _ = RequestErrorCategory::from(text.as_str());
                let _ = ImageChunk::new(text.as_bytes(), 1);
            }
        }
    }
    QuickCheck::new().quickcheck(holds as fn(String, usize, String));
}
