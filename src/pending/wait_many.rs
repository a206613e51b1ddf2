//! Waits for many results at once.

use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::Pending;
use crate::clock::Received;
use crate::error::Result;

/// Waits for all results and returns them in the order of the calls. Meanwhile all of them count as waited for, so they are
/// polled before results that nobody waits for.
///
/// The first error, from any of the calls, ends the wait, and the other results are abandoned, as if their [`Pending`] were
/// dropped. To get every result and every error, call [`Pending::wait`] on each.
///
/// # Errors
///
/// As [`Pending::wait`]. The [`timeout_operation`](crate::ConfigBuilder::timeout_operation) of each call counts from here.
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
    if let Some(foreign) = pendings.iter().find(|pending| !pending.is_own()) {
        return foreign.take().map(|result| vec![result]);
    }
    let mut watch = Watch::new(&pendings);
    for _ in 0..pendings.len() {
        let Some(index) = watch.next() else { break };
        if let Some(error) = pendings[index].state.lock().error() {
            return Err(error.clone());
        }
    }
    drop(watch);
    pendings.iter().map(Pending::take).collect()
}

/// Waits until one of the results, or an error, is ready, and returns its index; `None` for an empty list. Meanwhile all of
/// them count as waited for.
///
/// Blocks up to the shortest [`timeout_operation`](crate::ConfigBuilder::timeout_operation) of the calls, counted from here; a
/// call that times out is ready with that error. A result that was returned before is still ready: remove it from the list
/// before the next call.
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

/// Receives the index of each call that finishes, and counts as waiting for all of them until dropped.
struct Watch<'a, T> {
    pendings: &'a [Pending<T>],
    sender: Sender<usize>,
    finished: Receiver<usize>,
    /// When the wait for each call ends, the earliest last.
    ends: Vec<(Instant, usize)>,
}

impl<'a, T> Watch<'a, T> {
    fn new(pendings: &'a [Pending<T>]) -> Self {
        let (sender, finished) = unbounded();
        let mut ends = Vec::new();
        for (index, pending) in pendings.iter().enumerate() {
            ends.extend(pending.wait_deadline().map(|at| (at, index)));
            let mut state = pending.state.lock();
            state.watch(index, &sender);
            state.start_waiting().for_each(|ticket| pending.poller.set_waited(ticket, true));
        }
        ends.sort_unstable_by(|one, other| other.cmp(one));
        Watch { pendings, sender, finished, ends }
    }

    /// Waits for the next call that finishes, and returns its index. A call whose wait ends first gets a timeout error.
    fn next(&mut self) -> Option<usize> {
        let clock = self.pendings.first()?.poller.clock();
        let ends = &mut self.ends;
        loop {
            while ends.last().is_some_and(|(_, index)| self.pendings[*index].is_ready()) {
                ends.pop();
            }
            match clock.receive_until(&self.finished, ends.last().map(|(at, _)| *at)) {
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
            let mut state = pending.state.lock();
            state.unwatch(&self.sender);
            state.stop_waiting().for_each(|ticket| pending.poller.set_waited(ticket, false));
        }
    }
}
