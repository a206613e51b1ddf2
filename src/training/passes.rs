//! Turns passes over a batch into requests of limited size, and combines their results.

use std::ops::Range;
use std::sync::Arc;

use log::warn;

use super::TrainingClient;
use super::queue::Body;
use crate::error::{Error, Result};
use crate::http::to_json;
use crate::pending::{CallMode, SubmittedCall};
use crate::rules::{chunking, metrics};
use crate::types::wire::{ForwardBackwardInput, ForwardBackwardRequest, ForwardRequest};
use crate::types::{Batch, Datum, ForwardBackwardOutput, Loss, RequestKind};

impl TrainingClient {
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
