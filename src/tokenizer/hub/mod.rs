//! Downloads from the Hugging Face hub: files of tokenizers, into memory, and of models, onto the disk.

#[cfg(feature = "pretrained")]
mod models;

use super::package::{SENTENCE_PIECE, TIKTOKEN, TOKENIZER, TOKENIZER_CONFIG, unreadable};
use crate::clock::Deadline;
use crate::config::{Config, Secret, check_header, check_url};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{BodySink, Download, Http, Limits, Purpose, Response, RetryDecision, encode_segment};
use crate::observer::WaitKind;
use crate::rules::retry::{AttemptFailure, Failures, RetryPolicy};
use crate::rules::tokenizer_id::HubId;
use crate::rules::wait_log::WaitEnd;

const OPERATION: &str = "load";

pub(super) const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// The maximum size of a file, unless the configuration allows less. The largest tokenizers have about 35 MB.
const MAX_BYTES: u64 = 256 << 20;

/// The maximum number of retries of a download. A person waits for it, and there are other ways to get the file.
const MAX_RETRIES: u32 = 3;

/// The hub, or a mirror of it.
pub(crate) struct Hub {
    http: Http,
    endpoint: String,
    authorization: Option<Secret>,
    limits: Limits,
}

/// The files of a tokenizer.
pub(super) struct Files {
    /// The name of the file with the vocabulary.
    pub(super) name: &'static str,
    pub(super) tokenizer: Vec<u8>,
    pub(super) config: Option<Vec<u8>>,
}

impl Hub {
    /// The hub at this URL, with this token.
    pub(super) fn new(
        config: &Config,
        endpoint: &str,
        token: Option<&Secret>,
        deadline: Option<Deadline>,
    ) -> Result<Self> {
        let endpoint = check_url(endpoint).map_err(|error| {
            Error::config(format!("the address of the hub cannot be used: {}", error.message())).with_source(error)
        })?;
        let authorization = token.map(|token| Secret::new(format!("Bearer {}", token.expose())));
        if let Some(value) = &authorization {
            check_header("authorization", value.expose(), "the token")?;
        }
        let http = Http::new(config)?;
        let waits_for = Some(WaitKind::Download);
        let limits = Limits { deadline, waits_for, ..http.limits(OPERATION, Purpose::Session) };
        Ok(Hub { http, endpoint, authorization, limits })
    }

    /// Downloads the files of a tokenizer. For errors, `hint` names an alternative, and `destination` is where a file that the
    /// hub does not have belongs.
    pub(super) fn files(&self, id: &HubId<'_>, hint: &str, destination: Option<&str>) -> Result<Files> {
        let (name, tokenizer) = match self.file(id, TOKENIZER) {
            Ok(tokenizer) => (TOKENIZER, tokenizer),
            Err(error) if error.status() == Some(404) => match self.optional_file(id, TIKTOKEN, hint)? {
                Some(tokenizer) => (TIKTOKEN, tokenizer),
                None if self.has(id, SENTENCE_PIECE) => {
                    return Err(unreadable(id.repository, &self.endpoint, destination).with_source(error));
                }
                None => return Err(self.explained(id, "the tokenizer", hint, error)),
            },
            Err(error) => return Err(self.explained(id, "the tokenizer", hint, error)),
        };
        Ok(Files { name, tokenizer, config: self.optional_file(id, TOKENIZER_CONFIG, hint)? })
    }

