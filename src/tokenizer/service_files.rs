//! The tokenizer that the service itself has, so that no hub is needed.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use log::{debug, warn};

use super::Tokenizer;
use super::hub::encode_path;
use super::package::{self, ABSENT, TIKTOKEN, TOKENIZER, TOKENIZER_CONFIG};
use crate::clock::Deadline;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::write_atomically;
use crate::http::{Http, Limits, Purpose, Request, encode_segment};
use crate::observer::WaitKind;
use crate::types::{TokenizerPackage, sha256_hex};

const OPERATION: &str = "load";

/// The file of a chat template, beside those of the tokenizer.
const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// The files that a service says that it has.
#[derive(Clone, Debug)]
pub(super) struct ServiceFiles {
    config: Config,
    package: Arc<TokenizerPackage>,
    /// The id with the revision, which names these files and no others.
    id: String,
}

impl ServiceFiles {
    pub(super) fn new(config: &Config, package: TokenizerPackage) -> Self {
        let id = format!("{}@{}", package.id, package.revision());
        ServiceFiles { config: config.clone(), package: Arc::new(package), id }
    }

    /// Whether these are the files of the tokenizer with this id.
    pub(super) fn are_of(&self, id: &str) -> bool {
        [&*self.package.id, &*self.id].contains(&id)
    }

    /// The id of the tokenizer, with the revision.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    fn has(&self, name: &str) -> bool {
        self.package.files.contains_key(name)
    }

    /// Loads the tokenizer, if the service has its vocabulary. All its files go into this directory: the chat template is found
    /// there later without the service.
    pub(super) fn load(&self, own: Option<PathBuf>, deadline: Option<Deadline>) -> Option<Result<Tokenizer>> {
        let vocabulary = [TOKENIZER, TIKTOKEN].into_iter().find(|name| self.has(name))?;
        Some(match own.as_ref().filter(|own| own.join(vocabulary).is_file()) {
            Some(own) => {
                debug!("reading the tokenizer {:?} from {}", self.id, own.display());
                package::from_path(own, Some(&self.id))
            }
            None => self.download(vocabulary, own, deadline),
        })
    }

    fn download(&self, vocabulary: &str, own: Option<PathBuf>, deadline: Option<Deadline>) -> Result<Tokenizer> {
        // The vocabulary is stored last: its presence means that the files are complete.
        let names = [TOKENIZER_CONFIG, CHAT_TEMPLATE, vocabulary];
        let fetch = |name| self.has(name).then(|| self.fetch(name, deadline)).transpose();
        let files = names.into_iter().map(|name| Ok((name, fetch(name)?))).collect::<Result<Vec<_>>>()?;
        let content =
            |wanted: &str| files.iter().find(|(name, _)| *name == wanted).and_then(|(_, content)| content.as_deref());
        let text = content(vocabulary).unwrap_or_default();
        let tokenizer = package::parse(&self.id, vocabulary, text, content(TOKENIZER_CONFIG))?;
        let Some(own) = own else { return Ok(tokenizer) };
        let stored = files.iter().try_for_each(|(name, content)| match content {
            Some(content) => write_atomically(&own.join(name), content),
            None => write_atomically(&own.join(ABSENT).join(name), b""),
        });
        if let Err(error) = stored {
            warn!("the tokenizer {:?} cannot be stored in {}: {error}", self.id, own.display());
        }
        Ok(tokenizer)
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// A file of the package, from this directory if it is there; `None` if the package does not have it.
    pub(super) fn file(&self, own: Option<PathBuf>, name: &str, deadline: Option<Deadline>) -> Result<Option<Vec<u8>>> {
        if !self.has(name) {
            return Ok(None);
        }
        let stored = own.and_then(|own| fs::read(own.join(name)).ok());
        stored.map_or_else(|| self.fetch(name, deadline), Ok).map(Some)
    }

    /// A file of the package. Fails for one that is not what the service has announced.
    fn fetch(&self, name: &str, deadline: Option<Deadline>) -> Result<Vec<u8>> {
        let http = Http::new(&self.config)?;
        let waits_for = Some(WaitKind::Download);
        let limits = Limits { deadline, waits_for, ..http.limits(OPERATION, Purpose::Session) };
        let path =
            format!("/{}/resolve/{}/{}", encode_path(&self.package.id), self.package.revision(), encode_segment(name));
        let explained = |error: Error| {
            let (id, url) = (&self.package.id, self.config.base_url());
            error.with_detail(format!("downloading {name} of the tokenizer {id:?} from the service at {url}"))
        };
        let content = http.send(&Request::get(path), &limits).map_err(explained)?.body;
        if self.package.files.get(name).is_some_and(|digest| digest.eq_ignore_ascii_case(&sha256_hex(&content))) {
            return Ok(content);
        }
        let message = format!("the service has another {name} now than it announced when the model was opened");
        Err(explained(Error::new(ErrorKind::Decode, message).with_hint("open the model again")))
    }
}
