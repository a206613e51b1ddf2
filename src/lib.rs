//! tinkex
#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub)]
#![warn(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]

pub mod clock;
pub mod config;
pub mod error;
mod http;
#[cfg(feature = "local")]
pub mod local;
mod pending;
pub mod query;
mod rules;
mod sampling;
mod service;
mod session;
mod training;
pub mod types;
mod worker;

pub use config::Config;
pub use error::{Error, ErrorKind, Limit, Result};
pub use pending::Pending;
pub use sampling::{SampleOptions, SamplingClient};
pub use service::ServiceClient;
pub use training::TrainingClient;
