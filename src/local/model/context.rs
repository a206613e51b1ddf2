//! What a model samples with, besides the request: the weights, what it may keep of prompts, and the caller's word that it no
//! longer wants the result.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::Adapter;
use super::generation::FinishReason;
use crate::types::TokenLogprob;

/// The weights to sample with, where to keep what is computed of prompts, and whether the caller still wants the result.
///
/// ```
/// use std::sync::Arc;
/// use tinkex::local::model::{AdapterOptions, GenerationOptions, Model, SamplingContext};
/// use tinkex::local::transformer::Transformer;
///
/// let model = Transformer::bytes_tiny();
/// let adapter = Arc::new(model.new_adapter(&AdapterOptions::new()));
/// let options = GenerationOptions::new().max_tokens(8).seed(1);
/// let base = model.sample(&SamplingContext::base(), &[97], 1, &options);
/// // A new adapter changes nothing yet.
/// assert_eq!(model.sample(&SamplingContext::new(adapter), &[97], 1, &options), base);
/// ```
#[derive(Clone, Debug, Default)]
pub struct SamplingContext {
    adapter: AdapterSource,
    cancellation: Cancellation,
    namespace: Option<KvNamespace>,
    listener: Listener,
}

/// Who is told of each token.
#[derive(Clone, Default)]
struct Listener(Option<Arc<OnToken>>);

type OnToken = dyn Fn(SampledToken<'_>) + Send + Sync;

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Some" } else { "None" })
    }
}

/// A token that has just been sampled; see [`SamplingContext::on_token`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SampledToken<'a> {
    /// Which of the request's continuations it belongs to.
    pub sequence: usize,
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability under the model itself.
    pub logprob: f32,
    /// The most probable tokens in its place, most probable first; empty if not requested.
    pub topk_logprobs: &'a [TokenLogprob],
    /// Why generation ended with this token, if it did.
    pub finish_reason: Option<FinishReason>,
}

#[derive(Clone, Default)]
enum AdapterSource {
    #[default]
    Base,
    Fixed(Arc<Adapter>),
    Latest(Arc<dyn Fn() -> Arc<Adapter> + Send + Sync>),
}

impl SampledToken<'_> {
    /// A token of a continuation that goes on, with nothing else reported.
    #[must_use]
    pub fn new(sequence: usize, token: u32, logprob: f32) -> Self {
        SampledToken { sequence, token, logprob, topk_logprobs: &[], finish_reason: None }
    }
}

impl SamplingContext {
    /// Samples from the base model, without an adapter.
    #[must_use]
    pub fn base() -> Self {
        SamplingContext::default()
    }

    /// Samples with an adapter.
    #[must_use]
    pub fn new(adapter: Arc<Adapter>) -> Self {
        SamplingContext { adapter: AdapterSource::Fixed(adapter), ..SamplingContext::default() }
    }

    /// Samples with an adapter that may be replaced while a sample is generated: a model asks for the latest one before each
    /// token, and continues with the keys and values that it has.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use tinkex::local::model::{AdapterOptions, Model, SamplingContext};
    /// use tinkex::local::transformer::Transformer;
    ///
    /// let adapter = |seed| Arc::new(Transformer::bytes_tiny().new_adapter(&AdapterOptions::new().seed(seed)));
    /// let latest = Arc::new(Mutex::new(adapter(1)));
    /// let shared = latest.clone();
    /// let context = SamplingContext::latest(move || shared.lock().unwrap().clone());
    /// *latest.lock().unwrap() = adapter(2);
    /// assert_eq!(context.adapter(), Some(adapter(2)));
    /// ```
    #[must_use]
    pub fn latest(adapter: impl Fn() -> Arc<Adapter> + Send + Sync + 'static) -> Self {
        SamplingContext { adapter: AdapterSource::Latest(Arc::new(adapter)), ..SamplingContext::default() }
    }

    /// Ends the work early once this is cancelled. Defaults to one that never is. [`Cancellation`] has an example.
    #[must_use]
    pub fn cancellation(mut self, cancellation: &Cancellation) -> Self {
        self.cancellation = cancellation.clone();
        self
    }

    /// Lets the model keep the keys and values of prompts, and use those that it has kept. Defaults to none for an adapter:
    /// nothing is kept. The prompts of a base model are always kept. [`KvNamespace`] has an example.
    #[must_use]
    pub fn namespace(mut self, namespace: &KvNamespace) -> Self {
        self.namespace = Some(namespace.clone());
        self
    }

    /// Calls this for each token as soon as it is sampled, on a thread of the model, which waits for it to return. Defaults to
    /// nobody.
    ///
    /// The listener must not block: the samples of other callers may wait for it, too. It must not sample from the same model, which
    /// would wait for itself; a [`Transformer`](crate::local::transformer::Transformer) panics instead.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use tinkex::local::model::{GenerationOptions, Model, SamplingContext};
    /// use tinkex::local::transformer::Transformer;
    ///
    /// let seen = Arc::new(Mutex::new(Vec::new()));
    /// let shared = seen.clone();
    /// let context = SamplingContext::base().on_token(move |sampled| shared.lock().unwrap().push(sampled.token));
    /// let options = GenerationOptions::new().max_tokens(4).seed(1);
    /// let samples = Transformer::bytes_tiny().sample(&context, &[97], 1, &options);
    /// assert_eq!(*seen.lock().unwrap(), samples.sequences[0].tokens);
    /// ```
    #[must_use]
    pub fn on_token(mut self, listener: impl Fn(SampledToken<'_>) + Send + Sync + 'static) -> Self {
        self.listener = Listener(Some(Arc::new(listener)));
        self
    }

    /// Tells the listener of a token, if there is one.
    pub fn sampled(&self, token: SampledToken<'_>) {
        if let Some(listener) = &self.listener.0 {
            listener(token);
        }
    }

    /// The adapter to use now; `None` samples from the base model.
    #[must_use]
    pub fn adapter(&self) -> Option<Arc<Adapter>> {
        match &self.adapter {
            AdapterSource::Base => None,
            AdapterSource::Fixed(adapter) => Some(adapter.clone()),
            AdapterSource::Latest(latest) => Some(latest()),
        }
    }

    /// Whether the adapter may be replaced while a sample is generated.
    pub(in crate::local) fn is_replaceable(&self) -> bool {
        matches!(self.adapter, AdapterSource::Latest(_))
    }

    /// Where the model may keep keys and values, if the caller has named one.
    #[must_use]
    pub fn kv_namespace(&self) -> Option<&KvNamespace> {
        self.namespace.as_ref()
    }

    /// Whether the caller no longer wants the result. A model looks before each token, and before any other work that takes
    /// a few milliseconds.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
    }
}

