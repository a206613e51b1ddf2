//! Joins the results of a batch's chunks.

use log::warn;

use crate::rules::metrics;
use crate::types::ForwardBackwardOutput;

/// The result of a batch from those of its chunks, each with its number of datums: outputs in order, metrics reduced.
pub(super) fn combine(chunks: Vec<(ForwardBackwardOutput, usize)>) -> ForwardBackwardOutput {
    let parts: Vec<_> = chunks.iter().map(|(chunk, datums)| (&chunk.metrics, *datums)).collect();
    let reduced = metrics::reduce(&parts);
    for metrics::Dropped { name, reason } in reduced.dropped {
        warn!("dropping the metric {name:?}: {reason}");
    }
    let mut combined = ForwardBackwardOutput::default();
    for (chunk, _) in chunks {
        combined.loss_fn_output_type = chunk.loss_fn_output_type;
        combined.loss_fn_outputs.extend(chunk.loss_fn_outputs);
    }
    combined.metrics = reduced.metrics;
    combined
}
