//! Sampling sessions, and samples that echo their prompt.

use serde_json::{Value, json};

use super::pass::Form;
use super::world::{Execution, Outcome, ResultKind, Weights, promise_body};
use super::{Shared, refusal};
use crate::support::Reply;

/// Samples of one clone are numbered from this times its number.
const CLONE: u64 = 1_000_000_000;

impl Shared {
    pub(super) fn create_sampling_session(&self, body: &Value) -> Reply {
        let mut world = self.world.lock().unwrap();
        let weights = match (body["model_path"].as_str(), body["base_model"].as_str()) {
            (Some(path), _) => match world.saved.get(path) {
                Some(weights) => weights.clone(),
                None => return refusal(404, "no such weights"),
            },
            (None, Some(base)) => Weights { base_model: base.to_owned(), ..Weights::default() },
            _ => return refusal(422, "neither a model nor a path"),
        };
        let session = body["session_id"].as_str().unwrap_or_default();
        let id = format!("{session}:sample:{}", body["sampling_session_seq_id"]);
        world.samplers.insert(id.clone(), weights);
        Reply::ok(json!({"sampling_session_id": id}))
    }

    /// A sample's tokens are the number of steps of the weights, and then its prompt.
    pub(super) fn sample(&self, body: &Value) -> Reply {
        let params = &body["sampling_params"];
        if params["stop"].is_string() && !self.server.stop_as_text {
            return refusal(422, "stop: Input should be a valid list");
        }
        let (session, number) = (body["sampling_session_id"].as_str().unwrap_or_default(), &body["seq_id"]);
        let (session, number) = (session.to_owned(), number.as_u64().unwrap_or_default());
        let mut world = self.world.lock().unwrap();
        let Some(weights) = world.samplers.get(&session).cloned() else {
            return refusal(404, "no such sampling session");
        };
        let key = (session.clone(), number);
        let id = match world.samples.get(&key) {
            Some(id) => *id,
            None => {
                let id = world.promise(Outcome::Done(result(body, weights.steps)), ResultKind::Sample);
                world.samples.insert(key, id);
                let completions = world.completions.entry((session.clone(), number / CLONE)).or_default();
                completions.push(id);
                let (form, data) = (Form::Json, Vec::new());
                world.executions.push(Execution { path: "asample", owner: session.clone(), number, form, data });
                self.completed.notify_all();
                id
            }
        };
        let mut promise = promise_body(id, self.server.number_ids);
        if self.server.sequence_ids {
            let ids: Vec<_> = (0..count(body)).map(|index| format!("{session}/{number}/{index}")).collect();
            promise["sample_sequence_ids"] = json!(ids);
        }
        Reply::ok(promise)
    }
}

fn count(body: &Value) -> usize {
    usize::try_from(body["num_samples"].as_u64().unwrap_or(1)).unwrap()
}

fn result(body: &Value, steps: u64) -> Value {
    let chunks = body["prompt"]["chunks"].as_array();
    let prompt = chunks.into_iter().flatten().flat_map(|chunk| chunk["tokens"].as_array().into_iter().flatten());
    let prompt: Vec<u64> = prompt.filter_map(Value::as_u64).collect();
    let most = body["sampling_params"]["max_tokens"].as_u64().map_or(16, |most| usize::try_from(most).unwrap());
    let tokens: Vec<u64> = std::iter::once(steps).chain(prompt.iter().copied()).take(most).collect();
    let logprobs = vec![-0.25; tokens.len()];
    let sequence = json!({"stop_reason": "length", "tokens": tokens, "logprobs": logprobs});
    let mut result = json!({"sequences": vec![sequence; count(body)]});
    if body["prompt_logprobs"] == true {
        let numbers = prompt[1..].iter().map(|token| json!(-(*token as f64) / 1024.0));
        result["prompt_logprobs"] = std::iter::once(Value::Null).chain(numbers).collect();
    }
    result
}
