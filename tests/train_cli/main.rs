//! `tinkex train` and `tinkex sample`, as a user runs them: the program against the local server.

#[cfg(unix)]
#[path = "../support/terminal.rs"]
mod pty;
#[path = "../support/mod.rs"]
mod support;

#[cfg(unix)]
mod interrupt;
mod program;
mod sample;
mod train;
