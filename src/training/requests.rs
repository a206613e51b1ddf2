//! What the calls of a training client become: requests with bodies that are written when their turn comes.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::de::DeserializeOwned;

use super::TrainingClient;
use super::queue::{Body, Head, Job};
use crate::error::{Error, ErrorKind, Result};
use crate::http::to_json;
use crate::pending::{Manner, Outcome, Part, Pending, Slots};
use crate::rules::{chunking, metrics};
use crate::sampling::SamplingClient;
use crate::types::wire::{
    ForwardBackwardInput, ForwardBackwardRequest, ForwardRequest, LoadWeightsRequest, OptimStepRequest,
    SaveWeightsForSamplerRequest, SaveWeightsForSamplerResponse, SaveWeightsRequest, UnloadModelRequest,
};
use crate::types::{
    AdamParams, Batch, Datum, ForwardBackwardOutput, LoadWeightsResponse, Loss, OptimStepResponse, RequestKind,
    SaveWeightsResponse, UnloadModelResponse, check_tinker_scheme,
};

/// One call, as the queue takes it.
struct Request {
    operation: &'static str,
    path: &'static str,
    kind: RequestKind,
    bodies: Vec<Body>,
    /// An estimate of the bytes that wait in the queue.
    bytes: usize,
}

impl Request {
    fn one(operation: &'static str, path: &'static str, kind: RequestKind, body: Body) -> Self {
        Request { operation, path, kind, bodies: vec![body], bytes: 0 }
    }
}

impl TrainingClient {
    pub(super) fn blocking(&self) -> Manner {
        Manner::blocking(self.core.session.config().clock(), self.timeout_operation)
    }

    pub(super) fn submitting(&self) -> Manner {
        Manner::submitting(self.timeout_operation)
    }

    pub(super) fn pass(
        &self,
        pass: Pass,
        batch: &Batch,
        loss: Loss,
        manner: Manner,
    ) -> Result<Pending<ForwardBackwardOutput>> {
        self.pass_as(pass.name(), pass, batch, loss, manner, |_| ())
    }

    /// A pass on behalf of another operation, which has the last word on the result.
    pub(super) fn pass_as(
        &self,
        operation: &'static str,
        pass: Pass,
        batch: &Batch,
        loss: Loss,
        manner: Manner,
        finish: impl FnOnce(&mut ForwardBackwardOutput) + Send + 'static,
    ) -> Result<Pending<ForwardBackwardOutput>> {
        if batch.is_empty() {
            return Err(Error::invalid_input("the batch is empty")
                .with_operation(operation)
                .with_hint("pass at least one datum"));
        }
        batch.validate().and_then(|()| loss.validate()).map_err(|error| error.with_operation(operation))?;
        let loss = Arc::new(loss);
        let bodies = chunking::split(batch.iter().map(Datum::size)).into_iter().map(|range| -> Body {
            let (batch, loss, model_id) = (batch.clone(), Arc::clone(&loss), Arc::clone(&self.core.model_id));
            Box::new(move |seq_id| {
                let input = ForwardBackwardInput::new(&batch[range], &loss);
                pass.body(input, &model_id, seq_id)
            })
        });
        let request = Request {
            operation,
            path: pass.name(),
            kind: pass.kind(),
            bodies: bodies.collect(),
            bytes: batch.iter().map(Datum::heap_bytes).sum(),
        };
        Ok(self.enqueue(request, manner)?.pending(|chunks| {
            let mut output = combine(chunks);
            finish(&mut output);
            Ok(output)
        }))
    }

    pub(super) fn optim_step_in(&self, params: AdamParams, manner: Manner) -> Result<Pending<OptimStepResponse>> {
        let operation = "optim_step";
        params.validate().map_err(|error| error.with_operation(operation))?;
        let model_id = Arc::clone(&self.core.model_id);
        let body: Body = Box::new(move |seq_id| {
            let adam_params = Cow::Borrowed(&params);
            to_json(operation, &OptimStepRequest { adam_params, model_id: (&*model_id).into(), seq_id: Some(seq_id) })
        });
        let request = Request::one(operation, "optim_step", RequestKind::OptimStep, body);
        Ok(self.enqueue(request, manner)?.pending_one())
    }

    pub(super) fn save_state_in(&self, name: &str, manner: Manner) -> Result<Pending<SaveWeightsResponse>> {
        let operation = "save_state";
        let (name, model_id) = (checked_name(operation, name)?, Arc::clone(&self.core.model_id));
        let body: Body = Box::new(move |seq_id| {
            let path = Some((&*name).into());
            to_json(operation, &SaveWeightsRequest { model_id: (&*model_id).into(), path, seq_id: Some(seq_id) })
        });
        let request = Request::one(operation, "save_weights", RequestKind::SaveWeights, body);
        Ok(self.enqueue(request, manner)?.pending_one())
    }

    pub(crate) fn load_state_in(
        &self,
        path: &str,
        optimizer: bool,
        manner: Manner,
    ) -> Result<Pending<LoadWeightsResponse>> {
        let operation = if optimizer { "load_state_with_optimizer" } else { "load_state" };
        // Servers of 0.4.1 do not know the field.
        let optimizer = optimizer.then_some(true);
        check_tinker_scheme(path).map_err(|error| error.with_operation(operation))?;
        let (path, model_id) = (path.to_owned(), Arc::clone(&self.core.model_id));
        let body: Body = Box::new(move |seq_id| {
            let (model_id, path) = ((&*model_id).into(), (&*path).into());
            to_json(operation, &LoadWeightsRequest { model_id, path, optimizer, seq_id: Some(seq_id) })
        });
        let request = Request::one(operation, "load_weights", RequestKind::LoadWeights, body);
        Ok(self.enqueue(request, manner)?.pending_one())
    }

