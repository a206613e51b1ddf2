//! Queues the calls of a training client; its steps and the unloading of its model. The bodies are written when their turn comes.

use std::borrow::Cow;
use std::sync::Arc;

use super::TrainingClient;
use super::queue::{Body, Job};
use crate::error::Result;
use crate::http::to_json;
use crate::pending::{CallHandle, CallMode, Pending, SubmittedCall};
use crate::types::wire::{OptimStepRequest, UnloadModelRequest};
use crate::types::{OptimParams, OptimStepResponse, PromiseResult, RequestKind, UnloadModelResponse};

impl TrainingClient {
    pub(super) fn blocking(&self) -> CallMode {
        CallMode::blocking(self.core.session.config().clock(), self.timeout_operation)
    }

    pub(super) fn submitting(&self) -> CallMode {
        CallMode::submitting(self.timeout_operation)
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
        self.queue(operation, path, kind, vec![body], 0, mode)
    }

    pub(super) fn queue<R: PromiseResult>(
        &self,
        operation: &'static str,
        path: &'static str,
        kind: RequestKind,
        bodies: Vec<Body>,
        bytes: usize,
        mode: CallMode,
    ) -> Result<SubmittedCall<R>> {
        let (handle, completers) = CallHandle::<R>::new(operation, bodies.len());
        let requests = bodies.into_iter().zip(completers).collect();
        let job = Job { path, kind, deadline: mode.deadline(), requests, bytes };
        self.core.queue.submit(job, mode.on_full()).map_err(|error| error.with_operation(operation))?;
        let (poller, keep_alive) = (self.core.session.poller().clone(), Arc::clone(&self.core) as Arc<_>);
        Ok(SubmittedCall { handle, operation, mode, poller, keep_alive })
    }
}
