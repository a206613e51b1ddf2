//! TLS by rustls.
//!
//! ureq's own connector trusts either the bundled authorities or given ones, and each agent builds its own settings. This one
//! adds authorities to the bundled ones, and all agents share its settings, with their memory and the sessions that TLS resumes.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, OnceLock};

use log::warn;
use rustls::crypto::{CryptoProvider, KeyProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::SigningKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use ureq::Error;
use ureq::unversioned::transport::time::{Duration, Instant};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use crate::config::{Config, Roots};
use crate::error;

/// Wraps connections of https URLs.
#[derive(Clone)]
pub(super) struct RustlsConnector {
    config: Config,
    /// Once the first connection needs TLS.
    client: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl RustlsConnector {
    pub(super) fn new(config: &Config) -> Self {
        RustlsConnector { config: config.clone(), client: Arc::default() }
    }

    fn client(&self) -> Result<Arc<ClientConfig>, error::Error> {
        if let Some(client) = self.client.get() {
            return Ok(Arc::clone(client));
        }
        let roots = store(self.config.roots()?)?;
        let provider = Arc::new(CryptoProvider { key_provider: &NoKeys, ..ring::default_provider() });
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let versions = versions.map_err(|error| error::Error::config("TLS cannot be set up").with_source(error))?;
        let client = Arc::new(versions.with_root_certificates(roots).with_no_client_auth());
        Ok(Arc::clone(self.client.get_or_init(|| client)))
    }
}

/// A client has no certificate of its own. What signs with the key of one would be 1 % of a small program.
#[derive(Debug)]
struct NoKeys;

impl KeyProvider for NoKeys {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General("there are no keys".to_owned()))
    }
}

fn store(roots: &Roots) -> Result<RootCertStore, error::Error> {
    let mut store = RootCertStore::empty();
    if roots.with_bundled {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let own = roots.certificates.iter().map(|der| CertificateDer::from_slice(der));
    let (added, ignored) = store.add_parsable_certificates(own);
    if ignored > 0 && added == 0 {
        let message = "none of the root certificates can be used: they are damaged, or no X.509 certificates";
        return Err(error::Error::config(message)
            .with_hint("check the files in SSL_CERT_FILE and SSL_CERT_DIR, and those passed to the builder"));
    }
    if ignored > 0 {
        warn!("{ignored} root certificates are left out: they are damaged, or no X.509 certificates");
    }
    Ok(store)
}

impl<T: Transport> Connector<T> for RustlsConnector {
    type Out = Either<T, RustlsTransport<T>>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<T>) -> Result<Option<Self::Out>, Error> {
        let Some(route) = chained else { return Ok(None) };
        if !details.needs_tls() || route.is_tls() {
            return Ok(Some(Either::A(route)));
        }
        let client = self.client().map_err(|error| Error::Other(Box::new(error)))?;
        let host = details.uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::BadUri(details.uri.to_string()))?;
        let connection = ClientConnection::new(client, name)?;
        let mut adapter = TransportAdapter::new(route, Arc::clone(&details.current_time));
        adapter.set_timeout(time_left(details));
        let mut stream = StreamOwned::new(connection, adapter);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        stream.flush()?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Either::B(RustlsTransport { buffers, stream })))
    }
}

/// What the route has left of the timeout for connecting.
fn time_left(details: &ConnectionDetails<'_>) -> NextTimeout {
    let mut timeout = details.timeout;
    if let (Instant::Exact(now), Instant::Exact(started), Duration::Exact(after)) =
        ((details.current_time)(), details.now, timeout.after)
    {
        timeout.after = Duration::Exact(after.saturating_sub(now.saturating_duration_since(started)));
    }
    timeout
}

impl fmt::Debug for RustlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RustlsConnector")
    }
}

/// A connection with TLS.
pub(super) struct RustlsTransport<T: Transport> {
    /// Of plain text.
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter<T>>,
}

impl<T: Transport> Transport for RustlsTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let read = std::io::Read::read(&mut self.stream, self.buffers.input_append_buf())?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl<T: Transport> fmt::Debug for RustlsTransport<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RustlsTransport")
    }
}
