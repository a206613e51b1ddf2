//! A failed connection on its way through ureq: what failed, and at which stage.

use std::fmt;
use std::io;

use ureq::config::Config;

use crate::rules::connection_failure::{
    ConnectionDiagnosis, ConnectionFailure, ConnectionReport, ConnectionStage, is_out_of_files,
};

/// An error of ureq, with the stage of the connection at which it came. It travels inside [`ureq::Error::Other`].
#[derive(Debug)]
pub(in crate::http) struct ConnectError {
    stage: ConnectionStage,
    /// The `HOST:PORT` of the proxy that could not be reached, or refused to connect.
    proxy: Option<String>,
    error: ureq::Error,
}

impl ConnectError {
    /// Adds the stage, unless the connection to the proxy already has.
    pub(super) fn at(stage: ConnectionStage, error: ureq::Error) -> ureq::Error {
        match Self::from_ureq(error) {
            Ok(known) => known.into(),
            Err(error) => ConnectError { stage, proxy: None, error }.into(),
        }
    }

    /// The route failed. If it leads through a proxy, the fault lies there.
    pub(super) fn on_route(error: ureq::Error, config: &Config) -> ureq::Error {
        let mut error = match Self::from_ureq(error) {
            Ok(known) => known,
            Err(error) => ConnectError { stage: ConnectionStage::Route, proxy: None, error },
        };
        let proxy = config.proxy().map(|proxy| format!("{}:{}", proxy.host(), proxy.port()));
        error.proxy = error.proxy.or(proxy);
        error.into()
    }

    /// The first bytes of the response to plain HTTP are those of a TLS record.
    pub(super) fn tls_record() -> ureq::Error {
        let error = io::Error::new(io::ErrorKind::InvalidData, "the response is a TLS record");
        ConnectError { stage: ConnectionStage::Response, proxy: None, error: error.into() }.into()
    }

    /// The error that ureq passed on, if it is one of these.
    pub(in crate::http) fn from_ureq(error: ureq::Error) -> Result<Self, ureq::Error> {
        match error {
            ureq::Error::Other(other) => {
                other.downcast::<ConnectError>().map(|known| *known).map_err(ureq::Error::Other)
            }
            error => Err(error),
        }
    }

    /// Whether the process has no descriptor left for a connection.
    pub(super) fn is_out_of_files(error: &ureq::Error) -> bool {
        let error = match error {
            ureq::Error::Other(other) => other.downcast_ref::<ConnectError>().map(|known| &known.error),
            error => Some(error),
        };
        matches!(error, Some(ureq::Error::Io(error)) if is_out_of_files(&error.to_string()))
    }

    pub(in crate::http) fn diagnosis(&self) -> ConnectionDiagnosis {
        let text;
        let report = match &self.error {
            ureq::Error::Io(_) if self.stage == ConnectionStage::Response => ConnectionReport::TlsRecord,
            ureq::Error::Io(error) => {
                text = error.to_string();
                ConnectionReport::Io(error.kind(), &text)
            }
            ureq::Error::Timeout(_) => ConnectionReport::TimedOut,
            ureq::Error::ConnectProxyFailed(said) => match status_in(said) {
                Some(status) => ConnectionReport::ProxyStatus(status),
                None => ConnectionReport::Other(said),
            },
            ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => {
                text = self.error.to_string();
                ConnectionReport::NotHttp(&text)
            }
            error => {
                text = error.to_string();
                ConnectionReport::Other(&text)
            }
        };
        ConnectionFailure { stage: self.stage, proxy: self.proxy.as_deref(), report }.diagnosis()
    }

    /// The error of ureq itself.
    pub(in crate::http) fn into_inner(self) -> ureq::Error {
        self.error
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for ConnectError {}

impl From<ConnectError> for ureq::Error {
    fn from(error: ConnectError) -> Self {
        ureq::Error::Other(Box::new(error))
    }
}

/// The status in ureq's text about a proxy that refuses to connect.
fn status_in(text: &str) -> Option<u16> {
    text.strip_prefix("proxy server responded ")?.split('/').next()?.parse().ok()
}
