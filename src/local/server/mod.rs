//! The server.
mod http;
