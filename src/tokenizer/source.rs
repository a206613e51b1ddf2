//! Finds tokenizers: at a path, in a cache or on the hub.

use std::fs;
use std::path::{Path, PathBuf};

use log::{debug, warn};

use super::hub::{self, Hub, TOKENIZER, TOKENIZER_CONFIG};
use super::hugging_face::HuggingFace;
use super::other_formats::OTHER_FORMATS;
use super::{BYTES, Tokenizer};
use crate::clock::Deadline;
use crate::config::{Config, Secret};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::write_atomically;
use crate::rules::tokenizer_id;

/// Finds tokenizers by their id on the Hugging Face hub: in this crate's cache, in the cache of Hugging Face's own programs,
/// then on the hub itself. Downloads are stored in this crate's cache.
///
/// | variable | setting |
/// |---|---|
/// | `TINKEX_CACHE` | [`cache_dir`](TokenizerSource::cache_dir); defaults to `tinkex` in `XDG_CACHE_HOME`, which defaults to `~/.cache` |
/// | `HF_HUB_CACHE`, `HF_HOME` | [`hub_cache_dir`](TokenizerSource::hub_cache_dir); defaults to `huggingface/hub` in the same directory. It is never written to |
/// | `HF_ENDPOINT` | [`endpoint`](TokenizerSource::endpoint); defaults to `https://huggingface.co` |
/// | `HF_TOKEN` | [`token`](TokenizerSource::token) |
/// | `HF_HUB_OFFLINE` | [`offline`](TokenizerSource::offline), if it is `1`, `true`, `yes` or `on` |
///
/// In this crate's cache, the tokenizer `organisation/name` is the file `tokenizers/organisation--name/tokenizer.json`, with a
/// `tokenizer_config.json` beside it if it has one. On a machine without a network, put the files there.
///
/// # Examples
///
/// ```no_run
/// use tinkex::TokenizerSource;
///
/// let tokenizer = TokenizerSource::from_env().load("Qwen/Qwen3-8B")?;
/// assert_eq!(tokenizer.decode(&tokenizer.encode("hello")?)?, "hello");
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a source does nothing until `load` is called"]
pub struct TokenizerSource {
    cache_dir: Option<PathBuf>,
    hub_cache_dir: Option<PathBuf>,
    endpoint: String,
    token: Option<Secret>,
    offline: bool,
    config: Option<Config>,
}

