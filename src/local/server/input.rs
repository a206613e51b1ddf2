//! From requests on the wire to what a model takes, with every check that a model may rely on.
//!
//! What has the wrong form is refused with 422 and the place in the body; what makes no sense, with 400 and a sentence.

use serde::Deserialize;
use serde_json::json;
use serde_path_to_error::Segment;

use super::http::{Request, Response};
use crate::local::adam::AdamStep;
use crate::local::model::{AdapterOptions, Example, Loss, Model, SampleOptions};
use crate::types::{
    AdamParams, Datum, ForwardBackwardInput, LoraConfig, LossFn, ModelInput, SampleRequest, Stop, TensorData,
};

/// Reads the body of a request.
pub(super) fn body<'a, T: Deserialize<'a>>(request: &'a Request) -> Result<T, Response> {
    serde_json::from_slice(&request.body).map_err(|error| {
        // Keeping track of the place costs time, so it is looked for only now that it is needed.
        let mut json = serde_json::Deserializer::from_slice(&request.body);
        match serde_path_to_error::deserialize::<_, T>(&mut json) {
            Err(placed) if error.is_data() => misplaced(&error, placed.path()),
            _ => invalid(vec![json!("body"), json!(error.column())], &error.to_string(), "json_invalid"),
        }
    })
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
pub(super) fn adapter_options(config: &LoraConfig) -> Result<AdapterOptions, Response> {
    config.validate().map_err(|error| senseless(error.to_string()))?;
    Ok(AdapterOptions {
        rank: config.rank as usize,
        seed: config.seed.unwrap_or_default(),
        train_attn: config.train_attn,
        train_mlp: config.train_mlp,
        train_unembed: config.train_unembed,
    })
}

/// A batch to compute a loss on.
pub(super) fn batch(model: &dyn Model, input: &ForwardBackwardInput<'_>) -> Result<Vec<Example>, Response> {
    if input.loss_fn != LossFn::CrossEntropy {
        return Err(senseless(format!("unknown loss function {:?}: there is cross_entropy", input.loss_fn.as_str())));
    }
    if input.data.is_empty() {
        return Err(senseless("the batch is empty"));
    }
    let example = |(index, datum)| example(model, datum).map_err(|error| senseless(format!("datum {index}: {error}")));
    input.data.iter().enumerate().map(example).collect()
}

fn example(model: &dyn Model, datum: &Datum) -> Result<Example, String> {
    let tokens = tokens(model, &datum.model_input)?;
    if tokens.is_empty() {
        return Err("the model input is empty".to_owned());
    }
    if tokens.len() > model.context_length() {
        let (length, most) = (tokens.len(), model.context_length());
        return Err(format!("the model input has {length} tokens, more than the context of {most}"));
    }
    let input = |name: &str| {
        let tensor = datum.loss_fn_inputs.get(name).ok_or_else(|| format!("the loss input {name} is missing"))?;
        if tensor.len() != tokens.len() {
            let (found, wanted) = (tensor.len(), tokens.len());
            return Err(format!("{name} has {found} values for a model input of {wanted} tokens"));
        }
        Ok(tensor)
    };
    let targets = input("target_tokens")?;
    let targets = targets.as_i64().ok_or("target_tokens must be of dtype int64")?;
    let targets = targets.iter().map(|&token| known(model, token)).collect::<Result<_, _>>()?;
    let weights = floats("weights", input("weights")?)?;
    Ok(Example { tokens, targets, loss: Loss::CrossEntropy { weights } })
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

/// The settings of an optimizer step.
pub(super) fn adam_step(params: &AdamParams) -> Result<AdamStep, Response> {
    params.validate().map_err(|error| senseless(error.to_string()))?;
    for (name, decay) in [("beta1", params.beta1), ("beta2", params.beta2)] {
        if !(0.0..1.0).contains(&decay) {
            return Err(senseless(format!("{name} must be at least 0 and less than 1, it is {decay}")));
        }
    }
    Ok(AdamStep {
        learning_rate: params.learning_rate as f32,
        beta1: params.beta1 as f32,
        beta2: params.beta2 as f32,
        eps: params.eps as f32,
    })
}

/// The name of a checkpoint, which is one segment of its path.
pub(super) fn checkpoint_name(name: Option<&str>) -> Result<&str, Response> {
    let name = name.ok_or_else(|| senseless("path is missing, the name of the checkpoint"))?;
    if name.is_empty() || name.contains(['/', '?', '#']) || name.chars().any(char::is_control) {
        return Err(senseless(format!("{name:?} is not a name for a checkpoint: it is one segment of a path")));
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
