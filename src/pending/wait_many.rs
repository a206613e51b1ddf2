//! Waits for many results at once.

use std::borrow::Borrow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::marker::PhantomData;
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
    pendings.iter().try_for_each(Pending::check_process)?;
    let mut watch = Watch::of(&pendings);
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
/// before the next call. [`as_completed`] does that.
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
    Watch::of(pendings).next()
}

/// Yields each result with the index of its call, in the order in which they become ready. Meanwhile all of the rest count as
/// waited for.
///
/// An error is yielded like a result, and does not end the wait for the others. Each `next` blocks until another one is ready.
/// Dropping the iterator abandons the rest, as if their [`Pending`] were dropped.
///
/// # Examples
///
/// ```no_run
/// # fn f(sampler: tinkex::SamplingClient, prompts: Vec<tinkex::types::ModelInput>) -> tinkex::Result<()> {
/// use tinkex::types::SamplingParams;
///
/// let params = SamplingParams::new().max_tokens(64);
/// let samples: tinkex::Result<Vec<_>> =
///     prompts.iter().map(|prompt| sampler.submit_sample(prompt, 1, &params)).collect();
/// for (index, response) in tinkex::as_completed(samples?) {
///     println!("prompt {index}: {:?}", response?.sequences[0].tokens);
/// }
/// # Ok(())
/// # }
/// ```
///
/// The calls' [`timeout_operation`](crate::ConfigBuilder::timeout_operation) counts from here; a call that times out yields that
/// error.
pub fn as_completed<T>(pendings: impl IntoIterator<Item = Pending<T>>) -> AsCompleted<T> {
    let mut completed = AsCompleted::new();
    pendings.into_iter().for_each(|pending| completed.add(pending));
    completed
}

/// The results of many calls as they become ready: see [`as_completed`].
///
/// Further calls can be added between two results, so that a bounded number of them is always in flight.
///
/// ```no_run
/// # fn f(trainer: tinkex::TrainingClient, mut batches: std::vec::IntoIter<tinkex::types::Batch>) -> tinkex::Result<()> {
/// use tinkex::types::LossFn;
///
/// let mut in_flight = tinkex::AsCompleted::new();
/// for batch in batches.by_ref().take(4) {
///     in_flight.add(trainer.submit_forward(batch, LossFn::CrossEntropy)?);
/// }
/// while let Some((index, output)) = in_flight.next() {
///     println!("batch {index}: {:?}", output?.metrics);
///     if let Some(batch) = batches.next() {
///         in_flight.add(trainer.submit_forward(batch, LossFn::CrossEntropy)?);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it abandons the results"]
pub struct AsCompleted<T> {
    watch: Watch<T, Pending<T>>,
    next_index: usize,
}

impl<T> AsCompleted<T> {
    /// No calls, to add some to.
    pub fn new() -> Self {
        AsCompleted { watch: Watch::new(), next_index: 0 }
    }

    /// Adds a call. Its index is the number of calls that were added before. Does not block.
    pub fn add(&mut self, pending: Pending<T>) {
        self.watch.add(self.next_index, pending);
        self.next_index += 1;
    }

    /// Adds a call with this index, which no other one has.
    pub(crate) fn add_as(&mut self, index: usize, pending: Pending<T>) {
        self.watch.add(index, pending);
    }

    /// What wakes [`next_or_woken`](AsCompleted::next_or_woken).
    pub(crate) fn waker(&self) -> Waker {
        Waker(self.watch.sender.clone())
    }

    /// The next result, or `Some(None)` when it was woken.
    pub(crate) fn next_or_woken(&mut self) -> Option<Option<(usize, Result<T>)>> {
        match self.watch.next()? {
            WOKEN => Some(None),
            index => Some(Some((index, self.watch.remove(index)?.take()))),
        }
    }

    /// The number of results that were not yielded yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.watch.pendings.len()
    }

    /// Whether all results were yielded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.watch.pendings.is_empty()
    }
}

