//! Which part of a connection is at fault.

use std::fmt;

/// Which part of a connection is at fault, in an error of kind [`Connect`](crate::ErrorKind::Connect) or of a timeout while
/// connecting: [`Error::connection_fault`](crate::Error::connection_fault).
///
/// ```
/// use tinkex::{Config, ConnectionFault, Proxy, ServiceClient};
///
/// // Nothing listens on this port.
/// let config = Config::builder().api_key("tml-k").base_url("http://127.0.0.1:9").proxy(Proxy::Off).max_retries(0);
/// let error = tinkex::api::Api::new(config.build()?)?.get("/api/v1/healthz").send().unwrap_err();
/// assert_eq!(error.connection_fault(), Some(ConnectionFault::Route));
/// assert!(error.message().ends_with("refused"));
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionFault {
    /// The host name has no address, or could not be looked up.
    Name,
    /// The host refused the connection, cannot be reached, or closed the connection.
    Route,
    /// The proxy cannot be reached, or refuses to connect: its address or its user name and password are wrong.
    Proxy,
    /// The server's certificate is not trusted, has expired, or is that of another host.
    Certificate,
    /// The TLS handshake failed for another reason: the port does not speak TLS, for example. Or the port speaks TLS, and the URL
    /// is http.
    Tls,
    /// The port does not speak HTTP/1.1.
    Protocol,
    /// This process may open no further socket or file, or start no further thread: it has reached a limit of the system.
    LocalLimit,
}

impl fmt::Display for ConnectionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConnectionFault::Name => "name lookup",
            ConnectionFault::Route => "route",
            ConnectionFault::Proxy => "proxy",
            ConnectionFault::Certificate => "certificate",
            ConnectionFault::Tls => "TLS",
            ConnectionFault::Protocol => "protocol",
            ConnectionFault::LocalLimit => "limit of this process",
        })
    }
}

/// Whether a further attempt to connect can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// The fault may pass.
    Temporary,
    /// This process lacks a descriptor, memory or a thread. Another part of it may give one back within seconds.
    Shortage,
    /// The fault will most likely stay: one more attempt makes sure.
    OneMoreTry,
    /// The fault stays until somebody changes a setting.
    Permanent,
}
