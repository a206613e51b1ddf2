//! The agents, and how ureq is set up: proxy, certificates, buffers and connections.

use std::sync::Arc;
use std::time::Instant;

use ureq::config::AutoHeaderValue;
use ureq::http::Uri;
use ureq::{Agent, ProxyProtocol};

use super::connections::{Connections, Group};
use super::connector::connector;
use super::pooling::PoolingConnector;
use super::resolver::CachingResolver;
use super::security::Security;
use crate::config::{CONNECTION_BUFFER, Config};
use crate::error::{Error, Result};
use crate::http::request::Purpose;
use crate::rules::proxy::{ChosenProxy, ProxyScheme};

/// How many times the size of others the output buffer of a training client's connection has. A batch is megabytes, and each write
/// is a call of the system, which wakes whoever reads. Who chose buffers smaller than the usual ones has no memory for that.
const TRAINING_BUFFERS: usize = 8;

/// One agent for each purpose, and one for other servers than the service. They share the resolver's cache, and what watches their
/// idle connections.
pub(in crate::http) struct Agents {
    service: [Agent; Purpose::ALL.len()],
    external: Agent,
    connections: Arc<Connections>,
}

impl Agents {
    pub(in crate::http) fn new(config: &Config) -> Result<Self> {
        let connections = Connections::new(config);
        let resolver = CachingResolver::new(config, &connections, Group::External);
        let security = Security::new(config);
        let agent = |settings, group| {
            let resolver = resolver.of(group);
            let fresh = connector(resolver.clone(), security.clone(), config.thread_options());
            Agent::with_parts(settings, PoolingConnector::new(fresh, &connections, group), resolver)
        };
        let proxy = config.base_url().parse().ok().map(|uri| proxy_for(config, &uri)).transpose()?.flatten();
        let buffer = config.connection_buffer();
        let service = settings(config, proxy.clone(), buffer)?;
        let times = if buffer < CONNECTION_BUFFER { 1 } else { TRAINING_BUFFERS };
        let training = settings(config, proxy, buffer.saturating_mul(times))?;
        let of = |purpose| if purpose == Purpose::Training { &training } else { &service };
        Ok(Agents {
            service: Purpose::ALL.map(|purpose| agent(of(purpose).clone(), Group::Service(purpose))),
            external: agent(settings(config, None, buffer)?, Group::External),
            connections,
        })
    }

    pub(in crate::http) fn of(&self, purpose: Purpose) -> &Agent {
        &self.service[purpose as usize]
    }

    /// For other servers than the service. Each of its requests needs the proxy of its URL.
    pub(in crate::http) fn external(&self) -> &Agent {
        &self.external
    }

    /// Ends every request but telemetry's, and refuses new ones.
    pub(in crate::http) fn shut_down_all_but_telemetry(&self) {
        for purpose in Purpose::ALL.into_iter().filter(|purpose| *purpose != Purpose::Telemetry) {
            self.shut_down(Group::Service(purpose));
        }
        self.shut_down(Group::External);
    }

    pub(in crate::http) fn shut_down_telemetry(&self) {
        self.shut_down(Group::Service(Purpose::Telemetry));
    }

    fn shut_down(&self, group: Group) {
        match group {
            Group::Service(purpose) => self.of(purpose).clone().shutdown(),
            Group::External => self.external.clone().shutdown(),
        }
        self.connections.close(group);
    }

    pub(in crate::http) fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Joins the thread that closes idle connections, once all agents are shut down.
    pub(in crate::http) fn join_by(&self, deadline: Instant) {
        self.connections.join_by(deadline);
    }
}

/// The proxy of requests to this URL, as ureq takes it.
pub(in crate::http) fn proxy_for(config: &Config, uri: &Uri) -> Result<Option<ureq::Proxy>> {
    let Some(ChosenProxy { setting, address }) = config.proxy_for(uri)? else { return Ok(None) };
    let mut builder = ureq::Proxy::builder(match address.scheme {
        ProxyScheme::Http => ProxyProtocol::Http,
        ProxyScheme::Https => ProxyProtocol::Https,
        ProxyScheme::Socks4 => ProxyProtocol::Socks4,
        ProxyScheme::Socks4a => ProxyProtocol::Socks4A,
        ProxyScheme::Socks5 => ProxyProtocol::Socks5,
        ProxyScheme::Socks5h => ProxyProtocol::Socks5h,
    });
    builder = builder.host(&address.host).port(address.port);
    if let Some(user) = &address.user {
        builder = builder.username(user);
    }
    if let Some(password) = &address.password {
        builder = builder.password(password);
    }
    let built = builder.build();
    built.map(Some).map_err(|error| Error::config(format!("{setting}: the proxy URL is not valid")).with_source(error))
}

/// How ureq connects, if these requests use this proxy, and writes them through a buffer of this size.
fn settings(config: &Config, proxy: Option<ureq::Proxy>, output_buffer: usize) -> Result<ureq::config::Config> {
    let builder = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(proxy)
        .user_agent(AutoHeaderValue::None)
        .accept(AutoHeaderValue::None)
        .input_buffer_size(config.connection_buffer())
        .output_buffer_size(output_buffer)
        .max_idle_connections(0)
        .timeout_connect(Some(config.timeout_connect()));
    #[cfg(all(feature = "native-tls", not(feature = "rustls")))]
    let builder = builder.tls_config(tls(config)?);
    Ok(builder.build())
}

/// What the system's TLS library trusts. With rustls, the connector knows it.
#[cfg(all(feature = "native-tls", not(feature = "rustls")))]
fn tls(config: &Config) -> Result<ureq::tls::TlsConfig> {
    use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

    let builder = TlsConfig::builder().provider(TlsProvider::NativeTls);
    let roots = config.roots()?;
    let own = roots.certificates.iter().map(|der| Certificate::from_der(der).to_owned());
    let bundled = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().filter(|_| roots.with_bundled);
    let bundled = bundled.map(|der| Certificate::from_der(der).to_owned());
    Ok(builder.root_certs(RootCerts::from(own.chain(bundled).collect::<Vec<_>>())).build())
}
