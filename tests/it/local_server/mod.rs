//! The local server through real sockets, by a client that knows nothing but bytes.

mod client;
mod disk;
mod faults;
mod golden;
mod hostile;
mod http;
mod lifetime;
mod limits;
pub mod models;
mod processes;
mod promises;
mod protocol;
mod rest;
mod training;
