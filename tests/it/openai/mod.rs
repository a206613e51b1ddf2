//! OpenAI's API, of the local server and of the proxy, over real sockets.

mod checkpoints;
mod client;
mod errors;
mod pages;
mod program;
mod proxy;
mod speaker;
mod streams;
mod whole;
