//! From requests of the protocol to the inputs of a model, with every check that a model may rely on.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;

use super::body::bad_request;
use crate::local::adam::AdamOptions;
use crate::local::model::{Example, GenerationOptions, Model, Objective};
use crate::local::server::http1::Response;
use crate::local::server::path_segment::encode;
use crate::local::server::state::SampleParams;
use crate::types::wire::{ForwardBackwardInput, SampleRequest};
use crate::types::{Datum, LoraConfig, LossFn, LossSetting, ModelInput, OptimizerConfig, Stop, TensorData};

/// A larger rank is a mistake: no model here is wider.
const MAX_RANK: u32 = 1024;

/// More samples in one request would occupy a processor for many minutes and fill the memory with tokens.
const MAX_SAMPLES: u32 = 1024;

/// Maximum length of the file name of a checkpoint, in bytes: common file systems allow 255, and a temporary name is longer.
const MAX_FILE_NAME: usize = 240;

const CLIP_LOW: &str = "clip_low_threshold";
const CLIP_HIGH: &str = "clip_high_threshold";

/// The adapter of a new training run; defaults if the request has none.
pub(super) fn lora_config(config: Option<LoraConfig>) -> Result<LoraConfig, Response> {
    let config = config.unwrap_or_default();
    config.validate().map_err(|error| bad_request(error.to_string()))?;
    if config.rank > MAX_RANK {
        return Err(bad_request(format!("the LoRA rank is {}, more than {MAX_RANK}", config.rank)));
    }
    Ok(config)
}

/// The batch of a forward or forward-backward request.
pub(super) fn batch(model: &dyn Model, input: &ForwardBackwardInput<'_>) -> Result<Vec<Example>, Response> {
    let config = input.loss_fn_config.as_deref();
    let loss = LossConfig::new(&input.loss_fn, config.unwrap_or(&BTreeMap::new())).map_err(bad_request)?;
    if input.data.is_empty() {
        return Err(bad_request("the batch is empty"));
    }
    let example =
        |(index, datum)| example(model, datum, loss).map_err(|error| bad_request(format!("datum {index}: {error}")));
    input.data.iter().enumerate().map(example).collect()
}

/// A loss function with its configuration.
#[derive(Clone, Copy, Debug)]
enum LossConfig {
    CrossEntropy,
    ImportanceSampling,
    Ppo { clip_low: f64, clip_high: f64 },
}

impl LossConfig {
    /// Ignores entries for other losses, as the service does.
    fn new(function: &LossFn, config: &BTreeMap<String, LossSetting>) -> Result<Self, String> {
        let name = function.as_str();
        let value = |name: &str, default| match config.get(name) {
            None => Ok(default),
            Some(value) => value.as_number().ok_or_else(|| format!("the loss setting {name} is not a number")),
        };
        match function {
            LossFn::CrossEntropy => Ok(LossConfig::CrossEntropy),
            LossFn::ImportanceSampling => Ok(LossConfig::ImportanceSampling),
            // Tinker's defaults.
            LossFn::Ppo => Ok(LossConfig::Ppo { clip_low: value(CLIP_LOW, 0.8)?, clip_high: value(CLIP_HIGH, 1.2)? }),
            _ => Err(format!("unknown loss function {name:?}: expected cross_entropy, importance_sampling or ppo")),
        }
    }
}

