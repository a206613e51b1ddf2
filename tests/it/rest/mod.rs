//! The REST client: the Python client's scenarios replayed, pages, and the local server.

mod archives;
mod destinations;
mod download;
mod interruptions;
#[cfg(feature = "local")]
mod local;
mod pages;
mod requests;
mod scenarios;
mod scene;
