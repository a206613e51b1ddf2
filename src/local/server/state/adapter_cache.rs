//! The adapters of sampling sessions in memory.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::local::model::Adapter;

/// How many adapters stay in memory, those that were used last. The others are loaded again when they are needed.
const MAX_LOADED: usize = 32;

/// An adapter that is loaded from the store when it is needed.
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

    /// Frees the adapter. The next use loads it again.
    fn unload(&self) {
        *self.0.lock() = None;
    }
}

/// The caches that hold an adapter, the one used last at the end.
#[derive(Debug, Default)]
pub(crate) struct LoadedAdapters(Mutex<VecDeque<Weak<AdapterCache>>>);

impl LoadedAdapters {
    /// Notes that a cache was used; unloads the one that was not used for longest if there are too many.
    pub(crate) fn used(&self, cache: &Arc<AdapterCache>) {
        let cache = Arc::downgrade(cache);
        let mut caches = self.0.lock();
        caches.retain(|other| other.strong_count() > 0 && !other.ptr_eq(&cache));
        caches.push_back(cache);
        let oldest = if caches.len() > MAX_LOADED { caches.pop_front() } else { None };
        drop(caches);
        // Without the lock: that cache may just be loading.
        if let Some(oldest) = oldest.and_then(|oldest| oldest.upgrade()) {
            oldest.unload();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::model::{AdapterOptions, Tensors};

    #[test]
    fn the_adapters_used_last_stay_loaded() {
        let adapter = || {
            let options = AdapterOptions { rank: 1, seed: 0, train_attn: true, train_mlp: true, train_unembed: true };
            Arc::new(Adapter::new(options, Tensors::new()))
        };
        let (loaded, first) = (LoadedAdapters::default(), Arc::new(AdapterCache::loaded(adapter())));
        let others: Vec<_> = (0..2 * MAX_LOADED).map(|_| Arc::new(AdapterCache::loaded(adapter()))).collect();
        for other in &others {
            loaded.used(&first);
            loaded.used(other);
        }
        let is_loaded = |cache: &AdapterCache| cache.0.lock().is_some();
        assert!(is_loaded(&first));
        assert_eq!(others.iter().filter(|cache| is_loaded(cache)).count(), MAX_LOADED - 1);
        drop(others);
        loaded.used(&first);
        assert_eq!(loaded.0.lock().len(), 1);
    }
}
