//! All tests that can share a process, one module for each client or area.
//!
//! Tests that depend on state of the whole process (the logger, the allocator, the list of threads) are in `tests/process_*`.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a failing test panics, and its helpers are not an API")]

#[path = "../support/mod.rs"]
mod support;

mod api;
mod auto_traits;
mod better_than_python;
mod billing;
#[cfg(all(feature = "ndarray", feature = "tokenizers"))]
mod call_limits;
#[cfg(feature = "cli")]
mod chat_cli;
#[cfg(all(feature = "chat", feature = "local", feature = "tokenizers"))]
mod chat_finetune;
#[cfg(feature = "cli")]
mod cli;
mod config;
mod contract;
#[cfg(feature = "local")]
mod cost;
#[cfg(feature = "ndarray")]
mod custom_loss;
#[cfg(unix)]
mod descriptors;
#[cfg(all(feature = "local", unix))]
mod device;
mod effects;
#[cfg(feature = "eval")]
mod eval;
mod events;
#[cfg(feature = "pretrained")]
mod export;
mod http;
#[cfg(feature = "local")]
mod local_futures;
#[cfg(feature = "local")]
mod local_loop;
#[cfg(feature = "local")]
mod local_losses;
#[cfg(feature = "pretrained")]
mod local_models;
#[cfg(feature = "local")]
mod local_server;
#[cfg(feature = "local")]
mod local_weights;
mod not_finite;
#[cfg(feature = "pretrained")]
mod openai;
mod passes;
mod polling;
#[cfg(feature = "local")]
mod ports;
mod protobuf;
#[cfg(feature = "local")]
mod quickstart;
mod rest;
mod retries;
mod sampling;
mod scenarios;
mod servers;
mod service_settings;
mod session_end;
mod single_lines;
mod source_tree;
mod telemetry;
#[cfg(any(feature = "rustls", feature = "native-tls"))]
mod tls;
#[cfg(feature = "tokenizers")]
mod tokenizers;
mod tokens;
#[cfg(feature = "cli")]
mod train_cli;
mod training;
mod types_golden;
mod waiting;
mod waits;
mod weights;
mod wrong_results;
