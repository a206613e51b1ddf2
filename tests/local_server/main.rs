//! The local server through real sockets, by a client that knows nothing but bytes.
#![cfg(feature = "local")]

mod client;
mod disk;
mod faults;
mod http;
mod lifetime;
mod models;
mod promises;
mod protocol;
mod rest;
mod training;
