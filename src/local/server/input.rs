//! From requests on the wire to what a model takes, with every check that a model may rely on.
//!
//! What has the wrong form is refused with 422 and the place in the body; what makes no sense, with 400 and a sentence.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use serde_path_to_error::Segment;

use super::http::{Request, Response};
use super::percent::encode;
use crate::local::adam::AdamStep;
use crate::local::model::{Example, Loss, Model, SampleOptions};
use crate::types::wire::{ForwardBackwardInput, SampleRequest};
use crate::types::{Datum, LoraConfig, LossFn, ModelInput, Stop, TensorData};

/// More would be a slip: no model here is wider.
const MAX_RANK: u32 = 1024;

/// More samples of one request would keep a processor for many minutes, and their tokens would fill the memory.
const MAX_SAMPLES: u32 = 1024;

/// Names longer than this, as a file has them, do not fit every file system together with what is put before them.
const MAX_FILE_NAME: usize = 240;

const CLIP_LOW: &str = "clip_low_threshold";
const CLIP_HIGH: &str = "clip_high_threshold";

/// Reads the body of a request. A field that is null and may not be counts as one that is not there.
pub(super) fn body<T: DeserializeOwned>(request: &Request) -> Result<T, Response> {
    serde_json::from_slice(&request.body).or_else(|error| {
        // All this takes time, so it is done only now that it is needed: without nulls, then with the place in mind.
        let without_nulls = error.is_data().then(|| serde_json::from_slice(&request.body).ok().map(without_nulls));
        if let Some(body) = without_nulls.flatten().and_then(|body| serde_json::from_value(body).ok()) {
            return Ok(body);
        }
        let mut json = serde_json::Deserializer::from_slice(&request.body);
        Err(match serde_path_to_error::deserialize::<_, T>(&mut json) {
            Err(placed) if error.is_data() => misplaced(&error, placed.path()),
            _ => invalid(vec![json!("body"), json!(error.column())], &error.to_string(), "json_invalid"),
        })
    })
}

/// A value whose objects have lost the fields that are null.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(fields.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// Which part of a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) offset: u64,
    pub(super) limit: u64,
}

impl Page {
    /// Reads `limit` and `offset` from a query; what else is there is left alone.
    pub(super) fn of(request: &Request, limit: u64) -> Result<Self, Response> {
        let mut page = Page { offset: 0, limit };
        for (name, value) in request.query.split('&').filter_map(|field| field.split_once('=')) {
            let field = match name {
                "limit" => &mut page.limit,
                "offset" => &mut page.offset,
                _ => continue,
            };
            let place = || vec![json!("query"), json!(name)];
            *field = value.parse().map_err(|_| invalid(place(), "Input should be a valid integer", "int_parsing"))?;
        }
        Ok(page)
    }

    pub(super) fn cut<T>(&self, items: Vec<T>) -> Vec<T> {
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        items.into_iter().skip(size(self.offset)).take(size(self.limit)).collect()
    }
}

/// The refusal of a body of the wrong form, as FastAPI words it.
fn misplaced(cause: &serde_json::Error, path: &serde_path_to_error::Path) -> Response {
    let mut place = vec![json!("body")];
    place.extend(path.iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(json!(index)),
        Segment::Map { key } => Some(json!(key)),
        Segment::Enum { variant } => Some(json!(variant)),
        Segment::Unknown => None,
    }));
    let text = cause.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    match text.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        Some(field) => {
            place.push(json!(field));
            invalid(place, "Field required", "missing")
        }
        None => invalid(place, text, "value_error"),
    }
}

fn invalid(place: Vec<serde_json::Value>, message: &str, kind: &str) -> Response {
    Response::json(422, &json!({ "detail": [{ "type": kind, "loc": place, "msg": message }] }))
}

fn senseless(detail: impl AsRef<str>) -> Response {
    Response::detail(400, detail.as_ref())
}

/// The adapter of a new training run.
pub(super) fn lora(config: Option<LoraConfig>) -> Result<LoraConfig, Response> {
    let config = config.unwrap_or_default();
    config.validate().map_err(|error| senseless(error.to_string()))?;
    if config.rank > MAX_RANK {
        return Err(senseless(format!("the LoRA rank is {}, more than {MAX_RANK}", config.rank)));
    }
    Ok(config)
}

/// A batch to compute a loss on.
pub(super) fn batch(model: &dyn Model, input: &ForwardBackwardInput<'_>) -> Result<Vec<Example>, Response> {
    let settings = input.loss_fn_config.as_deref();
    let loss = LossKind::new(&input.loss_fn, settings.unwrap_or(&BTreeMap::new())).map_err(senseless)?;
    if input.data.is_empty() {
        return Err(senseless("the batch is empty"));
    }
    let example =
        |(index, datum)| example(model, datum, loss).map_err(|error| senseless(format!("datum {index}: {error}")));
    input.data.iter().enumerate().map(example).collect()
}