    /// Downloads a file that a repository may not have. For errors, `hint` names an alternative.
    pub(super) fn optional_file(&self, id: &HubId<'_>, name: &str, hint: &str) -> Result<Option<Vec<u8>>> {
        match self.file(id, name) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(self.explained(id, &format!("{name} of"), hint, error)),
        }
    }

    /// The error of a download of `what`, with a remedy.
    fn explained(&self, id: &HubId<'_>, what: &str, hint: &str, error: Error) -> Error {
        let hint = match error.status() {
            // The hub answers 401 for a repository that does not exist, too.
            Some(401 | 403) => format!("check the id, set HF_TOKEN to a token that may read it, or {hint}"),
            Some(404) => format!("check the id, or {hint}"),
            _ => hint.to_owned(),
        };
        // What the system says of a disk is what helps.
        let is_of_disk = error.kind() == ErrorKind::Io && error.hint().is_some();
        let error = error.with_detail(format!("downloading {what} \"{id}\" from {}", self.endpoint));
        if is_of_disk { error } else { error.with_hint(hint) }
    }

    /// The address of a file.
    fn url(&self, id: &HubId<'_>, name: &str) -> String {
        let [repository, name] = [id.repository, name].map(encode_path);
        format!("{}/{repository}/resolve/{}/{name}", self.endpoint, revision(id))
    }

    fn policy(&self) -> RetryPolicy {
        let config = self.http.config();
        RetryPolicy { max_retries: MAX_RETRIES.min(config.max_retries()), ..config.retry_policy() }
    }

    fn download<'a>(&'a self, url: &'a str) -> Download<'a> {
        Download { url, redirected_from: None, authorization: self.authorization.as_ref(), resume_from: None }
    }

    /// Whether the hub has this file, as far as one attempt tells.
    fn has(&self, id: &HubId<'_>, name: &str) -> bool {
        let mut found = Found(false);
        self.http.download(&self.download(&self.url(id, name)), &self.limits, &mut found).is_ok() && found.0
    }

    /// Downloads one file, with retries by the policy of requests.
    fn file(&self, id: &HubId<'_>, name: &str) -> Result<Vec<u8>> {
        self.content(&self.url(id, name))
    }

    /// Downloads what is at a URL, with retries by the policy of requests.
    fn content(&self, url: &str) -> Result<Vec<u8>> {
        let config = self.http.config();
        let download = self.download(url);
        let policy = self.policy();
        let mut failures = Failures::default();
        let limits = self.http.waiting(&self.limits);
        self.http.with_retries(
            &limits,
            |_, _| {},
            || {
                let max_bytes = config.max_response_bytes().min(MAX_BYTES);
                let mut buffer = Buffer { response: None, max_bytes };
                let outcome = self.http.download(&download, &limits, &mut buffer);
                let now = config.clock().wall();
                let (failure, error) = match (buffer.response, outcome) {
                    // A status that means failure counts even if its body was cut off.
                    (Some(mut response), _) if !response.is_success() => {
                        response.mask();
                        (Some(response.failure(now)), response.into_error(OPERATION, now))
                    }
                    (_, Err(error)) => (AttemptFailure::of_connection(&error), error),
                    (response, Ok(())) => return Ok(response.map(|response| response.body).unwrap_or_default()),
                };
                let wait = failure.and_then(|failure| {
                    let wait = policy.next(failures, &failure, fastrand::f64());
                    failures.count(&failure);
                    wait
                });
                let end = WaitEnd::Tries(policy.max_retries + 1, "max_retries");
                Err(RetryDecision { end, ..RetryDecision::new(error, wait) })
            },
        )
    }
}

/// The revision of an id as a part of a path.
fn revision(id: &HubId<'_>) -> String {
    encode_segment(id.revision.unwrap_or("main"))
}

pub(super) fn encode_path(path: &str) -> String {
    path.split('/').map(encode_segment).collect::<Vec<_>>().join("/")
}

/// Whether a response is a success; its body is not read.
struct Found(bool);

impl BodySink for Found {
    fn head(&mut self, response: &Response) -> Result<bool> {
        self.0 = response.is_success();
        Ok(false)
    }

    fn chunk(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// Collects a response in memory.
struct Buffer {
    response: Option<Response>,
    max_bytes: u64,
}

impl BodySink for Buffer {
    fn head(&mut self, response: &Response) -> Result<bool> {
        self.response = Some(response.clone());
        Ok(true)
    }

    fn chunk(&mut self, chunk: &[u8]) -> Result<()> {
        let Some(response) = &mut self.response else { return Ok(()) };
        if (response.body.len() + chunk.len()) as u64 > self.max_bytes {
            return Err(Error::new(ErrorKind::Decode, format!("the file is larger than {} bytes", self.max_bytes)));
        }
        response.body.extend_from_slice(chunk);
        Ok(())
    }
}
