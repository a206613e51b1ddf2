//! The weights of a sample, which may be replaced while it is generated.

use std::sync::{Arc, Weak};

use super::Transformer;
use super::lora::Lora;
use crate::local::model::{Adapter, SamplingContext};

/// An adapter, or none for those of the base model.
#[derive(Clone, Debug)]
pub(super) struct SamplingWeights {
    adapter: Option<Arc<Adapter>>,
}

impl SamplingWeights {
    pub(super) fn latest(context: &SamplingContext) -> Self {
        SamplingWeights { adapter: context.adapter() }
    }

    pub(super) fn lora(&self, model: &Transformer) -> Option<Lora<'_, f32>> {
        self.adapter.as_deref().map(|adapter| model.lora(adapter))
    }

    pub(super) fn is_base(&self) -> bool {
        self.adapter.is_none()
    }

    /// The adapter, as far as it is needed to tell it from others.
    pub(super) fn identity(&self) -> Option<Weak<Adapter>> {
        self.adapter.as_ref().map(Arc::downgrade)
    }

    /// Whether this is the identity of the adapter.
    pub(super) fn are(&self, identity: Option<&Weak<Adapter>>) -> bool {
        self.adapter.as_ref().map(Arc::as_ptr) == identity.map(Weak::as_ptr)
    }
}
