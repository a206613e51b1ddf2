//! Values of every wire type, for properties of how they are written and read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use quickcheck::{Arbitrary, Gen};
use serde_json::Value;

use super::roundtrip_tests::any_json;
use super::wire::*;
use super::*;

/// Generates values that JSON can represent.
pub(super) trait Sample {
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
    SamplerResponse { sampler_id, base_model, model_path, tokenizer_package }
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
    SupportedModel { model_name, max_context_length, trainable, sampleable, tokenizer_package }
    TokenizerPackage { id, files, has_chat_template }
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
    ModelData { arch, model_name, tokenizer_id, max_context_length, tokenizer_package }
    GetInfoResponse { model_id, model_data, is_lora, lora_rank, model_name, optimizer_config }
    UnloadModelRequest<'_> { model_id }
    UnloadModelResponse { model_id }
    CreateSamplingSessionRequest<'_> { session_id, sampling_session_seq_id, base_model, model_path }
    CreateSamplingSessionResponse { sampling_session_id, tokenizer_package }
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
