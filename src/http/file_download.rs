//! The download of a file of any size, which goes on where it was interrupted.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use super::Http;
use super::download::{BodySink, Download};
use super::request::Limits;
use super::response::Response;
use super::retry::RetryDecision;
use crate::config::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::rules::resume::{DownloadRetry, Interruption, ResumeDecision, StoredProgress, decide};
use crate::rules::retry::{AttemptFailure, RetryPolicy};

/// Is told how much is stored, before anything and after each chunk. An error ends the download.
pub(crate) type Watch<'a> = &'a mut dyn FnMut(&StoredProgress) -> Result<()>;

/// A file that is downloaded, over any number of attempts.
pub(crate) struct FileDownload<'a> {
    file: File,
    /// Where the file is, for errors.
    path: &'a Path,
    /// What it is, for errors.
    what: &'a str,
    progress: StoredProgress,
    retry: DownloadRetry,
    watch: Watch<'a>,
    /// What was decided about the last response, and its head.
    decision: Option<(ResumeDecision, Response)>,
}

/// Where a file is.
#[derive(Clone, Copy)]
pub(crate) struct Location<'a> {
    pub(crate) url: &'a str,
    pub(crate) redirected_from: Option<&'a str>,
    pub(crate) authorization: Option<&'a Secret>,
}

/// Why an attempt did not complete the file.
pub(crate) enum Interrupted {
    /// The link is rejected or has expired: another one may do.
    LinkRejected(RetryDecision),
    Failed(RetryDecision),
}

impl From<Interrupted> for RetryDecision {
    fn from(interrupted: Interrupted) -> Self {
        match interrupted {
            Interrupted::LinkRejected(decision) | Interrupted::Failed(decision) => decision,
        }
    }
}

impl<'a> FileDownload<'a> {
    /// A download into this file, of which some may be stored already. The service has `preparation` to prepare the content.
    pub(crate) fn new(
        (file, path): (File, &'a Path),
        what: &'a str,
        progress: StoredProgress,
        policy: RetryPolicy,
        preparation: Duration,
        watch: Watch<'a>,
    ) -> Self {
        FileDownload {
            file,
            path,
            what,
            progress,
            retry: DownloadRetry::new(policy, preparation),
            watch,
            decision: None,
        }
    }

    /// Makes one attempt to complete the file.
    pub(crate) fn attempt(&mut self, http: &Http, from: Location<'_>, limits: &Limits) -> Result<(), Interrupted> {
        let resume_from = self.progress.resume_from().map(|(bytes, validator)| (bytes, validator.map(str::to_owned)));
        let download = Download {
            url: from.url,
            redirected_from: from.redirected_from,
            authorization: from.authorization,
            resume_from: resume_from.as_ref().map(|(bytes, validator)| (*bytes, validator.as_deref())),
        };
        let outcome = http.download(&download, limits, self);
        let (decision, response) = match (outcome, self.decision.take()) {
            (Err(error), _) => return Err(Interrupted::Failed(self.connection_failed(http, error))),
            (Ok(()), decision) => decision.unzip(),
        };
        match (decision, response) {
            (Some(ResumeDecision::Append(_)), _) if self.progress.is_complete() => Ok(()),
            (Some(ResumeDecision::Complete), _) => Ok(()),
            (Some(ResumeDecision::LinkRejected), Some(response)) => {
                let error = self.status_error(&response);
                Err(Interrupted::LinkRejected(self.interrupted(http, &Interruption::LinkRejected, error)))
            }
            (Some(ResumeDecision::Failed), Some(response)) => {
                let failure = response.failure(http.config.clock().wall());
                let error = self.status_error(&response);
                Err(Interrupted::Failed(self.interrupted(http, &Interruption::Failed(failure), error)))
            }
            _ => {
                self.progress = StoredProgress { is_fixed: self.progress.is_fixed, ..StoredProgress::default() };
                let message = format!("the {} does not have the length that the server gave", self.what);
                let error = Error::new(ErrorKind::Decode, message);
                let interruption = Interruption::Failed(AttemptFailure::Connection);
                Err(Interrupted::Failed(self.interrupted(http, &interruption, error)))
            }
        }
    }

    /// The size of the file in bytes, once it is complete; with `sync`, when it is also on the disk.
    pub(crate) fn finish(self, sync: bool) -> Result<u64> {
        if sync {
            self.file.sync_all().map_err(|error| unwritable(self.path, error))?;
        }
        Ok(self.progress.bytes)
    }

    /// Without body and headers, which may repeat the URL's signature.
    fn status_error(&self, response: &Response) -> Error {
        let message = format!("the storage of the {} returned {}", self.what, response.status);
        Error::new(ErrorKind::Status, message).with_status(response.status)
    }

    /// What follows an attempt that ended without a response.
    pub(crate) fn connection_failed(&mut self, http: &Http, error: Error) -> RetryDecision {
        match AttemptFailure::of_connection(&error) {
            Some(failure) => self.interrupted(http, &Interruption::Failed(failure), error),
            None => error.into(),
        }
    }

    /// What follows an interruption.
    pub(crate) fn interrupted(&mut self, http: &Http, interruption: &Interruption, error: Error) -> RetryDecision {
        let wait = self.retry.next(interruption, http.config.clock().now(), fastrand::f64());
        let given_up_by = match (wait, interruption) {
            (None, Interruption::NotReady { .. }) => Some("timeout_preparation"),
            _ => None,
        };
        RetryDecision { end: self.retry.end(), given_up_by, ..RetryDecision::new(error, wait) }
    }
}

impl BodySink for FileDownload<'_> {
    fn head(&mut self, response: &Response) -> Result<bool> {
        let decision = decide(&self.progress, response.status, |name| response.header(name));
        self.decision = Some((decision.clone(), response.clone()));
        let ResumeDecision::Append(progress) = decision else { return Ok(false) };
        (self.watch)(&progress)?;
        self.progress = progress;
        let bytes = self.progress.bytes;
        let placed = self.file.set_len(bytes).and_then(|()| self.file.seek(SeekFrom::Start(bytes)));
        placed.map(|_| true).map_err(|error| unwritable(self.path, error))
    }

    fn chunk(&mut self, chunk: &[u8]) -> Result<()> {
        self.file.write_all(chunk).map_err(|error| unwritable(self.path, error))?;
        self.progress.bytes += chunk.len() as u64;
        self.retry.stored(self.progress.bytes);
        (self.watch)(&self.progress)
    }
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{} cannot be written", path.display())).with_source(error)
}
