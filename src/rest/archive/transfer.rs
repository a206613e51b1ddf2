//! Fetches an archive into a file, whatever happens on the way.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use log::{debug, info};

use super::options::{DownloadOptions, DownloadProgress};
use crate::error::{Error, ErrorKind, Limit, Result};
use crate::http::{Answer, Call, Http, Receive, Visit};
use crate::rest::{RestClient, place};
use crate::rules::download::{Begin, Persistence, Stored, Trouble, begin};
use crate::rules::retry::Failure;
use crate::threads::panic_text;
use crate::types::CheckpointArchiveUrlResponse;

/// An archive that is on its way.
pub(super) struct Transfer<'a, 'o> {
    http: &'a Http,
    /// Asks where the archive is.
    call: &'a Call<'a>,
    sink: Sink<'o>,
}

/// Where it goes.
struct Sink<'o> {
    file: File,
    stored: Stored,
    persistence: Persistence,
    options: DownloadOptions<'o>,
    /// What the last answer began, and its head.
    begun: Option<(Begin, Answer)>,
}

impl<'a, 'o> Transfer<'a, 'o> {
    pub(super) fn new(rest: &'a RestClient, call: &'a Call<'a>, file: File, options: DownloadOptions<'o>) -> Self {
        let persistence = Persistence::new(rest.config().retry_policy(), options.timeout_making);
        let sink = Sink { file, stored: Stored::default(), persistence, options, begun: None };
        Transfer { http: &rest.http, call, sink }
    }

    /// Returns the size of the archive, once it is whole.
    pub(super) fn run(mut self) -> Result<u64> {
        let clock = self.http.config().clock();
        let mut link = None::<CheckpointArchiveUrlResponse>;
        loop {
            if link.as_ref().is_some_and(|link| link.expires.system_time() <= clock.wall()) {
                link = None;
            }
            let url = match link.take().map_or_else(|| self.ask(), |link| Ok(Some(link)))? {
                Some(fresh) => link.insert(fresh).url.clone(),
                None => continue,
            };
            let after = self.sink.stored.after().map(|(bytes, validator)| (bytes, validator.to_owned()));
            let after = after.as_ref().map(|(bytes, validator)| (*bytes, &**validator));
            let visit =
                Visit { url: &url, pointed_by: Some(self.http.config().base_url()), authorization: None, after };
            let outcome = self.http.visit(self.call, &visit, &mut self.sink);
            match (outcome, self.sink.begun.take()) {
                (Err(error), _) => {
                    let failure = Failure::lost(&error).ok_or_else(|| error.clone())?;
                    self.wait(&Trouble::Failure(failure), error)?;
                }
                (Ok(()), Some((Begin::Store(_), _))) if self.sink.stored.is_whole() => break,
                (Ok(()), Some((Begin::Whole, _))) => break,
                (Ok(()), Some((Begin::Store(_) | Begin::Forget, _)) | None) => {
                    self.sink.stored = Stored::default();
                    let error = Error::new(ErrorKind::Decode, "the archive has not the length that the server says");
                    self.wait(&Trouble::Failure(Failure::Connection), error)?;
                }
                (Ok(()), Some((Begin::Refused, answer))) => {
                    link = None;
                    self.wait(&Trouble::Link, refused(&answer))?;
                }
                (Ok(()), Some((Begin::Failed, answer))) => {
                    let headers = |name: &str| answer.header(name);
                    let failure = Failure::Status { status: answer.status, headers: &headers };
                    self.wait(&Trouble::Failure(failure), refused(&answer))?;
                }
            }
        }
        if !self.sink.options.extract {
            self.sink.file.sync_all().map_err(unwritable)?;
        }
        Ok(self.sink.stored.bytes)
    }

    /// Asks the service where the archive is; none after a wait.
    fn ask(&mut self) -> Result<Option<CheckpointArchiveUrlResponse>> {
        let (call, config) = (self.call, self.http.config());
        let answer = match self.http.once(call) {
            Ok(answer) => answer,
            Err(error) => {
                let failure = Failure::lost(&error).ok_or_else(|| error.clone())?;
                return self.wait(&Trouble::Failure(failure), error).map(|()| None);
            }
        };
        if answer.is_success() || answer.is_redirect() {
            return place::archive_url(call.operation, config, answer).map(Some);
        }
        let headers = |name: &str| answer.header(name);
        let error = answer.clone().into_error(call.operation, config.clock().wall());
        if answer.status == 503 {
            let error = error.with_hint("the archive is still being made; try again later, or raise timeout_making");
            self.wait(&Trouble::Making(&headers), error)?;
        } else {
            self.wait(&Trouble::Failure(Failure::Status { status: answer.status, headers: &headers }), error)?;
        }
        Ok(None)
    }

    /// Waits for the next attempt, if there is one.
    fn wait(&mut self, trouble: &Trouble<'_>, error: Error) -> Result<()> {
        let clock = self.http.config().clock();
        let wait = self.sink.persistence.next(trouble, clock.now(), clock.wall(), fastrand::f64());
        let Some(wait) = wait else { return Err(error) };
        let at = clock.now() + wait;
        if self.call.deadline.is_some_and(|deadline| deadline.at <= at) {
            return Err(Error::timeout(Limit::Operation).with_source(error));
        }
        match trouble {
            Trouble::Making(_) => info!("the archive is being made; it is asked for again in {wait:?}"),
            _ => debug!("{error}; the download goes on in {wait:?}"),
        }
        self.http.pause(at, &self.call.flight)
    }
}

impl Sink<'_> {
    fn report(&mut self) -> Result<()> {
        let Some(progress) = &mut self.options.progress else { return Ok(()) };
        let at = DownloadProgress { bytes: self.stored.bytes, total: self.stored.total };
        catch_unwind(AssertUnwindSafe(|| progress(at))).map_err(|panic| {
            let message = format!("the function that is told the progress panicked: {}", panic_text(&*panic));
            Error::new(ErrorKind::Panicked, message)
        })
    }

    fn too_large(&self) -> Error {
        let message = format!("the archive is larger than {} bytes", self.options.max_bytes);
        Error::new(ErrorKind::Decode, message).with_hint("raise max_bytes if that is right")
    }
}

impl Receive for Sink<'_> {
    fn head(&mut self, answer: &Answer) -> Result<bool> {
        let begun = begin(&self.stored, answer.status, |name| answer.header(name));
        self.begun = Some((begun.clone(), answer.clone()));
        let Begin::Store(stored) = begun else { return Ok(false) };
        if stored.total.is_some_and(|total| total > self.options.max_bytes) {
            return Err(self.too_large());
        }
        self.stored = stored;
        self.file
            .set_len(self.stored.bytes)
            .and_then(|()| self.file.seek(SeekFrom::Start(self.stored.bytes)))
            .map_err(unwritable)?;
        self.report()?;
        Ok(true)
    }

    fn piece(&mut self, piece: &[u8]) -> Result<()> {
        self.stored.bytes += piece.len() as u64;
        if self.stored.bytes > self.options.max_bytes {
            return Err(self.too_large());
        }
        self.file.write_all(piece).map_err(unwritable)?;
        self.persistence.stored(self.stored.bytes);
        self.report()
    }
}

/// Without body and headers, which may repeat the signature.
fn refused(answer: &Answer) -> Error {
    Error::new(ErrorKind::Status, format!("the archive's storage answered {}", answer.status))
        .with_status(answer.status)
}

fn unwritable(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "the archive cannot be written").with_source(error)
}
