//! The REST client: the Python client's scenarios replayed, pages, and the local server.

mod archives;
mod calls;
mod destinations;
mod download;
mod endings;
mod listings;
#[cfg(feature = "local")]
mod local;
mod scenarios;
mod scene;
