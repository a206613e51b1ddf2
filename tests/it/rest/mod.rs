//! The REST client: the Python client's scenarios replayed, pages, and the local server.

mod archives;
mod destinations;
mod download;
mod export;
mod external_weights;
mod interruptions;
#[cfg(feature = "local")]
mod local;
mod pages;
mod requests;
mod scenarios;
mod scenarios_2026;
mod scene;
mod sessions;
mod traces;
