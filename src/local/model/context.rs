//! What a model samples with, besides the request: the weights, and the caller's word that it no longer wants the result.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Adapter;

/// The weights to sample with, and whether the caller still wants the result.
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
    adapter: Option<Arc<Adapter>>,
    cancellation: Cancellation,
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
        SamplingContext { adapter: Some(adapter), ..SamplingContext::default() }
    }

    /// Ends the work early once this is cancelled. Defaults to one that never is. [`Cancellation`] has an example.
    #[must_use]
    pub fn cancellation(mut self, cancellation: &Cancellation) -> Self {
        self.cancellation = cancellation.clone();
        self
    }

    /// The adapter; `None` samples from the base model.
    #[must_use]
    pub fn adapter(&self) -> Option<Arc<Adapter>> {
        self.adapter.clone()
    }

    /// Whether the caller no longer wants the result. A model looks before each token, and before any other work that takes
    /// a few milliseconds.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
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
/// assert!(samples.is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cancellation(Arc<AtomicBool>);

impl Cancellation {
    /// Work that is wanted, so far.
    #[must_use]
    pub fn new() -> Self {
        Cancellation::default()
    }

    /// Ends the work early. There is no way back.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the work is no longer wanted.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
