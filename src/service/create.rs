//! How training clients come to be: from a base model, or from a saved state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::ServiceClient;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Http, Limits, Purpose, Request, RetryMode, encode_segment, to_json};
use crate::pending::{Manner, Part, Pending, PollGroup, Promised, Slots};
use crate::session::Task;
use crate::training::TrainingClient;
use crate::types::wire::{CreateModelRequest, CreateModelResponse, Promise};
use crate::types::{CheckpointPath, LoraConfig, RequestKind, TrainingRun};

/// What to train, and what the service keeps with it.
///
/// A [`LoraConfig`] is enough where there is no metadata.
///
/// # Examples
///
/// ```
/// use tinkex::TrainingOptions;
/// use tinkex::types::LoraConfig;
///
/// let options = TrainingOptions::from(LoraConfig::default().rank(16)).user_metadata("experiment", "7b");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct TrainingOptions {
    lora: LoraConfig,
    user_metadata: BTreeMap<String, String>,
}

impl TrainingOptions {
    /// The default adapter, without metadata.
    pub fn new() -> Self {
        TrainingOptions::default()
    }

    /// The shape of the adapter. Defaults to [`LoraConfig::default`].
    pub fn lora(mut self, lora: LoraConfig) -> Self {
        self.lora = lora;
        self
    }

    /// Adds one entry to the metadata that the service keeps with the training run. Defaults to none.
    pub fn user_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.user_metadata.insert(key.into(), value.into());
        self
    }
}

impl From<LoraConfig> for TrainingOptions {
    fn from(lora: LoraConfig) -> Self {
        TrainingOptions::new().lora(lora)
    }
}

/// Writes the body of a create_model, just before it is sent.
type Prepare = Box<dyn FnOnce(&Http) -> Result<Vec<u8>> + Send>;

impl ServiceClient {
    pub(super) fn create_in(
        &self,
        base_model: &str,
        options: TrainingOptions,
        manner: Manner,
    ) -> Result<Pending<TrainingClient>> {
        let operation = "create_lora_training_client";
        if base_model.trim().is_empty() {
            return Err(Error::invalid_input("the name of the base model is empty").with_operation(operation));
        }
        options.lora.validate().map_err(|error| error.with_operation(operation))?;
        let number = self.session.models().fetch_add(1, Ordering::Relaxed);
        let body = create_model(operation, self.session_id(), number, base_model, options)?;
        self.create(operation, Box::new(|_| Ok(body)), manner, |trainer, _| Ok(trainer))
    }

    pub(super) fn create_from_state_in(
        &self,
        path: &str,
        user_metadata: &BTreeMap<String, String>,
        optimizer: bool,
        manner: Manner,
    ) -> Result<Pending<TrainingClient>> {
        let operation = match optimizer {
            true => "create_training_client_from_state_with_optimizer",
            false => "create_training_client_from_state",
        };
        let path = CheckpointPath::for_url(path).map_err(|error| error.with_operation(operation))?;
        let prepare = from_run(
            operation,
            path.training_run_id(),
            user_metadata.clone(),
            self.session_id().to_owned(),
            Arc::clone(self.session.models()),
            manner,
        );
        self.create(operation, prepare, manner, move |trainer, manner| {
            trainer.load_state_in(path.as_str(), optimizer, manner)?.wait().map(|_| trainer)
        })
    }

    /// Creates a model as `prepare` says; `finish` has the last word, on the thread that waits.
    fn create(
        &self,
        operation: &'static str,
        prepare: Prepare,
        manner: Manner,
        finish: impl FnOnce(TrainingClient, Manner) -> Result<TrainingClient> + Send + 'static,
    ) -> Result<Pending<TrainingClient>> {
        let (slots, mut parts) = Slots::<CreateModelResponse>::new(operation, 1);
        if let Some(part) = parts.pop() {
            let submit = self.model_submission(prepare, part, manner);
            if manner.blocks() {
                slots.waited_for();
                submit();
            } else {
                self.session.submitters().submit(submit).map_err(|(_, error)| error.with_operation(operation))?;
            }
        }
        let (session, timeout) = (Arc::clone(&self.session), self.timeout_operation);
        Ok(self.outcome(slots, operation, manner).pending(move |created| {
            let created = created.into_iter().next();
            let created = created.ok_or_else(|| Error::new(ErrorKind::Decode, "the result is missing"))?;
            finish(TrainingClient::new(&session, &created.model_id)?.timeout_operation(timeout), manner)
        }))
    }

    /// Submits a create_model; holds no session, since a thread of the session runs it.
    fn model_submission(&self, prepare: Prepare, part: Part, manner: Manner) -> Task {
        let (http, poller) = (Arc::clone(self.session.http()), self.session.poller().clone());
        let group = PollGroup { client: self.session.next_client(), ordered: false };
        Box::new(move || {
            let config = http.config();
            let body = match prepare(&http) {
                Ok(body) => body,
                Err(error) => return part.resolve(Err(error)),
            };
            let operation = part.operation();
            let request = Request { retry: RetryMode::Submit, ..Request::post("create_model", &body) };
            let limits = Limits { deadline: manner.deadline(), ..http.limits(operation, Purpose::Training) };
            let began = config.clock().now();
            let answer = part.begin().and_then(|()| http.send(&request, &limits));
            let promise =
                answer.and_then(|answer| answer.json::<Promise>(operation).map_err(|error| error.with_effect(true)));
            match promise {
                Ok(promise) => poller.ask(Promised {
                    request_id: promise.request_id.into(),
                    kind: RequestKind::CreateModel,
                    round_trip: config.clock().now() - began,
                    group,
                    part,
                    resubmit: None,
                    timeout_progress: None,
                }),
                Err(error) => part.resolve(Err(error)),
            }
        })
    }
}

/// Asks for a training run and writes a create_model like the one that made it. The caller's metadata wins over the run's.
fn from_run(
    operation: &'static str,
    run: &str,
    user_metadata: BTreeMap<String, String>,
    session_id: String,
    models: Arc<AtomicU64>,
    manner: Manner,
) -> Prepare {
    let path = format!("training_runs/{}", encode_segment(run));
    Box::new(move |http| {
        let limits = Limits { deadline: manner.deadline(), ..http.limits(operation, Purpose::Session) };
        let run: TrainingRun = http.send(&Request::get(path), &limits)?.json(operation)?;
        let Some(rank) = run.lora_rank.filter(|_| run.is_lora) else {
            let message = format!("the training run {:?} is not of a LoRA adapter", run.training_run_id);
            return Err(Error::invalid_input(message));
        };
        let mut merged = run.user_metadata.unwrap_or_default();
        merged.extend(user_metadata);
        let options = TrainingOptions { lora: LoraConfig::default().rank(rank), user_metadata: merged };
        // Not before the run is known, so that a failure leaves no hole.
        let number = models.fetch_add(1, Ordering::Relaxed);
        create_model(operation, &session_id, number, &run.base_model, options)
    })
}

fn create_model(
    operation: &'static str,
    session_id: &str,
    model_seq_id: u64,
    base_model: &str,
    options: TrainingOptions,
) -> Result<Vec<u8>> {
    let TrainingOptions { lora, user_metadata } = options;
    let request = CreateModelRequest {
        session_id: session_id.into(),
        model_seq_id,
        base_model: base_model.into(),
        user_metadata: (!user_metadata.is_empty()).then_some(std::borrow::Cow::Owned(user_metadata)),
        lora_config: Some(lora),
    };
    to_json(operation, &request)
}
