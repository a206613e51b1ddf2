//! The weights of a sample, which may be replaced while it is generated.

use std::borrow::Cow;
use std::sync::{Arc, Weak};

use super::Transformer;
use super::network::Projections;
use crate::local::model::{Adapter, SamplingContext};

/// An adapter, and its merge with the base projections.
#[derive(Debug)]
pub(super) struct SamplingWeights<'a> {
    adapter: Option<Arc<Adapter>>,
    pub(super) projections: Cow<'a, Projections<f32>>,
}

impl<'a> SamplingWeights<'a> {
    pub(super) fn latest(model: &'a Transformer, context: &SamplingContext) -> Self {
        let adapter = context.adapter();
        SamplingWeights { projections: model.projections(adapter.as_deref()), adapter }
    }

    /// Merges the latest adapter, if it is another one than before.
    pub(super) fn follow(&mut self, model: &'a Transformer, context: &SamplingContext) {
        let latest = context.adapter();
        if latest.as_ref().map(Arc::as_ptr) != self.adapter.as_ref().map(Arc::as_ptr) {
            *self = SamplingWeights { projections: model.projections(latest.as_deref()), adapter: latest };
        }
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
