//! tinkex
#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub)]
#![warn(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]

pub mod error;
#[cfg(feature = "local")]
pub mod local;
pub mod query;
pub mod types;

pub use error::{Error, ErrorKind, Limit, Result};
