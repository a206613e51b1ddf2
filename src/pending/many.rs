//! Waiting for many results at once.

use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::Pending;
use crate::clock::Received;
use crate::error::Result;

/// Waits for all results and returns them in the order of the calls. All count as waited for meanwhile, so each is asked for
/// before what nobody waits for.
///
/// The first error ends the wait, whichever call it belongs to; the other results are given up, as by dropping their
/// [`Pending`]. To have every result and every error, call [`Pending::wait`] on each.
///
/// # Errors
///
/// As [`Pending::wait`]. Each call's
/// [`timeout_operation`](crate::ConfigBuilder::timeout_operation) counts from this call on.
///
/// # Examples
///
/// ```no_run
/// # fn f(trainer: tinkex::TrainingClient, batches: Vec<tinkex::types::Batch>) -> tinkex::Result<()> {
/// use tinkex::types::LossFn;
///
/// let passes: tinkex::Result<Vec<_>> =
///     batches.iter().map(|batch| trainer.submit_forward(batch, LossFn::CrossEntropy)).collect();
/// for output in tinkex::wait_all(passes?)? {
///     println!("{:?}", output.metrics.get("loss:sum"));
/// }
/// # Ok(())
/// # }
/// ```
pub fn wait_all<T>(pendings: impl IntoIterator<Item = Pending<T>>) -> Result<Vec<T>> {
    let pendings: Vec<_> = pendings.into_iter().collect();
    let mut watch = Watch::new(&pendings);
    for _ in 0..pendings.len() {
        let Some(index) = watch.next() else { break };
        if let Some(error) = pendings[index].board.lock().error() {
            return Err(error.clone());
        }
    }
    drop(watch);
    pendings.iter().map(Pending::take).collect()
}

/// Waits until one of the results, or an error, is there, and returns its place in the list; `None` for an empty list. All
/// count as waited for meanwhile.
///
/// Blocks until then, or until the [`timeout_operation`](crate::ConfigBuilder::timeout_operation) of one of the
/// calls ends, counted from this call on; that call's error is then what is there. One that was returned before is ready
/// still: take it out of the list before the next call.
///
/// # Examples
///
/// ```no_run
/// # fn f(mut samples: Vec<tinkex::Pending<tinkex::types::SampleResponse>>) -> tinkex::Result<()> {
/// while let Some(index) = tinkex::wait_any(&samples) {
///     println!("{:?}", samples.swap_remove(index).wait()?.sequences);
/// }
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn wait_any<T>(pendings: &[Pending<T>]) -> Option<usize> {
    if let Some(index) = pendings.iter().position(Pending::is_ready) {
        return Some(index);
    }
    Watch::new(pendings).next()
}

/// Hears of each result that comes, and counts as waiting for all until it drops.
struct Watch<'a, T> {
    pendings: &'a [Pending<T>],
    tell: Sender<usize>,
    told: Receiver<usize>,
    /// When the wait for which call ends, the earliest last.
    ends: Vec<(Instant, usize)>,
}

impl<'a, T> Watch<'a, T> {
    fn new(pendings: &'a [Pending<T>]) -> Self {
        let (tell, told) = unbounded();
        let mut ends = Vec::new();
        for (index, pending) in pendings.iter().enumerate() {
            ends.extend(pending.manner.wait_until(&pending.clock).map(|at| (at, index)));
            let mut board = pending.board.lock();
            board.watch(index, &tell);
            board.waited(true);
        }
        ends.sort_unstable_by(|one, other| other.cmp(one));
        Watch { pendings, tell, told, ends }
    }

    /// Waits for the next result, and says whose it is. A wait that ends without one gives that call its error.
    fn next(&mut self) -> Option<usize> {
        let clock = &self.pendings.first()?.clock;
        let ends = &mut self.ends;
        loop {
            while ends.last().is_some_and(|(_, index)| self.pendings[*index].is_ready()) {
                ends.pop();
            }
            match clock.receive_until(&self.told, ends.last().map(|(at, _)| *at)) {
                Received::Message(index) => return Some(index),
                Received::Deadline => {
                    if let Some((_, index)) = ends.pop() {
                        self.pendings[index].expire();
                    }
                }
                Received::Disconnected => return None,
            }
        }
    }
}

impl<T> Drop for Watch<'_, T> {
    fn drop(&mut self) {
        for pending in self.pendings {
            let mut board = pending.board.lock();
            board.unwatch(&self.tell);
            board.waited(false);
        }
    }
}
