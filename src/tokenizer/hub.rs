//! Downloads from the Hugging Face hub.

use super::source::{TOKENIZER, TOKENIZER_CONFIG};
use crate::config::{Config, Secret};
use crate::error::{Error, Result};
use crate::http::{Deadline, Fetch, segment};

pub(super) const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// The largest file that is downloaded, where the configuration allows as much. The largest tokenizers have some 35 MB.
const MAX_BYTES: u64 = 256 << 20;

/// Repeats of a download. A person waits for it, and there are other ways to get the file.
const MAX_RETRIES: u32 = 3;

/// The hub, or a mirror of it.
pub(super) struct Hub<'a> {
    pub(super) config: Config,
    pub(super) endpoint: &'a str,
    pub(super) token: Option<&'a Secret>,
    pub(super) deadline: Option<Deadline>,
}

/// What there is of a tokenizer.
pub(super) struct Files {
    pub(super) tokenizer: Vec<u8>,
    pub(super) config: Option<Vec<u8>>,
}

impl Hub<'_> {
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

    fn file(&self, id: &str, name: &str) -> Result<Vec<u8>> {
        let id: Vec<String> = id.split('/').map(segment).collect();
        Fetch {
            operation: "load",
            config: &self.config,
            base_url: self.endpoint,
            path: &format!("/{}/resolve/main/{name}", id.join("/")),
            token: self.token,
            max_bytes: self.config.max_response_bytes().min(MAX_BYTES),
            max_retries: MAX_RETRIES,
            deadline: self.deadline,
        }
        .run()
    }
}
