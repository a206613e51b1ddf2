//! A blocking client for the Tinker API: fine-tune language models with LoRA on a remote service, and sample from them.
//!
//! There is no async runtime. A call blocks, or returns a [`Pending`] to wait for later; a few plain threads do the rest.
//!
//! ```no_run
//! use tinkex::types::{AdamParams, Batch, Datum, LoraConfig, LossFn, ModelInput, SamplingParams};
//! use tinkex::{Config, ServiceClient};
//!
//! let service = ServiceClient::connect(Config::from_env()?)?;
//! let trainer = service.create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default())?;
//!
//! let datum = Datum::new(ModelInput::from_tokens(vec![10, 11, 12]))
//!     .input("target_tokens", vec![11_i64, 12, 13])?
//!     .input("weights", vec![0.0_f32, 1.0, 1.0])?;
//! let batch = Batch::from(vec![datum]);
//!
//! // Blocking.
//! let output = trainer.forward_backward(&batch, LossFn::CrossEntropy)?;
//! trainer.optim_step(AdamParams::new().learning_rate(1e-4))?;
//!
//! // Pipelined: submit both, then wait.
//! let pass = trainer.submit_forward_backward(&batch, LossFn::CrossEntropy)?;
//! let step = trainer.submit_optim_step(AdamParams::default())?;
//! let (output, _) = (pass.wait()?, step.wait()?);
//!
//! let sampler = trainer.save_weights_and_get_sampling_client()?;
//! let prompt = ModelInput::from_tokens(vec![10]);
//! let response = sampler.sample(&prompt, 1, &SamplingParams::default().max_tokens(64))?;
//! # Ok::<(), tinkex::Error>(())
//! ```
//!
//! # Overview
//!
//! - [`ServiceClient`] is the entry point. It creates [`TrainingClient`]s and [`SamplingClient`]s. All clients are cheap to
//!   clone and can be used from any thread.
//! - [`RestClient`] lists, shows and changes what the service stores: training runs, checkpoints, sessions.
//! - [`Config`] holds every setting, with its default or its value from the environment. [`CredentialSource`] says where its key
//!   comes from, and [`Wire`] in which format batches go out; the feature `zstd` compresses them if the service asks for it.
//! - [`Observer`] receives an [`Event`] for everything that happens in the client; [`Telemetry`] reports to the service.
//! - [`Error`] says what failed, why, and whether the request may have taken effect.
//! - [`Tokenizer`] converts text to tokens and back; a client can load the one of its model.
//! - [`types`] holds the data: datums, tensors, parameters, results. Its front page says what one writes and what one reads.
#![cfg_attr(
    feature = "chat",
    doc = "- [`chat`] (feature `chat`) writes conversations as a chat model wants them: prompts, training examples with the right"
)]
#![cfg_attr(
    not(feature = "chat"),
    doc = "- `chat` (feature `chat`) writes conversations as a chat model wants them: prompts, training examples with the right"
)]
//!   tokens trained; and reads replies back.
//! - [`losses`] has those that the service has not: preferences between pairs, and distillation.
//! - [`rl`] has what reinforcement learning needs beside the calls: rollouts, advantages, training examples, metrics.
//! - [`toolkit`] has what most programs need beside the calls: datums from tokens, the loss per token, files that record a run.
//! - [`hyperparams`] has learning rates, their schedules, and the number of parameters of an adapter.
//! - [`cost`] counts tokens, and says what they cost.
#![cfg_attr(
    feature = "eval",
    doc = "- [`eval`] (feature `eval`) asks models tasks, grades their answers, and says which model is better."
)]
#![cfg_attr(
    not(feature = "eval"),
    doc = "- `eval` (feature `eval`) asks models tasks, grades their answers, and says which model is better."
)]
//! - [`api`] is low-level access: send any request to any path.
#![cfg_attr(
    feature = "local",
    doc = "- [`local`] (feature `local`) runs a Tinker server inside this process, with small models"
)]
#![cfg_attr(
    not(feature = "local"),
    doc = "- `local` (feature `local`) runs a Tinker server inside this process, with small models"
)]
//!   that really train.
//! - [`clock`] lets a test control the client's time (feature `test-util`).
//! - [`crossbeam_channel`], [`serde`], [`serde_json`] and `ndarray` (feature `ndarray`) are re-exported, because signatures
//!   use their types and traits.
//!
//! # Order and retries
//!
//! The service runs the requests of a training client in the order of the calls. A request keeps its sequence number and
//! idempotency key over all attempts, so a lost response never runs a step twice. If the outcome cannot be known,
//! [`Error::may_have_taken_effect`] says so, and [`TrainingClient`] says what its next call does about it.
//!
//! # How long a call blocks
//!
//! A blocking call ends after [`timeout_operation`](ConfigBuilder::timeout_operation) at the latest; by default there is no
//! such limit. Without it:
//!
//! - A call whose result is a promise of the service is submitted, with retries for up to
//!   [`timeout_submit`](ConfigBuilder::timeout_submit). Then it is polled until the service responds with the result, or says
//!   nothing about it for [`timeout_progress`](ConfigBuilder::timeout_progress). Meanwhile failures, damaged responses and what a
//!   gateway says in its own name are followed by another poll.
//! - Any other call ends after [`max_retries`](ConfigBuilder::max_retries) retries. Each attempt ends after
//!   [`timeout_idle`](ConfigBuilder::timeout_idle) without a byte of progress.
//!
//! # Errors of a request
//!
//! Besides the errors documented on each method, every request can fail with
//!
//! | [`ErrorKind`] | if |
//! |---|---|
//! | [`Connect`](ErrorKind::Connect), [`Timeout`](ErrorKind::Timeout) | the service was not reached, or not in time; the [`Limit`] says which limit |
//! | [`Status`](ErrorKind::Status) | the service refused the request: [`Error::status`], [`Error::body`] |
//! | [`Billing`](ErrorKind::Billing) | the account's billing must be put right (402) |
//! | [`RequestFailed`](ErrorKind::RequestFailed) | the service accepted the request, which then failed: [`Error::category`] |
//! | [`Expired`](ErrorKind::Expired) | the service no longer knows the request; the outcome is unknown |
//! | [`Decode`](ErrorKind::Decode) | the response does not follow the protocol, or has not what was asked for |
//! | [`Closed`](ErrorKind::Closed), [`Cancelled`](ErrorKind::Cancelled), [`Panicked`](ErrorKind::Panicked) | the client was closed, the call was cancelled, or a thread of the client panicked |
//!
//! ```no_run
//! # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
//! use tinkex::types::AdamParams;
//!
//! match trainer.optim_step(AdamParams::default()) {
//!     Ok(_) => println!("done"),
//!     Err(error) if error.may_have_taken_effect() => println!("outcome unknown: {error}"),
//!     Err(error) if error.is_retryable() => println!("nothing was done, try again: {error}"),
//!     Err(error) => return Err(error),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Panics
//!
//! No method panics, except those of `clock::ManualClock`, which is for tests. A panic in a thread of the client, or in the
//! program's callback, becomes an error of kind [`Panicked`](ErrorKind::Panicked) for the waiting callers, provided that the
//! program is built with `panic = "unwind"`, the default.

