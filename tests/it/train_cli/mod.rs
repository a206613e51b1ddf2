//! `tinkex train` and `tinkex sample`: the program as a child process, against the local server.

#[cfg(unix)]
mod interrupt;
mod place;
mod running;
mod sample;
#[cfg(unix)]
mod signals;
mod train;
