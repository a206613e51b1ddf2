//! Queues the calls of a training client; its steps and the unloading of its model. The bodies are written when their turn comes.

use std::borrow::Cow;
use std::sync::Arc;

use super::TrainingClient;
use super::queue::{Job, Message, Requests};
use crate::error::Result;
use crate::http::{Http, to_json};
use crate::pending::{CallHandle, CallMode, Pending, SubmittedCall};
use crate::rules::wire_format::Choice;
use crate::types::wire::{OptimStepRequest, UnloadModelRequest};
use crate::types::{OptimParams, OptimStepResponse, PromiseResult, RequestKind, UnloadModelResponse};

/// Writes the body of a request with this sequence number. The numbers differ if it is called again.
pub(super) type Body = Box<dyn FnMut(u64) -> Result<Vec<u8>> + Send>;

/// A call of one request, which is JSON.
struct SingleRequest {
    path: &'static str,
    body: Body,
}

impl Requests for SingleRequest {
    fn write(&mut self, _: &Http, _: Choice, seq_id: u64, _: &mut Vec<u8>) -> Result<Message> {
        (self.body)(seq_id).map(|body| Message::json(self.path, body))
    }
}

impl TrainingClient {
    pub(super) fn blocking(&self) -> CallMode {
        CallMode::blocking(self.core.session.config().clock(), self.timeout_operation)
    }

    pub(super) fn submitting(&self) -> CallMode {
        match self.waiting_submits {
            true => CallMode::submitting_with_room(self.core.session.config().clock(), self.timeout_operation),
            false => CallMode::submitting(self.timeout_operation),
        }
    }

    pub(super) fn queue_optim_step(&self, params: OptimParams, mode: CallMode) -> Result<Pending<OptimStepResponse>> {
        let operation = "optim_step";
        params.validate().map_err(|error| error.with_operation(operation))?;
        let model_id = Arc::clone(&self.core.model_id);
        let body: Body = Box::new(move |seq_id| {
            let (adam_params, optimizer_params) = match &params {
                OptimParams::Adam(params) => (Some(Cow::Borrowed(params)), None),
                OptimParams::Dimuon(params) => (None, Some(Cow::Borrowed(params))),
            };
            let model_id = (&*model_id).into();
            to_json(operation, &OptimStepRequest { adam_params, optimizer_params, model_id, seq_id: Some(seq_id) })
        });
        Ok(self.queue_one(operation, "optim_step", RequestKind::OptimStep, body, mode)?.pending_one())
    }

    pub(super) fn queue_unload_model(&self, mode: CallMode) -> Result<Pending<UnloadModelResponse>> {
        let operation = "unload_model";
        let model_id = Arc::clone(&self.core.model_id);
        let body: Body = Box::new(move |_| to_json(operation, &UnloadModelRequest { model_id: (&*model_id).into() }));
        Ok(self.queue_one(operation, "unload_model", RequestKind::UnloadModel, body, mode)?.pending_one())
    }

    pub(super) fn queue_one<R: PromiseResult>(
        &self,
        operation: &'static str,
        path: &'static str,
        kind: RequestKind,
        body: Body,
        mode: CallMode,
    ) -> Result<SubmittedCall<R>> {
        self.queue(operation, kind, Box::new(SingleRequest { path, body }), 0, mode)
    }

    pub(super) fn queue<R: PromiseResult>(
        &self,
        operation: &'static str,
        kind: RequestKind,
        requests: Box<dyn Requests>,
        bytes: usize,
        mode: CallMode,
    ) -> Result<SubmittedCall<R>> {
        let (handle, completer) = CallHandle::<R>::new(operation);
        let job = Job { kind, deadline: mode.deadline(), requests, completer, bytes };
        self.core.queue.submit(job, mode.on_full()).map_err(|error| error.with_operation(operation))?;
        let (poller, keep_alive) = (self.core.session.poller().clone(), Arc::clone(&self.core) as Arc<_>);
        Ok(SubmittedCall { handle, operation, mode, poller, keep_alive })
    }
}