impl<T> Default for AsCompleted<T> {
    fn default() -> Self {
        AsCompleted::new()
    }
}

impl<T> Iterator for AsCompleted<T> {
    type Item = (usize, Result<T>);

    fn next(&mut self) -> Option<(usize, Result<T>)> {
        loop {
            if let Some(next) = self.next_or_woken()? {
                return Some(next);
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl<T> ExactSizeIterator for AsCompleted<T> {}

impl<T> fmt::Debug for AsCompleted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Wakes [`AsCompleted::next_or_woken`] from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Waker(Sender<usize>);

/// The index of a call that no list has.
const WOKEN: usize = usize::MAX;

impl Waker {
    pub(crate) fn wake(&self) {
        // Without a receiver nobody waits.
        let _ = self.0.send(WOKEN);
    }
}

/// Receives the index of each call that finishes, and counts as waiting for all of them until dropped. The calls are the
/// caller's or its own.
struct Watch<T, P: Borrow<Pending<T>>> {
    pendings: BTreeMap<usize, P>,
    sender: Sender<usize>,
    finished: Receiver<usize>,
    /// When the wait for each call ends.
    ends: BinaryHeap<Reverse<(Instant, usize)>>,
    result: PhantomData<T>,
}

impl<T, P: Borrow<Pending<T>>> Watch<T, P> {
    fn new() -> Self {
        let (sender, finished) = unbounded();
        Watch { pendings: BTreeMap::new(), sender, finished, ends: BinaryHeap::new(), result: PhantomData }
    }

    fn of(pendings: impl IntoIterator<Item = P>) -> Self {
        let mut watch = Watch::new();
        pendings.into_iter().enumerate().for_each(|(index, pending)| watch.add(index, pending));
        watch
    }

    fn add(&mut self, index: usize, added: P) {
        let pending = added.borrow();
        if pending.is_own() {
            self.ends.extend(pending.wait_deadline().map(|at| Reverse((at, index))));
            let mut state = pending.state.lock();
            state.watch(index, &self.sender);
            state.start_waiting().for_each(|ticket| pending.poller.set_waited(ticket, true));
        }
        self.pendings.insert(index, added);
    }

    /// Stops waiting for a call.
    fn remove(&mut self, index: usize) -> Option<P> {
        let removed = self.pendings.remove(&index)?;
        unwatch(removed.borrow(), &self.sender);
        Some(removed)
    }

    /// Waits for the next call that finishes, and returns its index. A call whose wait ends first gets a timeout error.
    fn next(&mut self) -> Option<usize> {
        let (index, first) = self.pendings.first_key_value()?;
        if !first.borrow().is_own() {
            // In a fork nothing finishes, and everything is ready with an error.
            return Some(*index);
        }
        let clock = first.borrow().poller.clock();
        let waits = |index: &usize| self.pendings.get(index).is_some_and(|pending| !pending.borrow().is_ready());
        let ends = &mut self.ends;
        loop {
            while ends.peek().is_some_and(|Reverse((_, index))| !waits(index)) {
                ends.pop();
            }
            match clock.receive_until(&self.finished, ends.peek().map(|Reverse((at, _))| *at)) {
                Received::Message(index) => return Some(index),
                Received::Deadline => {
                    let late = ends.pop().and_then(|Reverse((_, index))| self.pendings.get(&index));
                    if let Some(late) = late {
                        late.borrow().expire();
                    }
                }
                Received::Disconnected => return None,
            }
        }
    }
}

impl<T, P: Borrow<Pending<T>>> Drop for Watch<T, P> {
    fn drop(&mut self) {
        self.pendings.values().for_each(|pending| unwatch(pending.borrow(), &self.sender));
    }
}

fn unwatch<T>(pending: &Pending<T>, sender: &Sender<usize>) {
    if !pending.is_own() {
        return;
    }
    let mut state = pending.state.lock();
    state.unwatch(sender);
    state.stop_waiting().for_each(|ticket| pending.poller.set_waited(ticket, false));
}
