//! Finds tokenizers: at a path, in a cache or on the hub.

use std::fs;
use std::path::PathBuf;

use log::{debug, warn};

use super::hub::{self, Hub};
use super::package::{self, ABSENT, SENTENCE_PIECE, TOKENIZER, TOKENIZER_CONFIG};
use super::service_files::ServiceFiles;
use super::{BYTES, Tokenizer};
use crate::clock::Deadline;
use crate::config::{Config, Secret};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::write_atomically;
use crate::rules::tokenizer_id::{self, HubId};
use crate::types::TokenizerPackage;

/// Finds tokenizers by their id on the Hugging Face hub: in this crate's cache, in the cache of Hugging Face's own programs,
/// then on the hub itself. Downloads are stored in this crate's cache.
///
/// The source of a client ([`SamplingClient::tokenizer_source`](crate::SamplingClient::tokenizer_source)) first looks at the service
/// itself, if that says that it has the tokenizer, as the local server does of real models. Such a tokenizer is stored under its id
/// and a revision that is made of its files: another service may have another one under the same id.
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
/// `tokenizer_config.json` beside it if it has one. A `tiktoken.model`, as Kimi's models have it, or the only GGUF file of the
/// directory does, too, if there is no `tokenizer.json`. On a machine without a network, put the files there. A revision (a branch, a tag
/// or a commit) follows the id after an `@`, here and in the name of the directory: `organisation/name@v1.0`.
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
    service: Option<ServiceFiles>,
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
            service: None,
        }
    }

    /// The environment's, with the configuration of a client, after the files that its service has.
    pub(crate) fn of_service(config: &Config, package: Option<TokenizerPackage>) -> Self {
        let source = TokenizerSource::from_env().config(config);
        package.into_iter().fold(source, |source, package| source.service(config, package))
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

    /// Loads the tokenizer of this package from the service that has it, with the address and the key of this configuration, before
    /// looking anywhere else. Defaults to none; the source of a client has its service's.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(config: tinkex::Config, service: tinkex::ServiceClient) -> tinkex::Result<()> {
    /// for model in service.get_server_capabilities()?.supported_models {
    ///     if let Some(package) = model.tokenizer_package {
    ///         let id = package.id.clone();
    ///         println!("{:?}", tinkex::TokenizerSource::from_env().service(&config, package).load(&id)?.encode("hello")?);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn service(mut self, config: &Config, package: TokenizerPackage) -> Self {
        self.service = Some(ServiceFiles::new(config, package));
        self
    }

    /// Loads a tokenizer by its id: `organisation/name`, `organisation/name@revision`, or `bytes` for [`Tokenizer::bytes`]. Not cached in memory: keep the
    /// returned tokenizer. Blocks while it reads files and, if they are missing, for two downloads with up to 3 retries each, in all
    /// for the `timeout_operation` of the configuration at most.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for an invalid id, before any request; [`ErrorKind::Io`] if it is not in the cache and
    /// downloads are off; [`ErrorKind::Status`], [`ErrorKind::Connect`] and the like if the download fails;
    /// [`ErrorKind::Decode`] for a file that is not a tokenizer, which is then not stored, and for a tokenizer that exists only as
    /// `tokenizer.model`. The message says where to put a file, and how to convert one.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let tokenizer = tinkex::TokenizerSource::from_env().load("Qwen/Qwen3-8B")?;
    /// println!("{:?}", tokenizer.encode("hello")?);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn load(&self, id: &str) -> Result<Tokenizer> {
        self.load_until(id, self.deadline()).map_err(|error| error.with_operation("load"))
    }

    /// Loads another file of a tokenizer's repository by its name, such as `chat_template.jinja`: from the caches, then from the
    /// hub, as [`load`](TokenizerSource::load). `None` if the repository has no such file, which is remembered in this crate's
    /// cache; if downloads are off, also if a cache holds the tokenizer and not the file. Blocks for one download with up to 3
    /// retries, and for the `timeout_operation` of the configuration at most.
    ///
    /// # Errors
    ///
    /// As [`load`](TokenizerSource::load), but for [`ErrorKind::Decode`]: the content is not looked at.
    /// [`ErrorKind::InvalidInput`] for a name that is not that of a file.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let source = tinkex::TokenizerSource::from_env();
    /// if let Some(template) = source.load_file("Qwen/Qwen3-8B", "chat_template.jinja")? {
    ///     println!("{}", String::from_utf8_lossy(&template));
    /// }
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn load_file(&self, id: &str, name: &str) -> Result<Option<Vec<u8>>> {
        let service = self.service.as_ref().filter(|service| service.are_of(id));
        if id == BYTES && service.is_none() {
            return Ok(None);
        }
        if name.is_empty()
            || name.starts_with('.')
            || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        {
            return Err(Error::invalid_input(format!("{name:?} is not the name of a file of a tokenizer"))
                .with_hint("use a name such as tokenizer_config.json, without a directory"));
        }
        let file = match service {
            Some(service) => service.file(self.directory_of_service(service), name, self.deadline()),
            None => self.file(&tokenizer_id::parse(id)?, name),
        };
        file.map_err(|error| error.with_operation("load_file"))
    }

    fn file(&self, id: &HubId<'_>, name: &str) -> Result<Option<Vec<u8>>> {
        let (own, snapshot) = (self.own_directory(id), self.snapshot(id));
        for file in [&own, &snapshot].into_iter().flatten().map(|directory| directory.join(name)) {
            match fs::read(&file) {
                Ok(content) => return Ok(Some(content)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    let message = format!("{} cannot be read: {error}", file.display());
                    return Err(Error::new(ErrorKind::Io, message).with_source(error));
                }
            }
        }
        let absent = own.as_ref().map(|own| own.join(ABSENT).join(name));
        // The cache of Hugging Face's programs has a folder for each revision beside those of the snapshots.
        let absent_there = snapshot.as_ref().and_then(|snapshot| {
            Some(snapshot.parent()?.with_file_name(".no_exist").join(snapshot.file_name()?).join(name))
        });
        if absent.iter().chain(&absent_there).any(|file| file.exists()) {
            return Ok(None);
        }
        let is_cached = [&own, &snapshot].into_iter().flatten().any(|directory| directory.is_dir());
        let hint = match &own {
            Some(own) => format!("put its {name} at {}", own.join(name).display()),
            None => "set TINKEX_CACHE to a directory for it".to_owned(),
        };
        if self.offline {
            let message =
                format!("{name} of the tokenizer \"{id}\" is not in the cache, and HF_HUB_OFFLINE forbids downloads");
            return if is_cached { Ok(None) } else { Err(Error::new(ErrorKind::Io, message).with_hint(hint)) };
        }
        let alternative = if is_cached { format!("set HF_HUB_OFFLINE=1 to do without it, or {hint}") } else { hint };
        let content = self.hub(self.deadline(), &alternative)?.optional_file(id, name, &alternative)?;
        let stored = match (&content, &own, absent) {
            (Some(content), Some(own), _) => write_atomically(&own.join(name), content),
            (None, _, Some(absent)) if is_cached => write_atomically(&absent, b""),
            _ => Ok(()),
        };
        if let Err(error) = stored {
            warn!("{name} of the tokenizer \"{id}\" cannot be stored in the cache: {error}");
        }
        Ok(content)
    }

    /// When a call that begins now must end, by the configuration's `timeout_operation`.
    fn deadline(&self) -> Option<Deadline> {
        let config = self.config.as_ref().or_else(|| self.service.as_ref().map(ServiceFiles::config))?;
        Deadline::of_operation(config.clock(), config.timeout_operation())
    }

    pub(super) fn load_until(&self, id: &str, deadline: Option<Deadline>) -> Result<Tokenizer> {
        let service = self.service.as_ref().filter(|service| service.are_of(id));
        if let Some(loaded) = service.and_then(|service| service.load(self.directory_of_service(service), deadline)) {
            return loaded;
        }
        if id == BYTES {
            return Ok(Tokenizer::bytes());
        }
        let parsed = tokenizer_id::parse(id)?;
        let (own, snapshot) = (self.own_directory(&parsed), self.snapshot(&parsed));
        for directory in [&own, &snapshot].into_iter().flatten() {
            if package::find(directory)?.is_some() {
                debug!("reading the tokenizer {id:?} from {}", directory.display());
                return package::from_path(directory, Some(id));
            }
        }
        let destination = own.as_ref().map(|own| own.join(TOKENIZER).display().to_string());
        let hint = match &destination {
            Some(path) => format!("put its {TOKENIZER} at {path}"),
            None => "set TINKEX_CACHE to a directory for it".to_owned(),
        };
        if self.offline {
            let mut directories = [&own, &snapshot].into_iter().flatten();
            if let Some(from) = directories.find(|directory| directory.join(SENTENCE_PIECE).is_file()) {
                return Err(package::unreadable(id, &from.display().to_string(), destination.as_deref()));
            }
            let message = format!("the tokenizer {id:?} is not in the cache, and HF_HUB_OFFLINE forbids downloads");
            return Err(Error::new(ErrorKind::Io, message).with_hint(hint));
        }
        let files = self.hub(deadline, &hint)?.files(&parsed, &hint, destination.as_deref())?;
        let tokenizer = package::parse(id, files.name, &files.tokenizer, files.config.as_deref())?;
        if let Some(own) = own {
            // The tokenizer last: its presence means that the files are complete.
            let stored = files
                .config
                .map_or(Ok(()), |config| write_atomically(&own.join(TOKENIZER_CONFIG), &config))
                .and_then(|()| write_atomically(&own.join(files.name), &files.tokenizer));
            if let Err(error) = stored {
                warn!("the tokenizer {id:?} cannot be stored in {}: {error}", own.display());
            }
        }
        Ok(tokenizer)
    }

    /// The directory of a service's tokenizer in this crate's cache; `None` for an id that is no name of a directory.
    fn directory_of_service(&self, service: &ServiceFiles) -> Option<PathBuf> {
        self.own_directory(&tokenizer_id::parse(service.id()).ok()?)
    }

    /// The hub. For errors, `hint` names an alternative.
    pub(crate) fn hub(&self, deadline: Option<Deadline>, hint: &str) -> Result<Hub> {
        let config = match &self.config {
            Some(config) => config.clone(),
            // Nothing is sent to the service, so its URL does not matter.
            None => Config::builder().api_key("tml-unused").base_url("http://localhost").build_with(|_| None)?,
        };
        Hub::new(&config, &self.endpoint, self.token.as_ref(), deadline)
            .map_err(|error| error.with_hint(hint.to_owned()))
    }

    /// The directory of a tokenizer in this crate's cache.
    fn own_directory(&self, id: &HubId<'_>) -> Option<PathBuf> {
        self.directory_of("tokenizers", id)
    }

    /// The directory of a model in this crate's cache.
    #[cfg(feature = "pretrained")]
    pub(crate) fn model_directory(&self, id: &HubId<'_>) -> Option<PathBuf> {
        self.directory_of("models", id)
    }

    /// No part of an id is only dots, and none has two hyphens in a row.
    fn directory_of(&self, kind: &str, id: &HubId<'_>) -> Option<PathBuf> {
        Some(self.cache_dir.as_ref()?.join(kind).join(id.to_string().replace('/', "--")))
    }

    /// Whether nothing may be downloaded.
    #[cfg(feature = "pretrained")]
    pub(crate) fn is_offline(&self) -> bool {
        self.offline
    }

    /// The latest snapshot of a revision in the cache of Hugging Face's programs. A commit is its own snapshot.
    pub(crate) fn snapshot(&self, id: &HubId<'_>) -> Option<PathBuf> {
        let model = self.hub_cache_dir.as_ref()?.join(format!("models--{}", id.repository.replace('/', "--")));
        let is_hash = |commit: &str| !commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        let revision = id.revision.unwrap_or("main");
        let commit = match fs::read_to_string(model.join("refs").join(revision)) {
            Ok(commit) => commit.trim().to_owned(),
            Err(_) => revision.to_owned(),
        };
        Some(model.join("snapshots").join(commit.as_str())).filter(|_| is_hash(&commit))
    }
}
