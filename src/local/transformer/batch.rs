//! A batch on several threads, with the same result on any number of them.
//!
//! Sums of floating-point numbers depend on their order, so the order must not depend on which thread is done first.
//! The batch is cut into packs by the sizes of its examples alone; pack i goes to lane i mod [`LANES`], whose packs
//! are summed in order; threads take whole lanes; at the end the lanes are summed in order.

use std::{
    iter::from_fn,
    mem::take,
    ops::RangeInclusive,
    panic::resume_unwind,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use ndarray::{ArrayViewMut1, NdFloat};

use super::{
    network::{Network, Projections},
    ops::log_softmax,
};
use crate::local::model::Example;

/// As many threads are of use. Each lane keeps a gradient as large as the model.
const LANES: usize = 8;

/// The least and the most tokens of a pack, single examples aside: matrix products are slow on few rows, memory grows
/// with many.
const PACK_TOKENS: RangeInclusive<usize> = 64..=1024;

/// The log-probabilities of each example's targets, and the derivatives of the batch's loss with respect to the
/// projections if those were asked for.
pub(super) type Outcome<T> = (Vec<Vec<T>>, Option<Projections<T>>);

/// Some consecutive examples, with their places in the batch.
type Pack<'a> = Vec<(usize, &'a Example)>;

/// What a lane has gathered: log-probabilities with their example's place in the batch, and derivatives.
struct Lane<T> {
    logprobs: Vec<(usize, Vec<T>)>,
    slopes: Option<Projections<T>>,
}

/// Runs a batch on at most that many threads, the caller's included.
pub(super) fn run<T: NdFloat>(
    network: Network<'_, T>,
    batch: &[Example],
    with_slopes: bool,
    threads: usize,
) -> Outcome<T> {
    let packs = packs(batch);
    let lanes = in_parallel(LANES.min(packs.len()), threads, |lane| {
        let mut sum = Lane { logprobs: Vec::new(), slopes: with_slopes.then(|| network.projections.zeros_like()) };
        for pack in packs.iter().skip(lane).step_by(LANES) {
            run_pack(network, pack, &mut sum);
        }
        sum
    });

    let mut logprobs = vec![Vec::new(); batch.len()];
    let mut slopes = with_slopes.then(|| network.projections.zeros_like());
    for lane in lanes {
        for (at, found) in lane.logprobs {
            logprobs[at] = found;
        }
        if let (Some(sum), Some(slopes)) = (&mut slopes, &lane.slopes) {
            sum.placed_mut().zip(slopes.placed()).for_each(|((_, sum), (_, slope))| *sum += slope);
        }
    }
    (logprobs, slopes)
}

/// Cuts a batch into about one pack per lane. Examples without tokens have nothing to run.
fn packs(batch: &[Example]) -> Vec<Pack<'_>> {
    let total: usize = batch.iter().map(|example| example.tokens.len()).sum();
    let enough = total.div_ceil(LANES).clamp(*PACK_TOKENS.start(), *PACK_TOKENS.end());
    let mut packs = Vec::new();
    let mut pack = Pack::new();
    let mut tokens = 0;
    for (at, example) in batch.iter().enumerate().filter(|(_, example)| !example.tokens.is_empty()) {
        pack.push((at, example));
        tokens += example.tokens.len();
        if tokens >= enough {
            packs.push(take(&mut pack));
            tokens = 0;
        }
    }
    if !pack.is_empty() {
        packs.push(pack);
    }
    packs
}

fn run_pack<T: NdFloat>(network: Network<'_, T>, pack: &Pack<'_>, sum: &mut Lane<T>) {
    let sequences: Vec<&[u32]> = pack.iter().map(|(_, example)| example.tokens.as_slice()).collect();
    let (mut logprobs, pass) = network.forward(&sequences);
    logprobs.rows_mut().into_iter().for_each(log_softmax);

    let mut rows = logprobs.rows_mut().into_iter();
    for &(place, example) in pack {
        let rows: Vec<_> = rows.by_ref().take(example.tokens.len()).collect();
        let targets: Vec<_> = example.targets.iter().map(|&target| network.sizes.known(target)).collect();
        let chosen: Vec<T> = rows.iter().zip(&targets).map(|(row, &target)| row[target]).collect();
        if sum.slopes.is_some() {
            into_score_slopes(rows, &targets, &example.loss.slopes(&chosen));
        }
        sum.logprobs.push((place, chosen));
    }
    if let Some(slopes) = &mut sum.slopes {
        let dscores = logprobs;
        network.backward(&dscores, &pass, slopes);
    }
}

/// Replaces an example's log-probabilities by the derivatives of its loss with respect to the scores: the derivative of
/// a target's log-probability is one at the target, less the probabilities.
fn into_score_slopes<T: NdFloat>(rows: Vec<ArrayViewMut1<'_, T>>, targets: &[usize], slopes: &[T]) {
    for (at, mut row) in rows.into_iter().enumerate() {
        let slope = slopes.get(at).copied().unwrap_or_else(T::zero);
        row.mapv_inplace(|logprob| -slope * logprob.exp());
        if let Some(&target) = targets.get(at) {
            row[target] += slope;
        }
    }
}

/// Runs `job` for 0, 1, … `jobs` − 1 on this thread and others; the results come in that order.
fn in_parallel<R: Send>(jobs: usize, threads: usize, job: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let work = || {
        let claim = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&index| index < jobs);
        from_fn(claim).map(|index| (index, job(index))).collect::<Vec<_>>()
    };
    let mut results = thread::scope(|scope| {
        // A thread that can't be started is one helper less.
        let start = |_| thread::Builder::new().name("tinkex-model".to_owned()).spawn_scoped(scope, work).ok();
        let helpers: Vec<_> = (1..threads.min(jobs)).filter_map(start).collect();
        let mut results = work();
        for helper in helpers {
            results.extend(helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        results
    });
    results.sort_by_key(|&(index, _)| index);
    results.into_iter().map(|(_, result)| result).collect()
}
