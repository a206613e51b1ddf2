//! Creates training clients, on a base model or from a saved state.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ServiceClient, TrainingOptions};
use crate::error::{Error, Result};
use crate::http::{Http, Limits, Purpose, Request, RetryMode, encode_segment, to_json};
use crate::pending::{CallHandle, CallMode, Completer, Pending, TrackedPromise, single};
use crate::session::{Sequence, Task};
use crate::training::TrainingClient;
use crate::types::wire::{CreateModelRequest, CreateModelResponse, Promise};
use crate::types::{CheckpointPath, LoraConfig, RequestKind, TrainingRun};

/// Writes the body of a create_model request, just before it is sent.
type WriteBody = Box<dyn FnOnce(&Http) -> Result<Vec<u8>> + Send>;

impl ServiceClient {
    pub(super) fn create_lora(
        &self,
        base_model: &str,
        options: TrainingOptions,
        mode: CallMode,
    ) -> Result<Pending<TrainingClient>> {
        let operation = "create_lora_training_client";
        if base_model.trim().is_empty() {
            return Err(Error::invalid_input("the name of the base model is empty").with_operation(operation));
        }
        options.lora.validate().map_err(|error| error.with_operation(operation))?;
        // Taken in the caller, so that calls made one after the other have ascending numbers, whichever threads send them.
        let model_seq_id = self.session.inner().models().next();
        let body = create_model(operation, self.session_id(), model_seq_id, base_model, options)?;
        self.create(operation, Box::new(|_| Ok(body)), mode, |trainer, _| Ok(trainer))
    }

    pub(super) fn create_from_state(
        &self,
        path: &str,
        user_metadata: BTreeMap<String, String>,
        optimizer: bool,
        mode: CallMode,
    ) -> Result<Pending<TrainingClient>> {
        let operation = match optimizer {
            true => "create_training_client_from_state_with_optimizer",
            false => "create_training_client_from_state",
        };
        let path = CheckpointPath::for_url(path).map_err(|error| error.with_operation(operation))?;
        let write_body = from_run(
            operation,
            path.training_run_id(),
            user_metadata,
            self.session_id().to_owned(),
            self.session.inner().models().clone(),
            mode,
        );
        self.create(operation, write_body, mode, move |trainer, mode| {
            trainer.queue_load_state(path.as_str(), optimizer, mode)?.wait().map(|_| trainer)
        })
    }

    /// Creates a model. `finish` completes its client, on the thread that waits.
    fn create(
        &self,
        operation: &'static str,
        write_body: WriteBody,
        mode: CallMode,
        finish: impl FnOnce(TrainingClient, CallMode) -> Result<TrainingClient> + Send + 'static,
    ) -> Result<Pending<TrainingClient>> {
        let (handle, mut completers) = CallHandle::<CreateModelResponse>::new(operation, 1);
        if let Some(completer) = completers.pop() {
            let submit = self.model_submission(write_body, completer, mode);
            if mode.blocks() {
                handle.wait_from_start();
                submit();
            } else {
                self.session
                    .inner()
                    .submitters()
                    .submit(submit)
                    .map_err(|(_, error)| error.with_operation(operation))?;
            }
        }
        let (session, timeout) = (self.session.clone(), self.timeout_operation);
        Ok(self.session.call(operation, handle, mode).pending(move |created| {
            let created = single(created)?;
            finish(TrainingClient::new(&session, &created.model_id)?.with_timeout_operation(timeout), mode)
        }))
    }

    /// Submits a create_model request. Holds no session, since a thread of the session runs it.
    fn model_submission(&self, write_body: WriteBody, completer: Completer, mode: CallMode) -> Task {
        let (http, poller) = (Arc::clone(self.session.http()), self.session.poller().clone());
        let client = poller.new_client(false);
        Box::new(move || {
            let config = http.config();
            let body = match write_body(&http) {
                Ok(body) => body,
                Err(error) => return completer.complete(Err(error)),
            };
            let operation = completer.operation();
            let request = Request { retry: RetryMode::Submit, ..Request::post("create_model", &body) };
            let limits = Limits { deadline: mode.deadline(), ..http.limits(operation, Purpose::Training) };
            let submitted_at = config.clock().now();
            let response = completer.begin_write().and_then(|()| http.send(&request, &limits));
            let promise = response
                .and_then(|response| response.json::<Promise>(operation).map_err(|error| error.with_effect(true)));
            match promise {
                Ok(promise) => {
                    let (id, kind) = (promise.request_id, RequestKind::CreateModel);
                    poller.track(TrackedPromise::new(id, kind, client, completer, config, submitted_at));
                }
                Err(error) => completer.complete(Err(error)),
            }
        })
    }
}

/// Gets a training run and writes a create_model request like the one that made it. Entries of the caller's metadata replace
/// those of the run.
fn from_run(
    operation: &'static str,
    run: &str,
    user_metadata: BTreeMap<String, String>,
    session_id: String,
    models: Sequence,
    mode: CallMode,
) -> WriteBody {
    let path = format!("training_runs/{}", encode_segment(run));
    Box::new(move |http| {
        let limits = Limits { deadline: mode.deadline(), ..http.limits(operation, Purpose::Session) };
        let run: TrainingRun = http.send(&Request::get(path), &limits)?.json(operation)?;
        let Some(rank) = run.lora_rank.filter(|_| run.is_lora) else {
            let message = format!("the training run {:?} did not train a LoRA adapter", run.training_run_id);
            return Err(Error::invalid_input(message));
        };
        let mut merged = run.user_metadata.unwrap_or_default();
        merged.extend(user_metadata);
        let options = TrainingOptions { lora: LoraConfig::default().rank(rank), user_metadata: merged };
        // Only once the run is known, so that a failure leaves no gap.
        let model_seq_id = models.next();
        create_model(operation, &session_id, model_seq_id, &run.base_model, options)
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
