//! The batches of forward and forward-backward requests.

use std::collections::BTreeMap;
use std::iter::repeat_n;

use super::loss_inputs::{LossInputs, SEQUENCE_RATIO_MASK};
use super::loss_settings::{BETA, CLIP_HIGH, CLIP_LOW, KL_COEFF, LossSettings};
use super::tokens;
use crate::local::model::{Example, Model, Objective};
use crate::local::server::api::body::bad_request;
use crate::local::server::http1::Response;
use crate::types::wire::ForwardBackwardInput;
use crate::types::{Datum, LossFn, ProvenanceSource};

/// The maximum number of targets in one request, of which each also has two numbers in the result. A sparse tensor names many
/// with few bytes.
const MAX_TARGETS: usize = 1 << 22;

/// The batch of a forward or forward-backward request.
pub(in crate::local::server::api) fn batch(
    model: &dyn Model,
    input: &ForwardBackwardInput<'_>,
    forward_only: bool,
) -> Result<Vec<Example>, Response> {
    let config = input.loss_fn_config.as_deref();
    let loss = LossSettings::new(&input.loss_fn, config.unwrap_or(&BTreeMap::new()), forward_only)?;
    if input.data.is_empty() {
        return Err(bad_request("the batch is empty"));
    }
    let mut remaining = MAX_TARGETS;
    let mut example = |(index, datum)| {
        example(model, datum, &loss, &mut remaining).map_err(|error| bad_request(format!("datum {index}: {error}")))
    };
    input.data.iter().enumerate().map(&mut example).collect()
}

fn example(model: &dyn Model, datum: &Datum, loss: &LossSettings, remaining: &mut usize) -> Result<Example, String> {
    let tokens = tokens(model, &datum.model_input)?;
    if tokens.is_empty() {
        return Err("the model input is empty".to_owned());
    }
    if tokens.len() > model.context_length() {
        let (length, context) = (tokens.len(), model.context_length());
        return Err(format!("the model input has {length} tokens, more than the context of {context}"));
    }
    let inputs = LossInputs::new(&datum.loss_fn_inputs, tokens.len(), model.vocab_size(), *remaining)?;
    *remaining = remaining.saturating_sub(inputs.targets());
    let targets = inputs.target_tokens(model)?;
    let targets_per_token = inputs.columns();
    let objective = objective(loss, &inputs, datum)?;
    Ok(Example { targets_per_token, ..Example::new(tokens, targets, objective) })
}

fn objective(loss: &LossSettings, inputs: &LossInputs<'_>, datum: &Datum) -> Result<Objective, String> {
    loss.check_inputs(inputs)?;
    if loss.function == LossFn::CrossEntropy {
        return Ok(Objective::cross_entropy(inputs.floats("weights")?));
    }
    if let Some(columns @ 2..) = inputs.columns() {
        let name = loss.function.as_str();
        return Err(format!(
            "target_tokens has {columns} targets for each token, but the loss function {name} takes one: only \
             cross_entropy takes several"
        ));
    }
    let (logprobs, advantages) = (inputs.floats("logprobs")?, inputs.floats("advantages")?);
    let objective = match loss.function {
        LossFn::ImportanceSampling => Objective::importance_sampling(logprobs, advantages),
        LossFn::Ppo => Objective::ppo(logprobs, advantages),
        LossFn::Cispo => Objective::cispo(logprobs, advantages),
        LossFn::Dro => Objective::dro(logprobs, advantages),
        LossFn::Gspo => Objective::gspo(logprobs, advantages, ratio_mask(inputs)?),
        _ => {
            let sampled = sampled(datum, &advantages)?;
            Objective::stable_reinforce(logprobs, advantages, sampled)
        }
    };
    // A loss input gives each target its own bound.
    let bounds = |name| match inputs.optional_floats(name)? {
        Some(bounds) => Ok::<_, String>(Some(bounds)),
        None => Ok(loss.value(name).map(|bound| vec![bound; inputs.targets()])),
    };
    let set = |objective: Objective, value: Option<f32>, setter: fn(Objective, f32) -> Objective| match value {
        Some(value) => setter(objective, value),
        None => objective,
    };
    let objective = set(objective, loss.value(BETA), Objective::beta);
    let objective = set(objective, loss.value(KL_COEFF), Objective::kl_coeff);
    let objective = bounds(CLIP_LOW)?.into_iter().fold(objective, Objective::clip_low);
    let objective = bounds(CLIP_HIGH)?.into_iter().fold(objective, Objective::clip_high);
    check_bounds(&objective)?;
    Ok(objective)
}

fn check_bounds(objective: &Objective) -> Result<(), String> {
    let (Objective::Ppo { clip_low, clip_high, .. }
    | Objective::Cispo { clip_low, clip_high, .. }
    | Objective::Gspo { clip_low, clip_high, .. }) = objective
    else {
        return Ok(());
    };
    let in_order = |(low, high): (&f32, &f32)| (0.0..=*high).contains(low);
    match clip_low.iter().zip(clip_high).position(|bounds| !in_order(bounds)) {
        Some(index) => {
            let (low, high) = (clip_low[index], clip_high[index]);
            Err(format!(
                "the ratio of target {index} is to be clipped to {low} … {high}: {CLIP_LOW} must be at least 0 and at most {CLIP_HIGH}"
            ))
        }
        None => Ok(()),
    }
}

/// The targets that the ratio of a sequence is taken over.
fn ratio_mask(inputs: &LossInputs<'_>) -> Result<Vec<bool>, String> {
    let mask: Vec<bool> = inputs.floats(SEQUENCE_RATIO_MASK)?.into_iter().map(|mark| mark != 0.0).collect();
    match mask.contains(&true) {
        true => Ok(mask),
        false => Err(format!("{SEQUENCE_RATIO_MASK} marks no token, so the sequence has no ratio")),
    }
}

/// The targets that were sampled, as the provenance of the loss inputs says. Only these may have an advantage.
fn sampled(datum: &Datum, advantages: &[f32]) -> Result<Vec<bool>, String> {
    if datum.loss_fn_input_spans.is_empty() {
        return Err("stable_reinforce needs the provenance of the target tokens, loss_fn_input_spans, for which only \
                    requests in protobuf have a form"
            .to_owned());
    }
    let spans = datum.loss_fn_input_spans.iter().flat_map(|span| {
        let length = usize::try_from(span.length).unwrap_or(usize::MAX);
        repeat_n(span.source == ProvenanceSource::Sampled, length)
    });
    let mut sampled: Vec<bool> = spans.take(advantages.len()).collect();
    sampled.resize(advantages.len(), false);
    match sampled.iter().zip(advantages).position(|(sampled, &advantage)| !sampled && advantage != 0.0) {
        Some(index) => Err(format!(
            "target {index} has the advantage {}, but was not sampled, as its provenance says: its advantage must be 0",
            advantages[index]
        )),
        None => Ok(sampled),
    }
}
