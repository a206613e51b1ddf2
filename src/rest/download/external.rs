//! The files of external weights.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use super::fetch::{Fetch, LinkSource, Target};
use super::staging::StagingDir;
use super::unpack::{below, create_dirs};
use super::{DownloadOptions, Downloaded, create_file, io_error};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Limits, Response, external_url};
use crate::rest::client::RestClient;
use crate::rest::endpoint::{CheckpointEndpoint, external_urls};
use crate::types::{CheckpointArchiveUrlResponse, ExternalWeightsUrlsResponse};

impl RestClient {
    pub(super) fn download_files(
        &self,
        checkpoint: &CheckpointEndpoint,
        mut options: DownloadOptions<'_>,
    ) -> Result<Downloaded> {
        options.check_directory()?;
        let operation = checkpoint.operation;
        let limits = Limits { handle: options.handle.clone(), ..self.limits(operation) };
        let staging = StagingDir::create(&options.destination, options.overwrite)?;
        let request = checkpoint.external_weights_request();
        let urls = external_urls(operation, &self.http().send(&request, &limits)?)?;
        let files = checked_names(&urls, options.max_files)?;

        let content = staging.content();
        fs::create_dir(&content).map_err(|error| io_error("created", &content, error))?;
        let mut bytes = 0;
        for (index, (name, path)) in files.iter().enumerate() {
            let path = content.join(path);
            path.parent().map_or(Ok(()), create_dirs)?;
            let is_last = index + 1 == files.len();
            let file = create_file(&path)?;
            let target = Target { file, path, what: "file", sync: true, bytes_before: bytes, is_last };
            let read = |response: Response| self.file_link(name, &external_urls(operation, &response)?);
            let source = LinkSource { request: &request, read: &read, missing: MISSING };
            let link = self.file_link(name, &urls)?;
            bytes += Fetch::new(self, source, &limits, target, &mut options).with_link(link).run()?;
        }
        staging.install(&content)?;
        Ok(Downloaded { path: options.destination, archive_bytes: bytes, files: Some(files.len() as u64) })
    }

    /// The link to the file with this name.
    fn file_link(&self, name: &str, urls: &ExternalWeightsUrlsResponse) -> Result<CheckpointArchiveUrlResponse> {
        let url = urls.urls.get(name).and_then(|url| external_url(self.config().base_url(), url));
        let url = url.ok_or_else(|| {
            Error::new(ErrorKind::Decode, format!("the service gives no http URL for the file {name:?}"))
        })?;
        Ok(CheckpointArchiveUrlResponse { url, expires: urls.expires.clone() })
    }
}

const MISSING: &str = "the external weights may have expired or been deleted; list the run's checkpoints";

/// The names of the files, and their paths below the destination.
fn checked_names(urls: &ExternalWeightsUrlsResponse, max_files: u64) -> Result<Vec<(String, PathBuf)>> {
    let refuse = |message: String| Error::new(ErrorKind::Decode, message);
    if urls.urls.is_empty() {
        return Err(refuse("the external weights have no files".to_owned()));
    }
    if urls.urls.len() as u64 > max_files {
        let message = format!("the external weights have more than {max_files} files");
        return Err(refuse(message).with_hint("raise max_files if this number is expected"));
    }
    let path_of = |name: &String| {
        let path = below(name.as_bytes()).map_err(|why| refuse(format!("the file {name:?} of the weights {why}")))?;
        if path.as_os_str().is_empty() || name.ends_with('/') {
            return Err(refuse(format!("{name:?} is not the name of a file")));
        }
        Ok((name.clone(), path))
    };
    let files: Vec<_> = urls.urls.keys().map(path_of).collect::<Result<_>>()?;
    let mut paths = HashSet::new();
    for (name, path) in &files {
        if !paths.insert(path.as_path()) {
            return Err(refuse(format!("the file {name:?} of the weights occurs twice")));
        }
    }
    let clash = files.iter().find(|(_, path)| path.ancestors().skip(1).any(|above| paths.contains(above)));
    match clash {
        Some((name, _)) => Err(refuse(format!("the file {name:?} of the weights is below another file"))),
        None => Ok(files),
    }
}
