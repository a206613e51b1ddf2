//! Downloads from the Hugging Face hub.

use log::debug;

use crate::clock::Deadline;
use crate::config::{Config, Secret, check_header, check_url};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Answer, Call, Http, Purpose, Receive, Visit, segment};
use crate::rules::retry::{Failure, Failures, RetryPolicy};

const OPERATION: &str = "load";

pub(super) const TOKENIZER: &str = "tokenizer.json";
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub(super) const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// The largest file that is downloaded, where the configuration allows as much. The largest tokenizers have some 35 MB.
const MAX_BYTES: u64 = 256 << 20;

/// Repeats of a download. A person waits for it, and there are other ways to get the file.
const MAX_RETRIES: u32 = 3;

/// The hub, or a mirror of it.
pub(super) struct Hub {
    http: Http,
    endpoint: String,
    authorization: Option<Secret>,
    deadline: Option<Deadline>,
}

/// What there is of a tokenizer.
pub(super) struct Files {
    pub(super) tokenizer: Vec<u8>,
    pub(super) config: Option<Vec<u8>>,
}

impl Hub {
    /// The hub at this address, for those with this token.
    pub(super) fn new(
        config: &Config,
        endpoint: &str,
        token: Option<&Secret>,
        deadline: Option<Deadline>,
    ) -> Result<Self> {
        let endpoint = check_url(endpoint)
            .map_err(|error| Error::config("the address of the hub cannot be used").with_source(error))?;
        let authorization = token.map(|token| Secret::new(format!("Bearer {}", token.expose())));
        if let Some(value) = &authorization {
            check_header("authorization", value.expose(), "the token")?;
        }
        Ok(Hub { http: Http::new(config)?, endpoint, authorization, deadline })
    }

    /// The files of a tokenizer. The hint says what else can be done.
    pub(super) fn files(&self, id: &str, hint: &str) -> Result<Files> {
        let advised = |error: Error| {
            let hint = match error.status() {
                // The hub says 401 of what is not there, too.
                Some(401 | 403) => format!("check the id, set HF_TOKEN to a token that may read it, or {hint}"),
                Some(404) => format!("check the id, or {hint}"),
                _ => hint.to_owned(),
            };
            error.with_detail(format!("downloading the tokenizer {id:?} from {}", self.endpoint)).with_hint(hint)
        };
        let tokenizer = self.file(id, TOKENIZER).map_err(advised)?;
        let config = match self.file(id, TOKENIZER_CONFIG) {
            Ok(config) => Some(config),
            Err(error) if error.status() == Some(404) => None,
            Err(error) => return Err(advised(error)),
        };
        Ok(Files { tokenizer, config })
    }

    /// One file, asked for again as the retry policy says.
    fn file(&self, id: &str, name: &str) -> Result<Vec<u8>> {
        let (config, clock) = (self.http.config(), self.http.config().clock());
        let policy = RetryPolicy { max_retries: MAX_RETRIES.min(config.max_retries()), ..config.retry_policy() };
        let id: Vec<String> = id.split('/').map(segment).collect();
        let url = format!("{}/{}/resolve/main/{name}", self.endpoint, id.join("/"));
        let idle = config.timeout_idle();
        let call = Call { deadline: self.deadline, ..Call::get(OPERATION, Purpose::Session, "", idle) };
        let visit = Visit { url: &url, pointed_by: None, authorization: self.authorization.as_ref(), after: None };
        let mut before = Failures::default();
        loop {
            let mut file = Incoming { answer: None, max_bytes: config.max_response_bytes().min(MAX_BYTES) };
            let outcome = self.http.visit(&call, &visit, &mut file);
            let mut next = |failure: Failure<'_>| {
                let wait = policy.next(before, &failure, clock.wall(), fastrand::f64());
                before.note(&failure);
                wait
            };
            let (wait, error) = match (file.answer, outcome) {
                // A status that means failure stands, however its body ended.
                (Some(answer), _) if !answer.is_success() => {
                    let headers = |name: &str| answer.header(name);
                    let wait = next(Failure::Status { status: answer.status, headers: &headers });
                    (wait, answer.into_error(OPERATION, clock.wall()))
                }
                (_, Err(error)) => (Failure::lost(&error).and_then(next), error),
                (answer, Ok(())) => return Ok(answer.map(|answer| answer.body).unwrap_or_default()),
            };
            let Some(wait) = wait else { return Err(error) };
            let at = clock.now() + wait;
            if let Some(deadline) = self.deadline.filter(|deadline| deadline.at <= at) {
                return Err(Error::timeout(deadline.limit).with_source(error));
            }
            debug!("{error}; it is asked for again in {wait:?}");
            self.http.pause_until(at)?;
        }
    }
}

/// An answer as it comes.
struct Incoming {
    answer: Option<Answer>,
    max_bytes: u64,
}

impl Receive for Incoming {
    fn head(&mut self, answer: &Answer) -> Result<bool> {
        self.answer = Some(answer.clone());
        Ok(true)
    }

    fn piece(&mut self, piece: &[u8]) -> Result<()> {
        let Some(answer) = &mut self.answer else { return Ok(()) };
        if (answer.body.len() + piece.len()) as u64 > self.max_bytes {
            return Err(Error::new(ErrorKind::Decode, format!("the file is larger than {} bytes", self.max_bytes)));
        }
        answer.body.extend_from_slice(piece);
        Ok(())
    }
}
