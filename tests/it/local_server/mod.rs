//! The local server over real sockets, without the library's client.

mod audit;
mod auth;
mod billing;
mod client;
mod disk;
mod faults;
mod flags;
mod futures;
mod golden;
mod hostile;
mod housekeeping;
mod http;
mod lifetime;
mod limits;
mod malformed;
pub mod models;
mod processes;
mod promises;
mod protocol;
mod rest;
mod sampling;
mod search;
mod sessions;
mod traces;
mod training;
mod weights;
mod wire;
