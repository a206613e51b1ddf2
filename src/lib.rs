//! A blocking client of the Tinker API: fine-tune language models with LoRA on a remote service, and sample from them.
//!
//! There is no async runtime: calls block, or return a [`Pending`] to collect later, and a few plain threads do the rest.
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
//! trainer.optim_step(AdamParams { learning_rate: 1e-4, ..AdamParams::default() })?;
//!
//! // Pipelined: submit, go on, collect later.
//! let pass = trainer.submit_forward_backward(&batch, LossFn::CrossEntropy)?;
//! let step = trainer.submit_optim_step(AdamParams::default())?;
//! let (output, _) = (pass.wait()?, step.wait()?);
//!
//! let sampler = trainer.save_weights_and_get_sampling_client()?;
//! let prompt = ModelInput::from_tokens(vec![10]);
//! let reply = sampler.sample(&prompt, 1, &SamplingParams::default().max_tokens(64))?;
//! # Ok::<(), tinkex::Error>(())
//! ```
//!
//! # Where things are
//!
//! - [`ServiceClient`] is the way in. It makes [`TrainingClient`]s and [`SamplingClient`]s; all are cheap to clone and can be
//!   used from any thread.
//! - [`RestClient`] lists, shows and changes what the service keeps: training runs, checkpoints, sessions.
//! - [`Config`] has every setting with its default, and reads the environment.
//! - [`Event`]s tell the program what happens in the client, [`Telemetry`] tells the service.
//! - [`Error`] says what failed, why, and whether the request may have taken effect.
//! - [`Tokenizer`] turns text into tokens and back; clients know that of their model.
//! - [`types`] has what travels: datums, tensors, parameters, results.
//! - [`api`] is the low-level door: any path, any body, any answer.
//! - `local` (the feature of that name) is a Tinker service in the process, with a small model that really trains.
//! - [`clock`] lets a test drive the client's time.
//!
//! # Order and repetition
//!
//! The requests of a training client are carried out in the order in which the calls are made. A request keeps its
//! sequence number and idempotency key over all attempts, so a lost answer never runs a step twice. Where the outcome
//! cannot be known, [`Error::may_have_taken_effect`] says so.
//!
//! # How long a call blocks
//!
//! A blocking call ends by [`timeout_operation`](config::ConfigBuilder::timeout_operation), which is none by default. Without
//! it, a call that makes a promise is sent again for at most [`timeout_submit`](config::ConfigBuilder::timeout_submit) until
//! the service accepts it, and is then waited for until the service answers or says nothing of it for
//! [`timeout_progress`](config::ConfigBuilder::timeout_progress). Other calls end after
//! [`max_retries`](config::ConfigBuilder::max_retries) repeats, each of which may take
//! [`timeout_idle`](config::ConfigBuilder::timeout_idle) without a byte of progress.
//!
//! # Errors of a request
//!
//! Besides what each method says of its arguments, every request can end with
//!
//! | [`ErrorKind`] | when |
//! |---|---|
//! | [`Connect`](ErrorKind::Connect), [`Timeout`](ErrorKind::Timeout) | the service was not reached, or not in time; the [`Limit`] says which |
//! | [`Status`](ErrorKind::Status) | it refused the request: [`Error::status`], [`Error::body`] |
//! | [`RequestFailed`](ErrorKind::RequestFailed) | it accepted the request and failed to carry it out: [`Error::category`] |
//! | [`Expired`](ErrorKind::Expired) | it no longer knows the request; the outcome is unknown |
//! | [`Decode`](ErrorKind::Decode) | it answered something that is not of the protocol |
//! | [`Closed`](ErrorKind::Closed), [`Cancelled`](ErrorKind::Cancelled), [`Panicked`](ErrorKind::Panicked) | the client was closed, the call given up, or a thread of the client panicked |
//!
//! ```no_run
//! # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
//! use tinkex::types::AdamParams;
//!
//! match trainer.optim_step(AdamParams::default()) {
//!     Ok(_) => println!("done"),
//!     Err(error) if error.may_have_taken_effect() => println!("nobody knows: {error}"),
//!     Err(error) if error.is_retryable() => println!("not made, worth another try: {error}"),
//!     Err(error) => return Err(error),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Panics
//!
//! No method panics, but for those of [`ManualClock`](clock::ManualClock#method.until_waiting), which is for tests. A
//! panic in a thread of the client or in a type of the program becomes an error of kind
//! [`Panicked`](ErrorKind::Panicked) for those who wait, provided that the program is built with `panic = "unwind"`,
//! the default.

pub mod api;
pub mod clock;
pub mod config;
pub mod error;
mod events;
mod http;
#[cfg(feature = "local")]
pub mod local;
#[cfg(feature = "ndarray")]
pub mod losses;
mod pending;
pub mod query;
pub mod rest;
mod rules;
mod sampling;
mod service;
mod session;
mod tokenizer;
mod training;
pub mod types;
mod worker;

pub use config::Config;
pub use error::{Error, ErrorKind, Limit, Result};
pub use events::{Event, Observer, QueueStateObserver, QueueStateUpdate};
pub use pending::{Pending, wait_all, wait_any};
pub use rest::RestClient;
pub use sampling::{RetryConfig, SampleOptions, SamplingClient};
pub use service::{ServiceClient, TrainingOptions};
pub use session::Telemetry;
#[cfg(feature = "tokenizers")]
pub use tokenizer::TokenizerSource;
pub use tokenizer::{TextDecoder, Tokenizer};
#[cfg(feature = "ndarray")]
pub use training::CustomLoss;
pub use training::TrainingClient;
pub use types::Severity;

/// Compiles and runs the README's first program.
#[cfg(all(doctest, feature = "local"))]
#[doc = include_str!("../README.md")]
struct Readme;
