//! Work for the compute threads, as plain data.

mod sample_queue;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use self::sample_queue::SampleQueue;
use super::adapter_cache::AdapterCache;
use super::owner::Owner;
use super::promises::PromiseId;
use super::records::SamplingSessionRecord;
use super::waiting_batches::WaitingBatch;
use crate::local::adam::AdamOptions;
use crate::local::model::{Cancellation, GenerationOptions, KvNamespace, Model, PromptOptions};
use crate::types::{CheckpointPath, TensorData};

/// A task of a training run.
#[derive(Debug)]
pub(crate) enum Task {
    /// The first task of a run with new weights.
    Create,
    Forward(WaitingBatch),
    ForwardBackward(WaitingBatch),
    OptimStep(AdamOptions),
    SaveCheckpoint {
        path: CheckpointPath,
        /// Seconds until the checkpoint expires; `None` keeps it until it is deleted.
        ttl_seconds: Option<u64>,
        user_metadata: Option<BTreeMap<String, String>>,
    },
    /// Saves the weights for a new sampling session with this id.
    SaveForSampler {
        sampler_id: String,
        record: SamplingSessionRecord,
    },
    LoadCheckpoint(CheckpointSource),
    /// The first task of a run that starts with the weights of a checkpoint.
    CreateFrom(CheckpointSource),
    /// The last task.
    Unload,
}

/// The checkpoint to load.
#[derive(Debug)]
pub(crate) struct CheckpointSource {
    pub(crate) path: String,
    /// Whose API keys ask for it: one of them must give access.
    pub(crate) readers: Vec<Owner>,
    pub(crate) with_optimizer: bool,
}

/// What to sample, and what to report about the prompt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SampleParams {
    pub(crate) prompt: Vec<u32>,
    pub(crate) num_samples: usize,
    pub(crate) options: GenerationOptions,
    /// What the model has to say about the prompt, if anything.
    pub(crate) about_prompt: Option<PromptOptions>,
    /// Whether the log-probabilities of the prompt are part of the result.
    pub(crate) prompt_logprobs: bool,
    /// The tokens whose log-probabilities are part of the result, in the layout of the request.
    pub(crate) targets: Option<TensorData>,
}

/// One request to a sampling session.
#[derive(Debug)]
pub(crate) struct SampleTask {
    pub(crate) promise: PromiseId,
    pub(crate) sampler_id: String,
    pub(crate) record: SamplingSessionRecord,
    pub(crate) model: Arc<dyn Model>,
    pub(crate) adapter: Arc<AdapterCache>,
    /// Of the sampling session.
    pub(crate) namespace: KvNamespace,
    pub(crate) params: SampleParams,
    /// Ends the sample early, also while it is computed.
    pub(crate) cancellation: Cancellation,
}
