//! The batches of forward and forward-backward requests.

use std::collections::BTreeMap;

use super::{check_token, tokens};
use crate::local::model::{Example, Model, Objective};
use crate::local::server::api::body::bad_request;
use crate::local::server::http1::Response;
use crate::types::wire::ForwardBackwardInput;
use crate::types::{Datum, LossFn, LossSetting, TensorData};

const CLIP_LOW: &str = "clip_low_threshold";
const CLIP_HIGH: &str = "clip_high_threshold";

/// The batch of a forward or forward-backward request.
pub(in crate::local::server::api) fn batch(
    model: &dyn Model,
    input: &ForwardBackwardInput<'_>,
) -> Result<Vec<Example>, Response> {
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
    Ok(Example::new(tokens, targets, objective))
}

fn to_floats(name: &str, tensor: &TensorData) -> Result<Vec<f32>, String> {
    tensor.validate().map_err(|error| format!("{name}: {error}"))?;
    Ok(match (tensor.as_f32(), tensor.as_i64()) {
        (Some(values), _) => values.to_vec(),
        (None, values) => values.unwrap_or_default().iter().map(|&value| value as f32).collect(),
    })
}
