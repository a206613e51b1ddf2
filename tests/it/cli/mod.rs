//! The program `tinkex` as a child process: against the local server, and against a scripted service for failures.
//!
//! The files in `golden` have the expected output and exit code of each command. After an intended change, rewrite them with
//! `UPDATE_GOLDEN=1 cargo test --features cli --test it cli::`, and review the diff.

mod auth;
mod doctor;
mod download;
mod errors;
mod fixture;
mod fixture_2026;
mod help;
mod local;
mod pipes;
pub mod program;
mod serve;
mod serve_models;
mod stored;
#[cfg(unix)]
mod terminal;
