//! Training runs, checkpoints, sessions and samplers: list, show and change what the service stores.
//!
//! [`RestClient`](crate::RestClient) has a method for each request. This module has the types around it: [`Pages`] reads
//! a list page by page, and [`DownloadOptions`] configure the download of a checkpoint's archive.

mod admin;
mod checkpoints;
pub(crate) mod client;
mod copy_weights;
mod download;
mod endpoint;
mod found_sessions;
mod pages;
mod sessions;
mod traces;
mod training_runs;
mod whoami;

pub use copy_weights::CopyWeights;
#[cfg(any(feature = "pretrained", feature = "test-util"))]
pub(crate) use download::unpack;
pub use download::{Canceller, DownloadOptions, DownloadProgress, Downloaded};
#[cfg(feature = "pretrained")]
pub(crate) use download::{StagingDir, io_error};
pub use found_sessions::FoundSessions;
pub use pages::Pages;
