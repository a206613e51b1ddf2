//! The weights of a sampling session, which come from the store when they are first needed.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::promises::Failure;
use super::records::{SamplerRecord, Weights};
use super::state::{CHECKPOINT, SAMPLER, State};
use super::store::Place;
use crate::local::adam::Adam;
use crate::local::checkpoint::unpack;
use crate::local::model::{Adapter, AdapterOptions};
use crate::types::{CheckpointPath, LoraConfig};

/// Weights in memory; none before they were needed.
#[derive(Debug, Default)]
pub(super) struct Loaded(Mutex<Option<Arc<Adapter>>>);

impl Loaded {
    pub(super) fn now(adapter: Arc<Adapter>) -> Self {
        Loaded(Mutex::new(Some(adapter)))
    }

    /// The adapter of a sampling session; none for a base model.
    pub(super) fn adapter(
        &self,
        state: &State,
        id: &str,
        record: &SamplerRecord,
    ) -> Result<Option<Arc<Adapter>>, Failure> {
        if record.weights == Weights::Base {
            return Ok(None);
        }
        let mut loaded = self.0.lock();
        if let Some(adapter) = &*loaded {
            return Ok(Some(adapter.clone()));
        }
        let (adapter, _) = match &record.weights {
            Weights::Checkpoint(path) => load_checkpoint(state, path)?,
            Weights::Snapshot(lora) => load(state, &["samplers", id], SAMPLER, lora)?,
            Weights::Base => return Ok(None),
        };
        Ok(Some(loaded.insert(Arc::new(adapter)).clone()))
    }
}

/// The adapter of a checkpoint, and its optimizer's state if it is one to train from.
pub(super) fn load_checkpoint(state: &State, path: &str) -> Result<(Adapter, Option<Adam>), Failure> {
    let missing = || Failure::user(format!("there is no checkpoint {path}"));
    let lora = state.lock().checkpoints.get(path).map(|record| record.lora.clone()).ok_or_else(missing)?;
    let parsed = path.parse::<CheckpointPath>().map_err(|error| Failure::user(error.to_string()))?;
    load(state, &place(&parsed), CHECKPOINT, &lora)
}

/// Where a checkpoint is kept.
pub(super) fn place(path: &CheckpointPath) -> [&str; 4] {
    let kind = path.checkpoint_id().split('/').next().unwrap_or_default();
    ["runs", path.training_run_id(), kind, path.name()]
}

fn load(state: &State, place: Place<'_>, record: &str, lora: &LoraConfig) -> Result<(Adapter, Option<Adam>), Failure> {
    state.store.load(place, record).and_then(|files| unpack(&files, options(lora))).map_err(|error| {
        match error.kind() {
            io::ErrorKind::NotFound => Failure::user(format!("{} is no longer there", place.join("/"))),
            _ => Failure::server(format!("{} could not be read: {error}", place.join("/"))),
        }
    })
}

/// What a model makes an adapter from. A seed that the client left open is zero.
pub(super) fn options(lora: &LoraConfig) -> AdapterOptions {
    AdapterOptions {
        rank: lora.rank as usize,
        seed: lora.seed.unwrap_or_default(),
        train_attn: lora.train_attn,
        train_mlp: lora.train_mlp,
        train_unembed: lora.train_unembed,
    }
}
