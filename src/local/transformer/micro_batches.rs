//! Data-parallel training: a batch on several threads, with a result that does not depend on their number.
//!
//! Floating-point sums depend on the order of their terms, so the order must not depend on which thread finishes first. The
//! batch is split into micro-batches by the lengths of its examples alone. Micro-batch i belongs to accumulator
//! i mod [`MAX_ACCUMULATORS`], which sums its micro-batches in order; each accumulator is the work of one thread; at the end
//! the accumulators are summed in order.

use std::{
    iter::from_fn,
    mem::take,
    ops::RangeInclusive,
    panic::resume_unwind,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use ndarray::{ArrayViewMut1, NdFloat};

use super::network::{Network, Projections};
use super::ops::log_softmax;
use crate::local::model::Example;

/// Also the maximum number of threads that help. Not more, because each accumulator holds a gradient as large as the model.
const MAX_ACCUMULATORS: usize = 8;

/// Minimum and maximum number of tokens of a micro-batch of more than one example: matrix products are slow with few rows,
/// and memory grows with many.
const MICRO_BATCH_TOKENS: RangeInclusive<usize> = 64..=1024;

/// The log-probabilities of each example's targets, and the gradient of the batch's loss with respect to the projections if
/// it was requested.
pub(super) type BatchOutput<T> = (Vec<Vec<T>>, Option<Projections<T>>);

/// Consecutive examples, with their indices in the batch.
type MicroBatch<'a> = Vec<(usize, &'a Example)>;

/// The results of the micro-batches that one thread has run.
struct Accumulator<T> {
    /// With the index of the example in the batch.
    logprobs: Vec<(usize, Vec<T>)>,
    gradient: Option<Projections<T>>,
}

/// Runs a batch on up to `max_threads` threads, including the caller's.
pub(super) fn run_batch<T: NdFloat>(
    network: Network<'_, T>,
    batch: &[Example],
    with_gradient: bool,
    max_threads: usize,
) -> BatchOutput<T> {
    let micro_batches = split(batch);
    let zeros = || with_gradient.then(|| network.projections.zeros_like());
    let accumulators = parallel_map(MAX_ACCUMULATORS.min(micro_batches.len()), max_threads, |index| {
        let mut accumulator = Accumulator { logprobs: Vec::new(), gradient: zeros() };
        for micro_batch in micro_batches.iter().skip(index).step_by(MAX_ACCUMULATORS) {
            run_micro_batch(network, micro_batch, &mut accumulator);
        }
        accumulator
    });

    let mut logprobs = vec![Vec::new(); batch.len()];
    let mut gradient = zeros();
    for accumulator in accumulators {
        for (index, values) in accumulator.logprobs {
            logprobs[index] = values;
        }
        if let (Some(sum), Some(addend)) = (&mut gradient, &accumulator.gradient) {
            sum.modules_mut().zip(addend.modules()).for_each(|((_, sum), (_, addend))| *sum += addend);
        }
    }
    (logprobs, gradient)
}

/// Splits a batch into about one micro-batch per accumulator. Examples without tokens are left out.
fn split(batch: &[Example]) -> Vec<MicroBatch<'_>> {
    let total: usize = batch.iter().map(|example| example.tokens.len()).sum();
    let target = total.div_ceil(MAX_ACCUMULATORS).clamp(*MICRO_BATCH_TOKENS.start(), *MICRO_BATCH_TOKENS.end());
    let mut micro_batches = Vec::new();
    let mut micro_batch = MicroBatch::new();
    let mut tokens = 0;
    for (index, example) in batch.iter().enumerate().filter(|(_, example)| !example.tokens.is_empty()) {
        micro_batch.push((index, example));
        tokens += example.tokens.len();
        if tokens >= target {
            micro_batches.push(take(&mut micro_batch));
            tokens = 0;
        }
    }
    if !micro_batch.is_empty() {
        micro_batches.push(micro_batch);
    }
    micro_batches
}

fn run_micro_batch<T: NdFloat>(
    network: Network<'_, T>,
    micro_batch: &MicroBatch<'_>,
    accumulator: &mut Accumulator<T>,
) {
    let sequences: Vec<&[u32]> = micro_batch.iter().map(|(_, example)| example.tokens.as_slice()).collect();
    let (mut logits, pass) = network.forward(&sequences);
    logits.rows_mut().into_iter().for_each(log_softmax);
    // The rows are overwritten twice instead of copied: they are the largest arrays of a forward pass.
    let mut logprobs = logits;

    let mut rows = logprobs.rows_mut().into_iter();
    for &(index, example) in micro_batch {
        let mut rows: Vec<_> = rows.by_ref().take(example.tokens.len()).collect();
        let predictions = example.predictions().map(|(row, target)| (row, network.config.clamp_token(target)));
        let predictions: Vec<_> = predictions.collect();
        let target_logprobs: Vec<T> = predictions.iter().map(|&(row, target)| rows[row][target]).collect();
        if accumulator.gradient.is_some() {
            logprobs_to_dlogits(&mut rows, &predictions, &example.objective.gradient(&target_logprobs));
        }
        accumulator.logprobs.push((index, target_logprobs));
    }
    if let Some(gradient) = &mut accumulator.gradient {
        let dlogits = logprobs;
        network.backward(&dlogits, &pass, gradient);
    }
}

/// Replaces an example's log-probabilities by the gradient of its loss with respect to the logits. The gradient of a
/// target's log-probability is one at the target, minus the probabilities.
fn logprobs_to_dlogits<T: NdFloat>(rows: &mut [ArrayViewMut1<'_, T>], predictions: &[(usize, usize)], dlogprobs: &[T]) {
    let mut sums = vec![T::zero(); rows.len()];
    for (&(row, _), &dlogprob) in predictions.iter().zip(dlogprobs) {
        sums[row] += dlogprob;
    }
    for (row, sum) in rows.iter_mut().zip(sums) {
        row.mapv_inplace(|logprob| -sum * logprob.exp());
    }
    for (&(row, target), &dlogprob) in predictions.iter().zip(dlogprobs) {
        rows[row][target] += dlogprob;
    }
}

/// Calls `job` with 0, 1, … `jobs` − 1 on this thread and others; returns the results in that order.
fn parallel_map<R: Send>(jobs: usize, max_threads: usize, job: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let work = || {
        let claim = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&index| index < jobs);
        from_fn(claim).map(|index| (index, job(index))).collect::<Vec<_>>()
    };
    let mut results = thread::scope(|scope| {
        // If a thread cannot be started, the others do its work.
        let start = |_| thread::Builder::new().name("tinkex-model".to_owned()).spawn_scoped(scope, work).ok();
        let helpers: Vec<_> = (1..max_threads.min(jobs)).filter_map(start).collect();
        let mut results = work();
        for helper in helpers {
            results.extend(helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        results
    });
    results.sort_by_key(|&(index, _)| index);
    results.into_iter().map(|(_, result)| result).collect()
}
