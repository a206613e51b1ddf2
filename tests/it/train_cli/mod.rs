//! `tinkex train` and `tinkex sample`: the program as a child process, against the local server.

mod chats;
mod data;
mod failures;
#[cfg(unix)]
mod full_disk;
#[cfg(unix)]
mod interrupt;
#[cfg(target_os = "linux")]
mod memory;
pub mod place;
pub mod running;
mod sample;
mod show;
#[cfg(unix)]
mod signals;
mod train;
#[cfg(unix)]
mod waits;