impl TokenizerSource {
    /// Reads the environment: see [the table](TokenizerSource).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let tokenizer = tinkex::TokenizerSource::from_env().load("Qwen/Qwen3-8B")?;
    /// println!("{:?}", tokenizer.encode("hello")?);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn from_env() -> Self {
        TokenizerSource::from_env_with(|name| std::env::var(name).ok())
    }

    /// Like [`from_env`](TokenizerSource::from_env), with a function in place of the process's environment.
    ///
    /// # Examples
    ///
    /// ```
    /// let source = tinkex::TokenizerSource::from_env_with(|name| match name {
    ///     "TINKEX_CACHE" => Some("/no/such/cache".to_owned()),
    ///     "HF_HUB_OFFLINE" => Some("1".to_owned()),
    ///     _ => None,
    /// });
    /// let error = source.load("Qwen/Qwen3-8B").unwrap_err();
    /// assert!(error.to_string().contains("/no/such/cache/tokenizers/Qwen--Qwen3-8B/tokenizer.json"), "{error}");
    /// ```
    pub fn from_env_with(environment: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| environment(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let path = |name: &str| set(name).map(PathBuf::from);
        let caches = path("XDG_CACHE_HOME")
            .or_else(|| path("HOME").map(|home| home.join(".cache")))
            .or_else(|| path("LOCALAPPDATA"));
        let below = |name: &str| caches.as_ref().map(|caches| caches.join(name));
        TokenizerSource {
            cache_dir: path("TINKEX_CACHE").or_else(|| below("tinkex")),
            hub_cache_dir: path("HF_HUB_CACHE")
                .or_else(|| path("HF_HOME").or_else(|| below("huggingface")).map(|home| home.join("hub"))),
            endpoint: set("HF_ENDPOINT").unwrap_or_else(|| hub::DEFAULT_ENDPOINT.to_owned()),
            token: set("HF_TOKEN").map(Secret::new),
            offline: set("HF_HUB_OFFLINE")
                .is_some_and(|value| ["1", "true", "yes", "on"].contains(&value.to_ascii_lowercase().as_str())),
            config: None,
        }
    }

    /// This crate's cache. It is created when something is stored.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let tokenizer = tinkex::TokenizerSource::from_env().cache_dir("cache").load("Qwen/Qwen3-8B")?;
    /// println!("{:?}", tokenizer.encode("hello")?);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn cache_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(directory.into());
        self
    }

    /// The cache of Hugging Face's own programs, in their layout. It is never written to.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let tokenizer = tinkex::TokenizerSource::from_env().hub_cache_dir("/data/huggingface/hub").load("Qwen/Qwen3-8B")?;
    /// println!("{:?}", tokenizer.encode("hello")?);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn hub_cache_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.hub_cache_dir = Some(directory.into());
        self
    }

    /// The URL of the hub, or of a mirror: `http://` or `https://`, a host, and optionally a port and path.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let tokenizer = tinkex::TokenizerSource::from_env().endpoint("https://hub.example.com").load("Qwen/Qwen3-8B")?;
    /// println!("{:?}", tokenizer.encode("hello")?);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = url.into();
        self
    }

    /// The token for restricted tokenizers. It is sent only to the [`endpoint`](TokenizerSource::endpoint), not to other hosts
    /// that it redirects to.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let tokenizer = tinkex::TokenizerSource::from_env().token("hf_example").load("Qwen/Qwen3-8B")?;
    /// println!("{:?}", tokenizer.encode("hello")?);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Secret::new(token));
        self
    }

    /// Whether to download nothing. Defaults to the environment's `HF_HUB_OFFLINE`, otherwise `false`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let tokenizer = tinkex::TokenizerSource::from_env().offline(true).load("Qwen/Qwen3-8B")?;
    /// println!("{:?}", tokenizer.encode("hello")?);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// Downloads with the proxy, certificates and timeouts of this configuration, and nothing else of it. Defaults to those of
    /// [`Config::builder`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let config = tinkex::Config::builder().proxy(tinkex::Proxy::Off).build()?;
    /// let source = tinkex::TokenizerSource::from_env().config(&config);
    /// println!("{:?}", source.load("Qwen/Qwen3-8B")?.encode("hello")?);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn config(mut self, config: &Config) -> Self {
        self.config = Some(config.clone());
        self
    }

    /// Loads a tokenizer by its id: `organisation/name`, or `bytes` for [`Tokenizer::bytes`]. Not cached in memory: keep the
    /// returned tokenizer. Blocks while it reads files and, if they are missing, for two downloads with up to 3 retries each.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for an invalid id, before any request; [`ErrorKind::Io`] if it is not in the cache and
    /// downloads are off; [`ErrorKind::Status`], [`ErrorKind::Connect`] and the like if the download fails;
    /// [`ErrorKind::Decode`] for a file that is not a tokenizer, which is then not stored, and for a tokenizer that exists only in
    /// another format, such as `tiktoken.model`. The message says where to put a file, and how to convert one.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let tokenizer = tinkex::TokenizerSource::from_env().load("Qwen/Qwen3-8B")?;
    /// println!("{:?}", tokenizer.encode("hello")?);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn load(&self, id: &str) -> Result<Tokenizer> {
        self.load_until(id, None).map_err(|error| error.with_operation("load"))
    }

    pub(super) fn load_until(&self, id: &str, deadline: Option<Deadline>) -> Result<Tokenizer> {
        if id == BYTES {
            return Ok(Tokenizer::bytes());
        }
        tokenizer_id::check(id)?;
        let own = self.own_directory(id);
        let cached =
            own.clone().into_iter().chain(self.snapshot(id)).find(|directory| directory.join(TOKENIZER).is_file());
        if let Some(directory) = cached {
            debug!("reading the tokenizer {id:?} from {}", directory.display());
            return from_path(&directory, Some(id));
        }
        let destination = own.as_ref().map(|own| own.join(TOKENIZER).display().to_string());
        let hint = match &destination {
            Some(path) => format!("put its {TOKENIZER} at {path}"),
            None => "set TINKEX_CACHE to a directory for it".to_owned(),
        };
        if self.offline {
            let mut directories = own.clone().into_iter().chain(self.snapshot(id));
            if let Some(error) = directories.find_map(|from| other_format(id, &from, destination.as_deref())) {
                return Err(error);
            }
            let message = format!("the tokenizer {id:?} is not in the cache, and HF_HUB_OFFLINE forbids downloads");
            return Err(Error::new(ErrorKind::Io, message).with_hint(hint));
        }
        let config = match &self.config {
            Some(config) => config.clone(),
            // Nothing is sent to the service, so its URL does not matter.
            None => Config::builder().api_key("tml-unused").base_url("http://localhost").build_with(|_| None)?,
        };
        let hub = Hub::new(&config, &self.endpoint, self.token.as_ref(), deadline);
        let files = hub.map_err(|error| error.with_hint(hint.clone()))?.files(id, &hint, destination.as_deref())?;
        let tokenizer = HuggingFace::parse(id, &files.tokenizer, files.config.as_deref())?;
        if let Some(own) = own {
            // The tokenizer last: its presence means that the files are complete.
            let stored = files
                .config
                .map_or(Ok(()), |config| write_atomically(&own.join(TOKENIZER_CONFIG), &config))
                .and_then(|()| write_atomically(&own.join(TOKENIZER), &files.tokenizer));
            if let Err(error) = stored {
                warn!("the tokenizer {id:?} cannot be stored in {}: {error}", own.display());
            }
        }
        Ok(Tokenizer::hugging_face(tokenizer))
    }

    /// The id has been validated: no part is only dots, and it has at most one slash.
    fn own_directory(&self, id: &str) -> Option<PathBuf> {
        Some(self.cache_dir.as_ref()?.join("tokenizers").join(id.replace('/', "--")))
    }

    /// The latest snapshot of the main branch in the cache of Hugging Face's programs.
    fn snapshot(&self, id: &str) -> Option<PathBuf> {
        let model = self.hub_cache_dir.as_ref()?.join(format!("models--{}", id.replace('/', "--")));
        let commit = fs::read_to_string(model.join("refs").join("main")).ok()?;
        let commit = commit.trim();
        let is_hash = !commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then(|| model.join("snapshots").join(commit))
    }
}

