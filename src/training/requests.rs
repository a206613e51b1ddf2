//! Turns the calls of a training client into requests, whose bodies are written when their turn comes.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use log::warn;

use super::TrainingClient;
use super::queue::{Body, Job};
use crate::error::{Error, ErrorKind, Result};
use crate::http::to_json;
use crate::pending::{CallHandle, CallMode, Pending, SubmittedCall};
use crate::rules::{chunking, metrics};
use crate::sampling::SamplingClient;
use crate::types::wire::{
    ForwardBackwardInput, ForwardBackwardRequest, ForwardRequest, LoadWeightsRequest, OptimStepRequest,
    SaveWeightsForSamplerRequest, SaveWeightsForSamplerResponse, SaveWeightsRequest, UnloadModelRequest,
};
use crate::types::{
    AdamParams, Batch, Datum, ForwardBackwardOutput, LoadWeightsResponse, Loss, OptimStepResponse, PromiseResult,
    RequestKind, SaveWeightsResponse, UnloadModelResponse, check_tinker_scheme,
};

impl TrainingClient {
    pub(super) fn blocking(&self) -> CallMode {
        CallMode::blocking(self.core.session.config().clock(), self.timeout_operation)
    }

    pub(super) fn submitting(&self) -> CallMode {
        CallMode::submitting(self.timeout_operation)
    }

    /// Queues a pass over a batch, in chunks that are small enough for one request. [`combine`] makes the result from theirs.
    pub(super) fn queue_pass(
        &self,
        operation: &'static str,
        pass: Pass,
        batch: &Batch,
        loss: Loss,
        mode: CallMode,
    ) -> Result<SubmittedCall<ForwardBackwardOutput>> {
        if batch.is_empty() {
            return Err(Error::invalid_input("the batch is empty")
                .with_operation(operation)
                .with_hint("pass at least one datum"));
        }
        batch.validate().and_then(|()| loss.validate()).map_err(|error| error.with_operation(operation))?;
        let loss = Arc::new(loss);
        let bodies = chunking::split(batch.iter().map(Datum::size)).into_iter().map(|chunk| -> Body {
            let (batch, loss, model_id) = (batch.clone(), Arc::clone(&loss), Arc::clone(&self.core.model_id));
            Box::new(move |seq_id| pass.body(&batch, chunk, &loss, &model_id, seq_id))
        });
        let bytes = batch.iter().map(Datum::heap_bytes).sum();
        self.queue(operation, pass.name(), pass.kind(), bodies.collect(), bytes, mode)
    }

    pub(super) fn queue_optim_step(&self, params: AdamParams, mode: CallMode) -> Result<Pending<OptimStepResponse>> {
        let operation = "optim_step";
        params.validate().map_err(|error| error.with_operation(operation))?;
        let model_id = Arc::clone(&self.core.model_id);
        let body: Body = Box::new(move |seq_id| {
            let adam_params = Cow::Borrowed(&params);
            to_json(operation, &OptimStepRequest { adam_params, model_id: (&*model_id).into(), seq_id: Some(seq_id) })
        });
        Ok(self.queue_one(operation, "optim_step", RequestKind::OptimStep, body, mode)?.pending_one())
    }

    pub(super) fn queue_save_state(&self, name: &str, mode: CallMode) -> Result<Pending<SaveWeightsResponse>> {
        let operation = "save_state";
        let (name, model_id) = (checked_name(operation, name)?, Arc::clone(&self.core.model_id));
        let body: Body = Box::new(move |seq_id| {
            let path = Some((&*name).into());
            to_json(operation, &SaveWeightsRequest { model_id: (&*model_id).into(), path, seq_id: Some(seq_id) })
        });
        Ok(self.queue_one(operation, "save_weights", RequestKind::SaveWeights, body, mode)?.pending_one())
    }

    pub(crate) fn queue_load_state(
        &self,
        path: &str,
        optimizer: bool,
        mode: CallMode,
    ) -> Result<Pending<LoadWeightsResponse>> {
        let operation = if optimizer { "load_state_with_optimizer" } else { "load_state" };
        // Servers of the protocol 0.4.1 do not know the field.
        let optimizer = optimizer.then_some(true);
        check_tinker_scheme(path).map_err(|error| error.with_operation(operation))?;
        let (path, model_id) = (path.to_owned(), Arc::clone(&self.core.model_id));
        let body: Body = Box::new(move |seq_id| {
            let (model_id, path) = ((&*model_id).into(), (&*path).into());
            to_json(operation, &LoadWeightsRequest { model_id, path, optimizer, seq_id: Some(seq_id) })
        });
        Ok(self.queue_one(operation, "load_weights", RequestKind::LoadWeights, body, mode)?.pending_one())
    }

    pub(super) fn queue_unload_model(&self, mode: CallMode) -> Result<Pending<UnloadModelResponse>> {
        let operation = "unload_model";
        let model_id = Arc::clone(&self.core.model_id);
        let body: Body = Box::new(move |_| to_json(operation, &UnloadModelRequest { model_id: (&*model_id).into() }));
        Ok(self.queue_one(operation, "unload_model", RequestKind::UnloadModel, body, mode)?.pending_one())
    }