/// A loss function with its settings.
#[derive(Clone, Copy, Debug)]
enum LossKind {
    CrossEntropy,
    ImportanceSampling,
    Ppo { low: f64, high: f64 },
}

impl LossKind {
    /// Settings of other losses are left alone, as the service does.
    fn new(function: &LossFn, settings: &BTreeMap<String, f64>) -> Result<Self, String> {
        let name = function.as_str();
        let setting = |name: &str, otherwise| settings.get(name).copied().unwrap_or(otherwise);
        match function {
            LossFn::CrossEntropy => Ok(LossKind::CrossEntropy),
            LossFn::ImportanceSampling => Ok(LossKind::ImportanceSampling),
            // Tinker's own defaults.
            LossFn::Ppo => Ok(LossKind::Ppo { low: setting(CLIP_LOW, 0.8), high: setting(CLIP_HIGH, 1.2) }),
            _ => Err(format!("unknown loss function {name:?}: there are cross_entropy, importance_sampling and ppo")),
        }
    }
}

fn example(model: &dyn Model, datum: &Datum, loss: LossKind) -> Result<Example, String> {
    let tokens = tokens(model, &datum.model_input)?;
    if tokens.is_empty() {
        return Err("the model input is empty".to_owned());
    }
    if tokens.len() > model.context_length() {
        let (length, most) = (tokens.len(), model.context_length());
        return Err(format!("the model input has {length} tokens, more than the context of {most}"));
    }
    let given = |name: &str| {
        let tensor = datum.loss_fn_inputs.get(name)?;
        Some(if tensor.len() == tokens.len() {
            Ok(tensor)
        } else {
            let (found, wanted) = (tensor.len(), tokens.len());
            Err(format!("{name} has {found} values for a model input of {wanted} tokens"))
        })
    };
    let needed = |name: &str| given(name).unwrap_or_else(|| Err(format!("the loss input {name} is missing")));
    let numbers = |name: &str| floats(name, needed(name)?);
    let targets = needed("target_tokens")?;
    let targets = targets.as_i64().ok_or("target_tokens must be of dtype int64")?;
    let targets = targets.iter().map(|&token| known(model, token)).collect::<Result<_, _>>()?;
    let loss = match loss {
        LossKind::CrossEntropy => Loss::CrossEntropy { weights: numbers("weights")? },
        LossKind::ImportanceSampling => {
            Loss::ImportanceSampling { logprobs: numbers("logprobs")?, advantages: numbers("advantages")? }
        }
        LossKind::Ppo { low, high } => {
            // A bound may also be given for every token by itself.
            let bounds = |name, one: f64| match given(name) {
                Some(tensor) => floats(name, tensor?),
                None => Ok(vec![one as f32; tokens.len()]),
            };
            let clip = bounds(CLIP_LOW, low)?.into_iter().zip(bounds(CLIP_HIGH, high)?).collect();
            Loss::Ppo { logprobs: numbers("logprobs")?, advantages: numbers("advantages")?, clip }
        }
    };
    Ok(Example { tokens, targets, loss })
}

fn floats(name: &str, tensor: &TensorData) -> Result<Vec<f32>, String> {
    tensor.validate().map_err(|error| format!("{name}: {error}"))?;
    Ok(match (tensor.as_f32(), tensor.as_i64()) {
        (Some(values), _) => values.to_vec(),
        (None, values) => values.unwrap_or_default().iter().map(|&value| value as f32).collect(),
    })
}

fn tokens(model: &dyn Model, input: &ModelInput) -> Result<Vec<u32>, String> {
    let tokens = input.to_tokens().map_err(|error| error.to_string())?;
    tokens.iter().try_for_each(|&token| known(model, token.into()).map(drop))?;
    Ok(tokens)
}

fn known(model: &dyn Model, token: i64) -> Result<u32, String> {
    let id = u32::try_from(token).ok().filter(|&id| (id as usize) < model.vocab_size());
    id.ok_or_else(|| format!("token {token} is outside the vocabulary of {} tokens", model.vocab_size()))
}

/// A request for an optimizer step, with the settings of later versions of the protocol.
#[derive(Debug, Deserialize)]
pub(super) struct OptimStep {
    pub(super) model_id: String,
    pub(super) seq_id: Option<u64>,
    #[serde(default)]
    pub(super) adam_params: AdamSettings,
}

/// The settings of an optimizer step; each of them may be left away.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AdamSettings {
    learning_rate: Option<f64>,
    beta1: Option<f64>,
    beta2: Option<f64>,
    eps: Option<f64>,
    weight_decay: Option<f64>,
    grad_clip_norm: Option<f64>,
}