fn example(model: &dyn Model, datum: &Datum, loss: LossConfig) -> Result<Example, String> {
    let tokens = tokens(model, &datum.model_input)?;
    if tokens.is_empty() {
        return Err("the model input is empty".to_owned());
    }
    if tokens.len() > model.context_length() {
        let (length, context) = (tokens.len(), model.context_length());
        return Err(format!("the model input has {length} tokens, more than the context of {context}"));
    }
    let optional_input = |name: &str| {
        let tensor = datum.loss_fn_inputs.get(name)?;
        Some(if tensor.is_sparse() {
            Err(format!("{name} is sparse, which this server does not support"))
        } else if tensor.len() == tokens.len() {
            Ok(tensor)
        } else {
            let (values, tokens) = (tensor.len(), tokens.len());
            Err(format!("{name} has {values} values for a model input of {tokens} tokens"))
        })
    };
    let input = |name: &str| optional_input(name).unwrap_or_else(|| Err(format!("the loss input {name} is missing")));
    let float_input = |name: &str| to_floats(name, input(name)?);
    let targets = input("target_tokens")?;
    let targets = targets.as_i64().ok_or("target_tokens must be of dtype int64")?;
    let targets = targets.iter().map(|&token| check_token(model, token)).collect::<Result<_, _>>()?;
    let objective = match loss {
        LossConfig::CrossEntropy => Objective::cross_entropy(float_input("weights")?),
        LossConfig::ImportanceSampling => {
            Objective::importance_sampling(float_input("logprobs")?, float_input("advantages")?)
        }
        LossConfig::Ppo { clip_low, clip_high } => {
            // A loss input gives each token its own bound.
            let bounds = |name, default: f64| match optional_input(name) {
                Some(tensor) => to_floats(name, tensor?),
                None => Ok(vec![default as f32; tokens.len()]),
            };
            Objective::ppo(float_input("logprobs")?, float_input("advantages")?)
                .clip_low(bounds(CLIP_LOW, clip_low)?)
                .clip_high(bounds(CLIP_HIGH, clip_high)?)
        }
    };
    Ok(Example { tokens, targets, objective })
}

fn to_floats(name: &str, tensor: &TensorData) -> Result<Vec<f32>, String> {
    tensor.validate().map_err(|error| format!("{name}: {error}"))?;
    Ok(match (tensor.as_f32(), tensor.as_i64()) {
        (Some(values), _) => values.to_vec(),
        (None, values) => values.unwrap_or_default().iter().map(|&value| value as f32).collect(),
    })
}

fn tokens(model: &dyn Model, input: &ModelInput) -> Result<Vec<u32>, String> {
    let tokens = input.to_tokens().map_err(|error| error.to_string())?;
    tokens.iter().try_for_each(|&token| check_token(model, token.into()).map(drop))?;
    Ok(tokens)
}

fn check_token(model: &dyn Model, token: i64) -> Result<u32, String> {
    let id = u32::try_from(token).ok().filter(|&id| (id as usize) < model.vocab_size());
    id.ok_or_else(|| format!("token {token} is outside the vocabulary of {} tokens", model.vocab_size()))
}

/// An `optim_step` request, with fields of later protocol versions.
#[derive(Debug, Deserialize)]
pub(super) struct OptimStep {
    pub(super) model_id: String,
    pub(super) seq_id: Option<u64>,
    #[serde(default)]
    adam_params: AdamFields,
    /// The settings of another optimizer.
    optimizer_params: Option<OptimizerConfig>,
}

impl OptimStep {
    pub(super) fn to_options(&self) -> Result<AdamOptions, Response> {
        match &self.optimizer_params {
            Some(params) => Err(not_adam(params)),
            None => self.adam_params.to_options(),
        }
    }
}

/// Refuses every optimizer but AdamW.
pub(super) fn optimizer(config: Option<&OptimizerConfig>) -> Result<(), Response> {
    match config {
        None | Some(OptimizerConfig::Adam(_)) => Ok(()),
        Some(other) => Err(not_adam(other)),
    }
}

fn not_adam(config: &OptimizerConfig) -> Response {
    bad_request(format!("the local server has only AdamW, not the optimizer {:?}", config.name()))
}

/// The parameters of an optimizer step. Each may be absent; the defaults are those of [`AdamOptions`].
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AdamFields {
    learning_rate: Option<f64>,
    beta1: Option<f64>,
    beta2: Option<f64>,
    eps: Option<f64>,
    weight_decay: Option<f64>,
    grad_clip_norm: Option<f64>,
}

impl AdamFields {
    fn to_options(&self) -> Result<AdamOptions, Response> {
        // Checked after rounding to single precision, as the optimizer sees it: a large number becomes infinite, and one just
        // below 1 becomes 1.
        let check = |name: &str, value: Option<f64>, default: f32, allowed: Range<f32>| {
            let rounded = value.map_or(default, |value| value as f32);
            if allowed.contains(&rounded) {
                return Ok(rounded);
            }
            let bound =
                if allowed.end > 1.0 { "finite in single precision" } else { "less than 1 in single precision" };
            let value = value.unwrap_or_default();
            Err(bad_request(format!("{name} must be at least 0 and {bound}, but is {value}")))
        };
        let (finite, decay) = (0.0..f32::INFINITY, 0.0..1.0);
        let default = AdamOptions::default();
        Ok(AdamOptions {
            learning_rate: check("learning_rate", self.learning_rate, default.learning_rate, finite.clone())?,
            beta1: check("beta1", self.beta1, default.beta1, decay.clone())?,
            beta2: check("beta2", self.beta2, default.beta2, decay)?,
            eps: check("eps", self.eps, default.eps, finite.clone())?,
            weight_decay: check("weight_decay", self.weight_decay, default.weight_decay, finite.clone())?,
            grad_clip_norm: check("grad_clip_norm", self.grad_clip_norm, default.grad_clip_norm, finite)?,
        })
    }
}

