//! Training steps, and queueing tasks for the workers of training runs.

use std::sync::Arc;

use serde_json::json;

use crate::local::model::{AdapterOptions, Model};
use crate::local::server::api::body;
use crate::local::server::api::call::{Call, HandlerResult, ok};
use crate::local::server::api::decode::{self, OptimStep};
use crate::local::server::compute::adapter_options;
use crate::local::server::http1::Response;
use crate::local::server::state::{PromiseId, Tables, Task, TaskQueue};
use crate::rules::chunking::ChunkLimits;
use crate::rules::wire_format::WireFormat;
use crate::types::wire::{ForwardBackwardInput, ForwardBackwardRequest, ForwardRequest, Promise};
use crate::types::{Datum, LossFn};

/// More requests of a training run do not wait: their memory would grow without end.
const MAX_QUEUED: usize = 10_000;

/// Forward passes in JSON. In protobuf, a field of `forward_backward` requests them.
pub(super) fn forward(call: &Call<'_>) -> HandlerResult {
    if !call.context.wire.takes(WireFormat::Json) {
        return Err(Response::error(404, "Not Found"));
    }
    let body: ForwardRequest<'_> = body::parse(call.request)?;
    call.submit_pass(&body.model_id, body.seq_id, &body.forward_input, true)
}

pub(super) fn forward_backward(call: &Call<'_>) -> HandlerResult {
    let format = call.request.format();
    if !call.context.wire.takes(format) {
        return Err(refused_format(format));
    }
    match format {
        WireFormat::Json => {
            let body: ForwardBackwardRequest<'_> = body::parse(call.request)?;
            call.submit_pass(&body.model_id, body.seq_id, &body.forward_backward_input, false)
        }
        WireFormat::Protobuf => {
            let pass = decode::pass_request(&call.request.body)?;
            let input = ForwardBackwardInput::new(&pass.data, &pass.loss);
            call.check_chunk(&pass.data)?;
            let seq_id = Some(pass.seq_id).filter(|&seq_id| seq_id > 0);
            call.submit_pass(&pass.model_id, seq_id, &input, pass.forward_only)
        }
    }
}

/// How a server that takes one format only refuses the other. One of 2025 does not know protobuf.
fn refused_format(format: WireFormat) -> Response {
    match format {
        WireFormat::Json => Response::error(
            415,
            "this server takes passes in protobuf only: send content-type application/x-protobuf, as clients of 2026 do",
        ),
        WireFormat::Protobuf => body::unprocessable(
            vec![json!("body")],
            "Input should be a valid dictionary or object to extract fields from",
            "model_attributes_type",
        ),
    }
}

/// Custom losses as graphs are not computed here.
pub(super) fn create_custom_loss(_: &Call<'_>) -> HandlerResult {
    Err(no_custom_loss())
}

/// The refusal of what the flag `custom_loss_server_side` asks clients to send.
fn no_custom_loss() -> Response {
    Response::error(
        400,
        "this server runs no custom losses: leave the flag custom_loss_server_side off, so that the client computes the loss \
         itself (forward_backward_custom), or use one of the built-in losses",
    )
}

pub(super) fn optim_step(call: &Call<'_>) -> HandlerResult {
    let body: OptimStep = body::parse(call.request)?;
    let options = body.to_options()?;
    call.submit(&body.model_id, body.seq_id, |_| Ok(Task::OptimStep(options)))
}

impl Call<'_> {
    /// The base model of a training run, and the options of its adapter.
    fn base_model(&self, model_id: &str) -> Result<(Arc<dyn Model>, AdapterOptions), Response> {
        let mut tables = self.state.lock();
        let run = tables.run(model_id, &self.owner)?;
        Ok((run.model.clone(), adapter_options(&run.record.lora)))
    }

    /// Checks the limits of a chunk, which all clients that write protobuf know. Those of 2025 have limits of their own.
    fn check_chunk(&self, data: &[Datum]) -> Result<(), Response> {
        let config = &self.state.flags.client_config;
        let limits = ChunkLimits { datums: config.fwdbwd_max_chunk_len, size: config.fwdbwd_max_chunk_bytes_count };
        if limits.first_chunk(data.iter().map(Datum::heap_bytes)) == data.len() {
            return Ok(());
        }
        let ChunkLimits { datums, size } = limits;
        Err(body::bad_request(format!(
            "the batch has {} datums of {} bytes, more than client/config allows: send chunks of at most {datums} datums and \
             {size} bytes",
            data.len(),
            data.iter().map(Datum::heap_bytes).sum::<usize>(),
        )))
    }

    /// Queues a pass over a batch.
    fn submit_pass(
        &self,
        model_id: &str,
        seq_id: Option<u64>,
        input: &ForwardBackwardInput<'_>,
        forward_only: bool,
    ) -> HandlerResult {
        if input.loss_fn == LossFn::Custom {
            return Err(no_custom_loss());
        }
        let (model, adapter) = self.base_model(model_id)?;
        let batch = decode::batch(&*model, input, forward_only)?;
        decode::check_pass(&*model, &adapter, &batch, !forward_only)?;
        self.submit(model_id, seq_id, |_| {
            let batch = self.state.batches.add(batch)?;
            Ok(if forward_only { Task::Forward(batch) } else { Task::ForwardBackward(batch) })
        })
    }

    /// Queues a task for a run's worker, unless the request is a retry. `task` runs under the lock and only for a new
    /// request, so that whatever it reserves belongs to the queued task.
    pub(super) fn submit(
        &self,
        model_id: &str,
        seq: Option<u64>,
        task: impl FnOnce(&mut Tables) -> Result<Task, Response>,
    ) -> HandlerResult {
        let mut tables = self.state.lock();
        let run = tables.run(model_id, &self.owner)?;
        if let Some(first) = run.requests.find(seq, self.fingerprint)? {
            return ok(&promise(*first, model_id));
        }
        let waiting = run.queue()?.map_or(0, TaskQueue::len);
        if waiting >= MAX_QUEUED {
            let detail = format!("{waiting} requests of {model_id} are waiting, the maximum: try again later");
            return Err(Response::temporary(429, &detail));
        }
        let task = task(&mut tables)?;
        if let Err(refused) = self.wake(&mut tables, model_id) {
            // The client repeats the request, which reserves the path anew.
            if let Task::SaveCheckpoint { path, .. } = &task {
                tables.release_checkpoint(path);
            }
            return Err(refused);
        }
        let run = tables.run(model_id, &self.owner)?;
        let id = self.new_promise(run.record.session_id.as_deref().unwrap_or_default(), model_id, seq);
        run.requests.record(seq, self.fingerprint, id);
        run.requests.forget_evicted(&self.state.promises);
        if let Some(queue) = run.queue()? {
            queue.send(id, task);
        }
        ok(&promise(id, model_id))
    }
}

/// A promise of a task of a training run.
pub(super) fn promise(id: PromiseId, model_id: &str) -> Promise {
    Promise { model_id: Some(model_id.to_owned()), ..Promise::new(id.to_string()) }
}
