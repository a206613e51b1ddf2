//! The local server through real sockets, by a client that knows nothing but bytes.
#![cfg(feature = "local")]

mod client;
mod disk;
mod faults;
mod golden;
mod hostile;
mod http;
mod lifetime;
mod limits;
mod models;
mod processes;
mod promises;
mod protocol;
mod rest;
mod training;