impl AdamSettings {
    pub(super) fn step(&self) -> Result<AdamStep, Response> {
        // What counts is the number that the optimizer gets: rounded, a large one is infinite, and one below 1 may be 1.
        let number = |name: &str, value: Option<f64>, otherwise: f32, allowed: Range<f32>| {
            let rounded = value.map_or(otherwise, |value| value as f32);
            if allowed.contains(&rounded) {
                return Ok(rounded);
            }
            let bound =
                if allowed.end > 1.0 { "finite in single precision" } else { "less than 1 in single precision" };
            let value = value.unwrap_or_default();
            Err(senseless(format!("{name} must be at least 0 and {bound}, it is {value}")))
        };
        let (any, decay) = (0.0..f32::INFINITY, 0.0..1.0);
        let default = AdamStep::default();
        Ok(AdamStep {
            learning_rate: number("learning_rate", self.learning_rate, default.learning_rate, any.clone())?,
            beta1: number("beta1", self.beta1, default.beta1, decay.clone())?,
            beta2: number("beta2", self.beta2, default.beta2, decay)?,
            eps: number("eps", self.eps, default.eps, any.clone())?,
            weight_decay: number("weight_decay", self.weight_decay, default.weight_decay, any.clone())?,
            grad_clip_norm: number("grad_clip_norm", self.grad_clip_norm, default.grad_clip_norm, any)?,
        })
    }
}

/// The name of a checkpoint, which is one segment of its path.
pub(super) fn checkpoint_name(name: Option<&str>) -> Result<&str, Response> {
    let name = name.ok_or_else(|| senseless("path is missing, the name of the checkpoint"))?;
    if name.is_empty() || name.contains(['/', '?', '#']) || name.chars().any(char::is_control) {
        return Err(senseless(format!("{name:?} is not a name for a checkpoint: it is one segment of a path")));
    }
    if encode(name).len() > MAX_FILE_NAME {
        let most = "240 letters, of which all but plain ones count threefold";
        return Err(senseless(format!("the name of the checkpoint is too long: it may have {most}")));
    }
    Ok(name)
}

/// What to sample, and what to tell about the prompt.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SampleTask {
    pub(super) prompt: Vec<u32>,
    pub(super) count: usize,
    pub(super) options: SampleOptions,
    pub(super) prompt_logprobs: bool,
    pub(super) topk_prompt_logprobs: usize,
}

pub(super) fn sample_task(model: &dyn Model, request: &SampleRequest<'_>) -> Result<SampleTask, Response> {
    let params = &request.sampling_params;
    params.validate().map_err(|error| senseless(error.to_string()))?;
    if request.num_samples == 0 {
        return Err(senseless("num_samples must be at least 1"));
    }
    if request.num_samples > MAX_SAMPLES {
        return Err(senseless(format!("num_samples is {}, more than {MAX_SAMPLES}", request.num_samples)));
    }
    let prompt = tokens(model, &request.prompt).map_err(|error| senseless(format!("prompt: {error}")))?;
    let max_tokens = params.max_tokens.map(|tokens| tokens as usize);
    let (length, wanted, most) = (prompt.len(), max_tokens.unwrap_or(1), model.context_length());
    if length.saturating_add(wanted) > most {
        return Err(senseless(format!("a prompt of {length} tokens and {wanted} more exceed the context of {most}")));
    }
    Ok(SampleTask {
        prompt,
        count: request.num_samples as usize,
        options: SampleOptions {
            max_tokens,
            temperature: params.temperature as f32,
            top_k: usize::try_from(params.top_k).ok(),
            top_p: params.top_p as f32,
            seed: params.seed,
            stop: stop(model, params.stop.as_ref())?,
        },
        prompt_logprobs: request.prompt_logprobs.unwrap_or_default(),
        topk_prompt_logprobs: request.topk_prompt_logprobs as usize,
    })
}

fn stop(model: &dyn Model, stop: Option<&Stop>) -> Result<Vec<Vec<u32>>, Response> {
    // The tokens of a text are its bytes: every model here is one over bytes.
    let text = |text: &String| match text.is_empty() {
        true => Err(senseless("a stop text is empty")),
        false => Ok(text.bytes().map(u32::from).collect()),
    };
    match stop {
        None => Ok(Vec::new()),
        Some(Stop::Text(one)) => Ok(vec![text(one)?]),
        Some(Stop::Texts(texts)) => texts.iter().map(text).collect(),
        Some(Stop::Tokens(tokens)) => {
            let token = |&token: &u32| known(model, token.into()).map(|token| vec![token]);
            tokens.iter().map(token).collect::<Result<_, _>>().map_err(senseless)
        }
    }
}
