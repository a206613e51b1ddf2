//! `tinkex train` and `tinkex sample`, as a user runs them: the program against the local server.

#[path = "../support/mod.rs"]
mod support;

mod interrupt;
mod program;
mod sample;
mod train;