    pub(super) fn unload_model_in(&self, manner: Manner) -> Result<Pending<UnloadModelResponse>> {
        let operation = "unload_model";
        let model_id = Arc::clone(&self.core.model_id);
        let body: Body = Box::new(move |_| to_json(operation, &UnloadModelRequest { model_id: (&*model_id).into() }));
        let request = Request::one(operation, "unload_model", RequestKind::UnloadModel, body);
        Ok(self.enqueue(request, manner)?.pending_one())
    }

    pub(super) fn save_for_sampler_in(&self, name: &str, manner: Manner) -> Result<Pending<SaveWeightsResponse>> {
        let operation = "save_weights_for_sampler";
        let name = checked_name(operation, name)?;
        let outcome = self.save_for_sampler(operation, Some(name), manner)?;
        Ok(outcome.pending(move |saved| {
            let path = saved.into_iter().find_map(|saved| saved.path);
            path.map(|path| SaveWeightsResponse { path })
                .ok_or_else(|| Error::new(ErrorKind::Decode, "the service saved the weights and did not say where"))
        }))
    }

    pub(super) fn sampling_client_in(&self, manner: Manner) -> Result<Pending<SamplingClient>> {
        let operation = "save_weights_and_get_sampling_client";
        let session = Arc::clone(&self.core.session);
        let timeout = self.timeout_operation;
        let outcome = self.save_for_sampler(operation, None, manner)?;
        Ok(outcome.pending(move |saved| {
            let saved = saved.into_iter().next();
            let client = match saved.map(|saved| (saved.sampling_session_id, saved.path)) {
                Some((Some(id), _)) => SamplingClient::new(&session, id),
                Some((None, Some(path))) => {
                    SamplingClient::open(operation, &session, None, Some(&path), manner.deadline())?
                }
                _ => {
                    let message = "the service saved the weights and named neither a sampling session nor a path";
                    return Err(Error::new(ErrorKind::Decode, message));
                }
            };
            Ok(client.timeout_operation(timeout))
        }))
    }

    fn save_for_sampler(
        &self,
        operation: &'static str,
        name: Option<String>,
        manner: Manner,
    ) -> Result<Outcome<SaveWeightsForSamplerResponse>> {
        let (model_id, counter) = (Arc::clone(&self.core.model_id), Arc::clone(self.core.session.sampling_sessions()));
        let body: Body = Box::new(move |seq_id| {
            let sampling_session_seq_id = name.is_none().then(|| counter.fetch_add(1, Ordering::Relaxed));
            let (model_id, path) = ((&*model_id).into(), name.as_deref().map(Into::into));
            let seq_id = Some(seq_id);
            to_json(operation, &SaveWeightsForSamplerRequest { model_id, path, sampling_session_seq_id, seq_id })
        });
        let kind = RequestKind::SaveWeightsForSampler;
        self.enqueue(Request::one(operation, "save_weights_for_sampler", kind, body), manner)
    }

    fn enqueue<R: DeserializeOwned + Send + 'static>(&self, request: Request, manner: Manner) -> Result<Outcome<R>> {
        let Request { operation, path, kind, bodies, bytes } = request;
        let (slots, parts) = Slots::<R>::new(operation, bodies.len());
        let requests: Vec<(Body, Part)> = bodies.into_iter().zip(parts).collect();
        let numbered = kind != RequestKind::UnloadModel;
        let job = Job { head: Head { path, kind, numbered, deadline: manner.deadline() }, requests, bytes };
        self.core.queue.submit(job, manner.room()).map_err(|error| error.with_operation(operation))?;
        let clock = self.core.session.config().clock().clone();
        let alive = Arc::clone(&self.core) as Arc<_>;
        Ok(Outcome { slots, operation, clock, manner, alive })
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

    fn body(self, input: ForwardBackwardInput<'_>, model_id: &str, seq_id: u64) -> Result<Vec<u8>> {
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
fn combine(chunks: Vec<ForwardBackwardOutput>) -> ForwardBackwardOutput {
    let parts: Vec<_> = chunks.iter().map(|chunk| (&chunk.metrics, chunk.loss_fn_outputs.len())).collect();
    let reduced = metrics::reduce(&parts);
    for metrics::Dropped { name, reason } in &reduced.dropped {
        log::warn!("the metric {name:?} is left out: {reason}");
    }
    let mut combined = ForwardBackwardOutput::default();
    for chunk in chunks {
        combined.loss_fn_output_type = chunk.loss_fn_output_type;
        combined.loss_fn_outputs.extend(chunk.loss_fn_outputs);
    }
    combined.metrics = reduced.metrics;
    combined
}

fn checked_name(operation: &'static str, name: &str) -> Result<String> {
    if name.trim().is_empty() {
        return Err(Error::invalid_input("the name of the checkpoint is empty").with_operation(operation));
    }
    Ok(name.to_owned())
}
