//! The threads that run the models: one worker per training run, which executes the run's tasks in the order of arrival,
//! and sampling workers shared by all sampling sessions, so that no sample waits for a training step. There is one for each sample that
//! runs, up to a limit: a model computes the samples that it has at the same time together.
//!
//! A worker ends when its queue is dropped. The server never joins these threads: a training step cannot be interrupted, and
//! dropping a server must not wait for one. Samples are cancelled when the server stops.

mod catch_panic;
mod outputs;
mod resting;
mod run_worker;
mod sample_output;
mod sample_worker;
mod target_logprobs;
mod usage;
mod weights;

pub(crate) use self::run_worker::spawn_run_worker;
pub(crate) use self::sample_worker::spawn_sample_worker;
pub(crate) use self::target_logprobs::target_rows;
#[cfg(feature = "pretrained")]
pub(crate) use self::usage::{Sampled, count_samples};
pub(crate) use self::weights::adapter_options;
#[cfg(feature = "pretrained")]
pub(crate) use self::weights::sampling_adapter;
