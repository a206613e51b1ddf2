//! Training steps, and queueing tasks for the workers of training runs.

use std::sync::Arc;

use super::body;
use super::call::{Call, HandlerResult, ok};
use super::decode::{self, OptimStep};
use crate::local::model::Model;
use crate::local::server::http1::Response;
use crate::local::server::state::{PromiseId, Tables, Task};
use crate::types::wire::{ForwardBackwardRequest, ForwardRequest, Promise};

pub(super) fn forward(call: &Call<'_>) -> HandlerResult {
    let body: ForwardRequest<'_> = body::parse(call.request)?;
    let batch = decode::batch(&*call.base_model(&body.model_id)?, &body.forward_input)?;
    call.submit(&body.model_id, body.seq_id, |_| Ok(Task::Forward(batch)))
}

pub(super) fn forward_backward(call: &Call<'_>) -> HandlerResult {
    let body: ForwardBackwardRequest<'_> = body::parse(call.request)?;
    let batch = decode::batch(&*call.base_model(&body.model_id)?, &body.forward_backward_input)?;
    call.submit(&body.model_id, body.seq_id, |_| Ok(Task::ForwardBackward(batch)))
}

pub(super) fn optim_step(call: &Call<'_>) -> HandlerResult {
    let body: OptimStep = body::parse(call.request)?;
    let options = body.to_options()?;
    call.submit(&body.model_id, body.seq_id, |_| Ok(Task::OptimStep(options)))
}

impl Call<'_> {
    /// The base model of a training run.
    fn base_model(&self, model_id: &str) -> Result<Arc<dyn Model>, Response> {
        Ok(self.state.lock().run(model_id, &self.owner)?.model.clone())
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
        run.queue()?;
        let task = task(&mut tables)?;
        let id = self.state.promises.create(&self.owner);
        let run = tables.run(model_id, &self.owner)?;
        run.requests.record(seq, self.fingerprint, id);
        run.requests.forget_evicted(&self.state.promises);
        // Fails only when the server is stopping: otherwise a worker outlives its queue.
        let _ = run.queue()?.send((id, task));
        ok(&promise(id, model_id))
    }
}

/// A promise of a task of a training run.
pub(super) fn promise(id: PromiseId, model_id: &str) -> Promise {
    Promise { model_id: Some(model_id.to_owned()), ..Promise::new(id.to_string()) }
}