pub mod api;
#[cfg(feature = "chat")]
pub mod chat;
pub mod clock;
mod config;
pub mod cost;
#[doc(hidden)] // For the program `tinkex`; not part of the API.
pub mod credential_store;
#[cfg(feature = "test-util")]
#[doc(hidden)] // For the fuzz targets and their tests; not part of the API.
pub mod decoders;
mod dispatcher;
mod error;
#[cfg(feature = "eval")]
pub mod eval;
#[doc(hidden)] // For the program `tinkex`; not part of the API.
pub mod fs;
#[cfg(any(feature = "chat", feature = "tokenizers"))]
mod gguf;
mod http;
pub mod hyperparams;
#[cfg(feature = "local")]
pub mod local;
pub mod losses;
mod observer;
mod pending;
mod process;
pub mod rest;
pub mod rl;
mod rules;
mod sampling;
mod service;
mod session;
mod threads;
mod tokenizer;
pub mod toolkit;
mod training;
pub mod types;

pub use config::{Config, ConfigBuilder, CredentialSource, DEFAULT_BASE_URL, Proxy, Wire};
pub use crossbeam_channel;
pub use error::{ConnectionFault, Error, ErrorKind, Limit, Result};
#[cfg(feature = "ndarray")]
pub use ndarray;
pub use observer::{Event, Observer, QueueStateObserver, QueueStateUpdate, WaitEnded, WaitKind, WaitLimit, Waiting};
pub use pending::{AsCompleted, Pending, as_completed, wait_all, wait_any};
pub use rest::client::RestClient;
pub use sampling::{RetryConfig, SampleMany, SampleOptions, SampleProgress, SamplerOptions, SamplingClient};
pub use serde;
pub use serde_json;
pub use service::{
    FromStateBuilder, FromStateOptions, LoraBuilder, ServiceClient, TrainingClientBuilder, TrainingOptions,
};
pub use session::Telemetry;
#[cfg(feature = "tokenizers")]
pub use tokenizer::TokenizerSource;
pub use tokenizer::{TextDecoder, Tokenizer};
#[cfg(feature = "ndarray")]
pub use training::CustomLoss;
pub use training::TrainingClient;

/// Compiles the README's programs, and runs the first one.
#[cfg(all(doctest, feature = "local", feature = "chat", feature = "tokenizers"))]
#[doc = include_str!("../README.md")]
struct Readme;
