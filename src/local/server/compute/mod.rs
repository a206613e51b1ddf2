//! The threads that run the models: one worker per training run, which executes the run's tasks in the order of arrival,
//! and a few sampling workers shared by all sampling sessions, so that no sample waits for a training step.
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
mod weights;

pub(crate) use self::run_worker::spawn_run_worker;
pub(crate) use self::sample_worker::run_sample_worker;
pub(crate) use self::target_logprobs::target_rows;