impl fmt::Debug for AdapterSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AdapterSource::Base => "Base",
            AdapterSource::Fixed(_) => "Fixed",
            AdapterSource::Latest(_) => "Latest",
        })
    }
}

/// A name under which a model keeps the keys and values of prompts, so that the next sample of the same prompt, or of one
/// that begins alike, does not compute them again. What is kept may be dropped at any time, and is once the namespace and its
/// clones are gone.
///
/// Use one for each set of weights: keys and values of other weights are computed again. With weights that are
/// [replaced](SamplingContext::latest) now and then, one namespace keeps the keys and values of earlier weights, also for
/// samples of later ones; what a model reports about tokens is always computed with the latest.
///
/// ```
/// use std::sync::Arc;
/// use tinkex::local::model::{AdapterOptions, GenerationOptions, KvNamespace, Model, SamplingContext};
/// use tinkex::local::transformer::Transformer;
///
/// let model = Transformer::bytes_tiny();
/// let adapter = Arc::new(model.new_adapter(&AdapterOptions::new()));
/// let context = SamplingContext::new(adapter).namespace(&KvNamespace::new());
/// let options = GenerationOptions::new().max_tokens(8).seed(1);
/// let first = model.sample(&context, b"A prompt".map(u32::from).as_slice(), 1, &options);
/// let second = model.sample(&context, b"A prompt".map(u32::from).as_slice(), 1, &options);
/// assert_eq!((first.cached_tokens, second.cached_tokens), (0, 8));
/// assert_eq!(first.sequences, second.sequences);
/// ```
#[derive(Clone, Debug)]
pub struct KvNamespace(Arc<u64>);

impl KvNamespace {
    /// A namespace in which nothing is kept yet.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        KvNamespace(Arc::new(NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// A number that no other namespace of this process has, and whether the namespace still exists.
    pub(in crate::local) fn identity(&self) -> (u64, Weak<u64>) {
        (*self.0, Arc::downgrade(&self.0))
    }
}

impl Default for KvNamespace {
    fn default() -> Self {
        KvNamespace::new()
    }
}

/// Tells work that it is no longer wanted. Clones are cheap, and share the word.
///
/// ```
/// use tinkex::local::model::{Cancellation, GenerationOptions, Model, SamplingContext};
/// use tinkex::local::transformer::Transformer;
///
/// let cancellation = Cancellation::new();
/// let context = SamplingContext::base().cancellation(&cancellation);
/// // Usually another thread does this, while the model samples.
/// cancellation.cancel();
/// let samples = Transformer::bytes_tiny().sample(&context, &[97], 2, &GenerationOptions::new());
/// assert!(samples.sequences.is_empty());
/// ```
#[derive(Clone, Default)]
pub struct Cancellation(Arc<CancellationState>);

#[derive(Default)]
struct CancellationState {
    is_cancelled: AtomicBool,
    /// What to call then.
    acts: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
}

impl Cancellation {
    /// Work that is wanted, so far.
    #[must_use]
    pub fn new() -> Self {
        Cancellation::default()
    }

    /// Ends the work early. There is no way back.
    pub fn cancel(&self) {
        self.0.is_cancelled.store(true, Ordering::SeqCst);
        let acts = std::mem::take(&mut *self.0.acts.lock());
        acts.iter().for_each(|act| act());
    }

    /// Whether the work is no longer wanted.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::Relaxed)
    }

    /// Has this called by the first cancellation, at once if it has come already: it wakes work that waits for something else. It
    /// is kept as long as the cancellation.
    #[cfg_attr(not(feature = "pretrained"), allow(dead_code, reason = "only downloads wait for something else"))]
    pub(in crate::local) fn on_cancel(&self, act: impl Fn() + Send + Sync + 'static) {
        self.0.acts.lock().push(Box::new(act));
        // The word may have come between; what was taken by then is called by `cancel`.
        if self.0.is_cancelled.load(Ordering::SeqCst) {
            self.cancel();
        }
    }
}

impl fmt::Debug for Cancellation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancellation").field("is_cancelled", &self.is_cancelled()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancellation_calls_each_act_once() {
        let (cancellation, calls) = (Cancellation::new(), Arc::new(AtomicU64::new(0)));
        let count = |step| {
            let calls = calls.clone();
            move || {
                calls.fetch_add(step, Ordering::Relaxed);
            }
        };
        cancellation.on_cancel(count(1));
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        cancellation.cancel();
        cancellation.clone().cancel();
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        cancellation.on_cancel(count(10));
        assert_eq!(calls.load(Ordering::Relaxed), 11, "at once, after a cancellation");
    }
}
