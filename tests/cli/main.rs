//! The program `tinkex`, run as its users run it: against the local server, and against the scripted service for what a
//! server in good health does not do.
//!
//! What it prints is in `golden`, each command with its exit code. After a change that is meant, write the files anew with
//! `UPDATE_GOLDEN=1 cargo test --features cli --test cli`, and read the difference.

#[cfg(unix)]
#[path = "../support/terminal.rs"]
mod pty;
#[path = "../support/mod.rs"]
mod support;

mod doctor;
mod download;
mod errors;
mod fixture;
mod help;
mod local;
mod pipes;
mod program;
mod serve;
#[cfg(unix)]
mod terminal;