    pub(super) fn queue_save_for_sampler(&self, name: &str, mode: CallMode) -> Result<Pending<SaveWeightsResponse>> {
        let operation = "save_weights_for_sampler";
        let name = checked_name(operation, name)?;
        let call = self.save_for_sampler(operation, Some(name), mode)?;
        Ok(call.pending(move |saved| {
            let path = saved.into_iter().find_map(|saved| saved.path);
            path.map(|path| SaveWeightsResponse { path })
                .ok_or_else(|| Error::new(ErrorKind::Decode, "the service saved the weights but returned no path"))
        }))
    }

    pub(super) fn queue_sampling_client(&self, mode: CallMode) -> Result<Pending<SamplingClient>> {
        let operation = "save_weights_and_get_sampling_client";
        let (session, timeout) = (self.core.session.clone(), self.timeout_operation);
        let call = self.save_for_sampler(operation, None, mode)?;
        Ok(call.pending(move |saved| {
            let saved = saved.into_iter().next();
            let client = match saved.map(|saved| (saved.sampling_session_id, saved.path)) {
                Some((Some(id), _)) => SamplingClient::new(&session, id),
                Some((None, Some(path))) => {
                    SamplingClient::open(operation, &session, None, Some(&path), mode.deadline())?
                }
                _ => {
                    let message = "the service saved the weights but returned neither a sampling session nor a path";
                    return Err(Error::new(ErrorKind::Decode, message));
                }
            };
            Ok(client.with_timeout_operation(timeout))
        }))
    }

    fn save_for_sampler(
        &self,
        operation: &'static str,
        name: Option<String>,
        mode: CallMode,
    ) -> Result<SubmittedCall<SaveWeightsForSamplerResponse>> {
        let model_id = Arc::clone(&self.core.model_id);
        let sampling_sessions = self.core.session.inner().sampling_sessions().clone();
        let body: Body = Box::new(move |seq_id| {
            let sampling_session_seq_id = name.is_none().then(|| sampling_sessions.next());
            let (model_id, path) = ((&*model_id).into(), name.as_deref().map(Into::into));
            let seq_id = Some(seq_id);
            to_json(operation, &SaveWeightsForSamplerRequest { model_id, path, sampling_session_seq_id, seq_id })
        });
        self.queue_one(operation, "save_weights_for_sampler", RequestKind::SaveWeightsForSampler, body, mode)
    }

    fn queue_one<R: PromiseResult>(
        &self,
        operation: &'static str,
        path: &'static str,
        kind: RequestKind,
        body: Body,
        mode: CallMode,
    ) -> Result<SubmittedCall<R>> {
        self.queue(operation, path, kind, vec![body], 0, mode)
    }

    fn queue<R: PromiseResult>(
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

/// The two kinds of pass over a batch.
#[derive(Clone, Copy)]
pub(super) enum Pass {
    Forward,
    ForwardBackward,
}

impl Pass {
    fn name(self) -> &'static str {
        match self {
            Pass::Forward => "forward",
            Pass::ForwardBackward => "forward_backward",
        }
    }

    fn kind(self) -> RequestKind {
        match self {
            Pass::Forward => RequestKind::Forward,
            Pass::ForwardBackward => RequestKind::ForwardBackward,
        }
    }

    fn body(self, batch: &Batch, chunk: Range<usize>, loss: &Loss, model_id: &str, seq_id: u64) -> Result<Vec<u8>> {
        let input = ForwardBackwardInput::new(&batch[chunk], loss);
        let (model_id, seq_id) = (model_id.into(), Some(seq_id));
        match self {
            Pass::Forward => to_json(self.name(), &ForwardRequest { forward_input: input, model_id, seq_id }),
            Pass::ForwardBackward => {
                to_json(self.name(), &ForwardBackwardRequest { forward_backward_input: input, model_id, seq_id })
            }
        }
    }
}

/// The result of a batch from those of its chunks: outputs in order, metrics reduced.
pub(super) fn combine(chunks: Vec<ForwardBackwardOutput>) -> Result<ForwardBackwardOutput> {
    let parts: Vec<_> = chunks.iter().map(|chunk| (&chunk.metrics, chunk.loss_fn_outputs.len())).collect();
    let reduced = metrics::reduce(&parts);
    for metrics::Dropped { name, reason } in reduced.dropped {
        warn!("dropping the metric {name:?}: {reason}");
    }
    let mut combined = ForwardBackwardOutput::default();
    for chunk in chunks {
        combined.loss_fn_output_type = chunk.loss_fn_output_type;
        combined.loss_fn_outputs.extend(chunk.loss_fn_outputs);
    }
    combined.metrics = reduced.metrics;
    Ok(combined)
}

fn checked_name(operation: &'static str, name: &str) -> Result<String> {
    if name.trim().is_empty() {
        return Err(Error::invalid_input("the name of the checkpoint is empty").with_operation(operation));
    }
    Ok(name.to_owned())
}
