//! Training runs, checkpoints, sessions and samplers: list, show and change what the service stores.
//!
//! [`RestClient`](crate::RestClient) has a method for each request. This module has the types around it: [`Pages`] reads
//! a list page by page, and [`DownloadOptions`] configure the download of a checkpoint's archive.

pub(crate) mod client;
mod download;
mod endpoint;
mod pages;
mod whoami;

pub use download::{Canceller, DownloadOptions, DownloadProgress, Downloaded};
pub use pages::Pages;
