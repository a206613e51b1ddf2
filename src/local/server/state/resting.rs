//! Training runs that made room for others: they leave memory, or at least their thread, and come back with their next request.

use std::sync::Arc;

use super::store::Store;
use crate::local::adam::Adam;
use crate::local::model::{Adapter, Tensors};

/// The file next to the weights of a resting model.
pub(crate) const RESTING_RECORD: &str = "resting.json";

/// The folder of a resting model.
pub(super) fn resting_folder(run: &str) -> [&str; 3] {
    ["runs", run, "resting"]
}

/// What a worker leaves of its model for the next one.
#[derive(Debug)]
pub(crate) enum RestingModel {
    /// The server has no directory, or its disk is full.
    InMemory(ModelState),
    OnDisk(RestingFiles),
}

/// What training has made of a model.
#[derive(Debug, PartialEq)]
pub(crate) struct ModelState {
    /// Shared with sampling sessions on the same weights; copied by the next optimizer step if it is.
    pub(crate) adapter: Arc<Adapter>,
    /// Accumulated since the last optimizer step.
    pub(crate) gradient: Tensors,
    pub(crate) optimizer: Adam,
}

/// The files of a resting model, which are removed with this: after the model was loaded, or when nobody needs it any more.
#[derive(Debug)]
pub(crate) struct RestingFiles {
    store: Arc<Store>,
    run: String,
}

impl RestingFiles {
    pub(crate) fn new(store: &Arc<Store>, run: &str) -> Self {
        RestingFiles { store: store.clone(), run: run.to_owned() }
    }

    pub(crate) fn folder(&self) -> [&str; 3] {
        resting_folder(&self.run)
    }
}

impl Drop for RestingFiles {
    fn drop(&mut self) {
        // Those of a server that has stopped or was killed are removed at the next start.
        if self.store.is_closed() {
            return;
        }
        if let Err(error) = self.store.remove(&self.folder()) {
            log::warn!("failed to remove the files of {}: {error}", self.run);
        }
    }
}