/// Checks the name of a checkpoint, which becomes one segment of its path.
pub(super) fn checkpoint_name(name: Option<&str>) -> Result<&str, Response> {
    let name = name.ok_or_else(|| bad_request("path is missing: it is the name of the checkpoint"))?;
    if name.is_empty() || name.contains(['/', '?', '#']) || name.chars().any(char::is_control) {
        return Err(bad_request(format!(
            "{name:?} is not a valid checkpoint name: use one path segment without /, ?, # and control characters"
        )));
    }
    if encode(name).len() > MAX_FILE_NAME {
        let limit = "240 bytes, with three for each byte that is not a letter, digit, -, _ or .";
        return Err(bad_request(format!("the checkpoint name is too long: the maximum is {limit}")));
    }
    Ok(name)
}

/// What a sample request asks for.
pub(super) fn sample_params(model: &dyn Model, request: &SampleRequest<'_>) -> Result<SampleParams, Response> {
    let params = &request.sampling_params;
    params.validate().map_err(|error| bad_request(error.to_string()))?;
    if request.num_samples == 0 {
        return Err(bad_request("num_samples must be at least 1"));
    }
    if request.num_samples > MAX_SAMPLES {
        return Err(bad_request(format!("num_samples is {}, more than {MAX_SAMPLES}", request.num_samples)));
    }
    let unsupported = [
        ("topk_sample_logprobs", request.topk_sample_logprobs > 0),
        ("target_prompt_logprobs", request.target_prompt_logprobs.is_some()),
        ("prompt_alt_tokens_k", request.prompt_alt_tokens_k > 0),
    ];
    if let Some((name, _)) = unsupported.into_iter().find(|(_, is_set)| *is_set) {
        return Err(bad_request(format!("this server does not support {name}")));
    }
    let prompt = tokens(model, &request.prompt).map_err(|error| bad_request(format!("prompt: {error}")))?;
    let max_tokens = params.max_tokens.map(|tokens| tokens as usize);
    let (length, new_tokens, context) = (prompt.len(), max_tokens.unwrap_or(1), model.context_length());
    if length.saturating_add(new_tokens) > context {
        let sum = format!("a prompt of {length} tokens and {new_tokens} more");
        return Err(bad_request(format!("{sum} exceed the context of {context}")));
    }
    Ok(SampleParams {
        prompt,
        num_samples: request.num_samples as usize,
        options: GenerationOptions {
            max_tokens,
            temperature: params.temperature as f32,
            top_k: usize::try_from(params.top_k).ok(),
            top_p: params.top_p as f32,
            seed: params.seed,
            stop_sequences: stop_sequences(model, params.stop.as_ref())?,
        },
        prompt_logprobs: request.prompt_logprobs.unwrap_or_default(),
        topk_prompt_logprobs: request.topk_prompt_logprobs as usize,
    })
}

fn stop_sequences(model: &dyn Model, stop: Option<&Stop>) -> Result<Vec<Vec<u32>>, Response> {
    // A text is tokenized into its bytes: every model here is byte-level.
    let text = |text: &String| match text.is_empty() {
        true => Err(bad_request("a stop string is empty")),
        false => Ok(text.bytes().map(u32::from).collect()),
    };
    match stop {
        None => Ok(Vec::new()),
        Some(Stop::Texts(texts)) => texts.iter().map(text).collect(),
        Some(Stop::Tokens(tokens)) => {
            let token = |&token: &u32| check_token(model, token.into()).map(|token| vec![token]);
            tokens.iter().map(token).collect::<Result<_, _>>().map_err(bad_request)
        }
    }
}
