//! The adapter of a sampling session in memory.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::local::model::Adapter;

/// An adapter that is loaded from the store when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct AdapterCache(Mutex<Option<Arc<Adapter>>>);

impl AdapterCache {
    pub(crate) fn loaded(adapter: Arc<Adapter>) -> Self {
        AdapterCache(Mutex::new(Some(adapter)))
    }

    /// Replaces the adapter, also for the rest of samples that have begun.
    pub(crate) fn replace(&self, adapter: Arc<Adapter>) {
        *self.0.lock() = Some(adapter);
    }

    /// The adapter, if it is in memory.
    pub(crate) fn get(&self) -> Option<Arc<Adapter>> {
        self.0.lock().clone()
    }

    /// The adapter, loaded now if it is not in memory. Holds the lock while loading, so that concurrent samples load it once.
    pub(crate) fn get_or_load<E>(&self, load: impl FnOnce() -> Result<Adapter, E>) -> Result<Arc<Adapter>, E> {
        let mut cached = self.0.lock();
        match &*cached {
            Some(adapter) => Ok(adapter.clone()),
            None => Ok(cached.insert(Arc::new(load()?)).clone()),
        }
    }
}
