//! `tinkex train` and `tinkex sample`: the program as a child process, against the local server.

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
