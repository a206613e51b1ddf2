//! Creates models, and training clients of them.

use std::borrow::Cow;
use std::sync::Arc;

use super::{ServiceClient, TrainingOptions};
use crate::error::Result;
use crate::http::{Http, Limits, Purpose, Request, RetryMode, to_json};
use crate::pending::{CallHandle, CallMode, Completer, Pending, TrackedPromise, single};
use crate::rules::single_line;
use crate::session::Task;
use crate::training::TrainingClient;
use crate::types::wire::{CreateModelRequest, CreateModelResponse, Promise};
use crate::types::{PromiseResult, RequestKind};

/// Writes the body of a request that creates a model, just before it is sent.
pub(super) type WriteBody = Box<dyn FnOnce(&Http) -> Result<Vec<u8>> + Send>;

/// A request that creates a model.
pub(super) struct Creation {
    pub(super) operation: &'static str,
    /// The path below `/api/v1/`.
    pub(super) path: &'static str,
    pub(super) kind: RequestKind,
    pub(super) write_body: WriteBody,
}

impl ServiceClient {
    pub(super) fn create_lora(
        &self,
        base_model: &str,
        options: TrainingOptions,
        mode: CallMode,
    ) -> Result<Pending<TrainingClient>> {
        let operation = "create_lora_training_client";
        single_line::check_name("the name of the base model", base_model)
            .and_then(|()| options.lora.validate())
            .map_err(|error| error.with_operation(operation))?;
        // Taken in the caller, so that calls made one after the other have ascending numbers, whichever threads send them.
        let model_seq_id = self.session.inner().models().next();
        let body = create_model(operation, self.session_id(), model_seq_id, base_model, options)?;
        self.create(Creation::of_model(operation, Box::new(|_| Ok(body))), mode, |trainer, _| Ok(trainer))
    }

    /// Creates a model with a create_model request. `finish` completes its client, on the thread that waits.
    pub(super) fn create(
        &self,
        creation: Creation,
        mode: CallMode,
        finish: impl FnOnce(TrainingClient, CallMode) -> Result<TrainingClient> + Send + 'static,
    ) -> Result<Pending<TrainingClient>> {
        self.create_by(creation, mode, |created: CreateModelResponse| created.model_id, finish)
    }

    /// Creates a model. `model_id` finds its id in the response.
    pub(super) fn create_by<R: PromiseResult>(
        &self,
        creation: Creation,
        mode: CallMode,
        model_id: impl FnOnce(R) -> String + Send + 'static,
        finish: impl FnOnce(TrainingClient, CallMode) -> Result<TrainingClient> + Send + 'static,
    ) -> Result<Pending<TrainingClient>> {
        let operation = creation.operation;
        let (handle, completer) = CallHandle::<R>::new(operation);
        let submit = self.model_submission(creation, completer, mode);
        if mode.blocks() {
            handle.wait_from_start();
            submit();
        } else {
            self.session.inner().submitters().submit(submit).map_err(|(_, error)| error.with_operation(operation))?;
        }
        let (session, timeout) = (self.session.clone(), self.timeout_operation);
        Ok(self.session.call(operation, handle, mode).pending(move |created| {
            let model_id = model_id(single(created)?.result);
            finish(TrainingClient::new(&session, &model_id)?.with_timeout_operation(timeout), mode)
        }))
    }

    /// Submits a request that creates a model. Holds no session, since a thread of the session runs it.
    fn model_submission(&self, creation: Creation, completer: Completer, mode: CallMode) -> Task {
        let (http, poller) = (Arc::clone(self.session.http()), self.session.poller().clone());
        let client = poller.new_client(false);
        let Creation { path, kind, write_body, .. } = creation;
        Box::new(move || {
            let config = http.config();
            let body = match write_body(&http) {
                Ok(body) => body,
                Err(error) => return completer.complete(Err(error)),
            };
            let operation = completer.operation();
            let request = Request { retry: RetryMode::Submit, ..Request::post(path, &body) };
            let limits = Limits { deadline: mode.deadline(), ..http.limits(operation, Purpose::Training) };
            let submitted_at = config.clock().now();
            let ready = completer.watch_submission(&limits.handle).and_then(|()| completer.begin_write());
            match ready.and_then(|()| http.send_for::<Promise>(&request, &limits)) {
                Ok(promise) => {
                    let id = promise.request_id;
                    poller.track(TrackedPromise::new(id, kind, client, completer, config, submitted_at));
                }
                Err(error) => completer.complete(Err(error)),
            }
        })
    }
}

impl Creation {
    /// A create_model request.
    pub(super) fn of_model(operation: &'static str, write_body: WriteBody) -> Self {
        Creation { operation, path: "create_model", kind: RequestKind::CreateModel, write_body }
    }
}

/// Writes a create_model request.
pub(super) fn create_model(
    operation: &'static str,
    session_id: &str,
    model_seq_id: u64,
    base_model: &str,
    options: TrainingOptions,
) -> Result<Vec<u8>> {
    let TrainingOptions { lora, optimizer_config, user_metadata } = options;
    let request = CreateModelRequest {
        session_id: session_id.into(),
        model_seq_id,
        base_model: base_model.into(),
        user_metadata: (!user_metadata.is_empty()).then_some(Cow::Owned(user_metadata)),
        lora_config: Some(lora),
        optimizer_config: optimizer_config.map(Cow::Owned),
    };
    to_json(operation, &request)
}
