//! The state of a double.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::pass::{Form, SeenDatum};

#[derive(Default)]
pub struct World {
    pub sessions: usize,
    pub models: BTreeMap<String, Model>,
    /// By the id of the sampling session.
    pub samplers: BTreeMap<String, Weights>,
    /// By path.
    pub saved: BTreeMap<String, Weights>,
    /// A promise's id is its index plus 1.
    pub(super) promises: Vec<Promise>,
    pub executions: Vec<Execution>,
    /// By sampling session and clone, the ids of promises whose sample is there.
    pub(super) completions: BTreeMap<(String, u64), Vec<u64>>,
    /// By sampling session and number.
    pub(super) samples: BTreeMap<(String, u64), u64>,
}

/// Something that was run.
#[derive(Clone, Debug, PartialEq)]
pub struct Execution {
    pub path: &'static str,
    /// The id of the model or of the sampling session.
    pub owner: String,
    pub number: u64,
    pub form: Form,
    /// The batch of a pass.
    pub data: Vec<SeenDatum>,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub weights: Weights,
    /// The last number that was run.
    pub last: u64,
    /// The promise of its creation.
    pub(super) created: u64,
    /// Whether a pass was run.
    pub(super) trained: bool,
    /// By number.
    pub(super) promised: BTreeMap<u64, u64>,
}

/// Weights: what they were made from, and how far they are trained.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    pub model_id: String,
    pub base_model: String,
    pub rank: u64,
    pub steps: u64,
    /// The steps in the optimizer's state.
    pub optimizer_steps: u64,
}

pub(super) struct Promise {
    pub(super) outcome: Outcome,
    /// How many polls are told that there is no result yet.
    pub(super) not_yet: u32,
    /// Whether a result in protobuf exists for it.
    pub(super) kind: ResultKind,
    pub(super) size_told: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// A number before it has not arrived.
    Waiting,
    Done(Value),
    Failed(String),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ResultKind {
    Pass,
    Sample,
    Other,
}

impl World {
    pub(super) fn new_session(&mut self) -> String {
        self.sessions += 1;
        format!("session-{}", self.sessions)
    }

    /// The id of a new promise.
    pub(super) fn promise(&mut self, outcome: Outcome, kind: ResultKind) -> u64 {
        self.promises.push(Promise { outcome, not_yet: 0, kind, size_told: false });
        self.promises.len() as u64
    }

    pub(super) fn promised(&mut self, id: u64) -> Option<&mut Promise> {
        self.promises.get_mut(usize::try_from(id).ok()?.checked_sub(1)?)
    }
}

/// The response that promises a result.
pub(super) fn promise_body(id: u64, as_number: bool) -> Value {
    json!({"request_id": if as_number { json!(id) } else { json!(format!("future-{id}")) }})
}

/// The id in a request, in either form.
pub(super) fn promise_id(request_id: &Value) -> u64 {
    let text = request_id.as_str().unwrap_or_default();
    let digits = text.strip_prefix("future-").unwrap_or(text);
    request_id.as_u64().or_else(|| digits.parse().ok()).unwrap_or_default()
}
