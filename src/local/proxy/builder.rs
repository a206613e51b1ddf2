//! The builder of a proxy.

use std::fmt;
use std::io;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::Duration;

use super::OpenAiProxy;
use super::served_model::ServedModel;
use crate::chat::Renderer;
use crate::error::{Error, ErrorKind, Result, system};
use crate::local::openai::TextFormat;
use crate::local::server::net::Limits;
use crate::local::server::origins::AllowedOrigins;
use crate::sampling::SamplingClient;

const OPERATION: &str = "OpenAiProxy::start";

/// Configures an [`OpenAiProxy`].
#[must_use = "a builder does nothing until `start` is called"]
pub struct OpenAiProxyBuilder {
    address: String,
    settings: Settings,
}

/// The settings of a proxy.
pub(super) struct Settings {
    pub(super) models: Vec<Arc<ServedModel>>,
    pub(super) key_check: KeyCheck,
    pub(super) origins: AllowedOrigins,
    pub(super) max_connections: usize,
    pub(super) limits: Limits,
}

type KeyCheck = Box<dyn Fn(&str) -> bool + Send>;

impl Default for OpenAiProxyBuilder {
    fn default() -> Self {
        let limits = Limits {
            max_body: 64 * 1024 * 1024,
            timeout_header: Duration::from_secs(10),
            timeout_idle: Duration::from_secs(120),
        };
        let settings = Settings {
            models: Vec::new(),
            key_check: Box::new(|_| true),
            origins: AllowedOrigins::default(),
            max_connections: 4096,
            limits,
        };
        OpenAiProxyBuilder { address: "127.0.0.1:0".to_owned(), settings }
    }
}

impl OpenAiProxyBuilder {
    /// The address to listen on. Port 0 takes any free port. Defaults to `127.0.0.1:0`.
    pub fn addr(mut self, address: impl Into<String>) -> Self {
        self.address = address.into();
        self
    }

    /// Adds a model: the name by which clients ask for it, what samples from it, and how it writes chats.
    pub fn model(mut self, name: impl Into<String>, sampler: SamplingClient, renderer: Renderer) -> Self {
        let format = Arc::new(TextFormat::new(renderer, &[]));
        self.settings.models.push(Arc::new(ServedModel { name: name.into(), sampler, format }));
        self
    }

    /// Decides which API keys may use the proxy; a request without one has an empty key. Defaults to all.
    pub fn api_key_check(mut self, check: impl Fn(&str) -> bool + Send + 'static) -> Self {
        self.settings.key_check = Box::new(check);
        self
    }

    /// Lets web pages of this origin use the API from a browser, such as `http://localhost:3000`, `null` for pages in files, or `*` for
    /// all; can be repeated. Defaults to none: requests that a browser sends for a page get 403, so that no page samples at your cost.
    ///
    /// ```
    /// tinkex::local::OpenAiProxy::builder().allow_origin("http://localhost:3000");
    /// ```
    pub fn allow_origin(mut self, origin: impl Into<String>) -> Self {
        self.settings.origins.add(origin.into());
        self
    }

    /// Starts the proxy.
    ///
    /// # Errors
    ///
    /// The address is invalid or in use, a socket could not be opened or a thread not started ([`ErrorKind::Io`]); there is no
    /// model, two have the same name, or an allowed origin is none ([`ErrorKind::Config`]).
    pub fn start(self) -> Result<OpenAiProxy> {
        self.settings.origins.check().map_err(|error| error.with_operation(OPERATION))?;
        let names: Vec<&str> = self.settings.models.iter().map(|model| model.name.as_str()).collect();
        let duplicate = (1..names.len()).find(|index| names[..*index].contains(&names[*index]));
        let config_error = match duplicate {
            _ if names.is_empty() => Some(Error::config("the proxy has no model").with_hint("add one with `model`")),
            Some(index) => Some(
                Error::config(format!("two models have the name {:?}", names[index]))
                    .with_hint("give each a name of its own"),
            ),
            None => None,
        };
        if let Some(error) = config_error {
            return Err(error.with_operation(OPERATION));
        }
        let OpenAiProxyBuilder { address, settings } = self;
        let start_error = |error: io::Error| {
            let hint =
                system::start_hint(&error).unwrap_or("use an address HOST:PORT that is free, such as 127.0.0.1:0");
            let error = io::Error::new(error.kind(), format!("{address:?}: {error}"));
            Error::new(ErrorKind::Io, "failed to start the proxy")
                .with_hint(hint)
                .with_operation(OPERATION)
                .with_source(error)
        };
        let mut addresses = address.to_socket_addrs().map_err(start_error)?;
        let first = addresses.next().ok_or_else(|| start_error(io::ErrorKind::AddrNotAvailable.into()))?;
        OpenAiProxy::start(first, settings).map_err(start_error)
    }
}

impl fmt::Debug for OpenAiProxyBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.settings.models.iter().map(|model| &model.name).collect();
        f.debug_struct("OpenAiProxyBuilder")
            .field("address", &self.address)
            .field("models", &names)
            .finish_non_exhaustive()
    }
}