/// Reads a tokenizer from a file, or from the directory that contains it.
pub(super) fn from_path(path: &Path, id: Option<&str>) -> Result<Tokenizer> {
    let file = if path.is_dir() { path.join(TOKENIZER) } else { path.to_owned() };
    let (shown, name) = (file.display(), path.to_string_lossy());
    let json = fs::read(&file).map_err(|error| {
        let directory = file.parent().filter(|_| error.kind() == std::io::ErrorKind::NotFound);
        let other = directory.and_then(|from| other_format(id.unwrap_or(&name), from, Some(&shown.to_string())));
        other.unwrap_or_else(|| {
            Error::new(ErrorKind::Io, format!("the tokenizer {shown} cannot be read: {error}")).with_source(error)
        })
    })?;
    let config = fs::read(file.with_file_name(TOKENIZER_CONFIG)).ok();
    let parsed = HuggingFace::parse(id.unwrap_or(&name), &json, config.as_deref());
    parsed
        .map(Tokenizer::hugging_face)
        .map_err(|error| error.with_hint(format!("{shown} is damaged or not a tokenizer; replace or delete it")))
}

/// The error for a directory with a tokenizer in another format.
fn other_format(id: &str, directory: &Path, destination: Option<&str>) -> Option<Error> {
    let format = OTHER_FORMATS.iter().find(|format| directory.join(format.file).is_file())?;
    Some(format.error(id, &directory.display().to_string(), destination))
}
