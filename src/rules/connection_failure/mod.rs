//! What a failed connection means: which part is at fault, whether another attempt can help, and the reason in a few words.

use std::io;

use crate::error::{ConnectionFault, Outlook};

/// How far a connection got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionStage {
    /// The name of the server was looked up, or that of the proxy.
    Lookup,
    /// The connection was made by TCP, and through the proxy.
    Route,
    /// The TLS handshake.
    Tls,
    /// The first response was read.
    Response,
}

/// What the system, the TLS library or the proxy reported.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ConnectionReport<'a> {
    /// An I/O error and its text.
    Io(io::ErrorKind, &'a str),
    /// Nothing came in time.
    TimedOut,
    /// The status with which an HTTP proxy refused to connect.
    ProxyStatus(u16),
    /// The response is a TLS record.
    TlsRecord,
    /// The response is not HTTP.
    NotHttp(&'a str),
    /// Another text, that of a TLS library for example.
    Other(&'a str),
}

/// A failed connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionFailure<'a> {
    pub(crate) stage: ConnectionStage,
    /// The `HOST:PORT` of the proxy, if the connection to the proxy failed or the proxy refused to connect.
    pub(crate) proxy: Option<&'a str>,
    pub(crate) report: ConnectionReport<'a>,
}

/// What a [`ConnectionFailure`] means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionDiagnosis {
    pub(crate) fault: ConnectionFault,
    pub(crate) outlook: Outlook,
    /// Why, for the end of the error's first line: `refused`, `certificate not trusted: unknown issuer`.
    pub(crate) words: String,
    /// What to do about it.
    pub(crate) hint: &'static str,
}

impl ConnectionFailure<'_> {
    pub(crate) fn diagnosis(&self) -> ConnectionDiagnosis {
        if let ConnectionReport::Io(_, text) | ConnectionReport::Other(text) = self.report {
            if let Some(words) = shortage(self.stage, text) {
                let (fault, outlook) = (ConnectionFault::LocalLimit, Outlook::Shortage);
                return ConnectionDiagnosis { fault, outlook, words: words.to_owned(), hint: hint(fault, words) };
            }
        }
        let (fault, outlook, words) = match (self.stage, self.report) {
            (_, ConnectionReport::ProxyStatus(status)) => {
                (ConnectionFault::Proxy, status_outlook(status), format!("answered {status}{}", status_meaning(status)))
            }
            (stage, ConnectionReport::TimedOut) => timed_out(stage),
            (_, ConnectionReport::TlsRecord) => (ConnectionFault::Tls, Outlook::Permanent, SPEAKS_TLS.to_owned()),
            (_, ConnectionReport::NotHttp(text)) => {
                (ConnectionFault::Protocol, Outlook::OneMoreTry, format!("the response is not HTTP/1.1: {text}"))
            }
            (ConnectionStage::Lookup, ConnectionReport::Io(_, text) | ConnectionReport::Other(text)) => lookup(text),
            (
                ConnectionStage::Tls,
                ConnectionReport::Io(io::ErrorKind::InvalidData, text) | ConnectionReport::Other(text),
            ) => tls(text),
            (ConnectionStage::Tls, ConnectionReport::Io(kind, text)) => {
                let (_, _, words) = route(kind, text);
                (ConnectionFault::Route, Outlook::Temporary, format!("{words} during the TLS handshake"))
            }
            (_, ConnectionReport::Io(kind, text)) if self.proxy.is_some() => {
                socks(text).unwrap_or_else(|| route(kind, text))
            }
            (_, ConnectionReport::Io(kind, text)) => route(kind, text),
            (_, ConnectionReport::Other(text)) => (ConnectionFault::Route, Outlook::Temporary, text.to_owned()),
        };
        let (fault, words) = match self.proxy {
            Some(proxy) if fault == ConnectionFault::Certificate => (fault, format!("proxy {proxy}: {words}")),
            Some(proxy) => (ConnectionFault::Proxy, format!("proxy {proxy}{}", after_address(&words))),
            None => (fault, words),
        };
        let hint = hint(fault, &words);
        ConnectionDiagnosis { fault, outlook, words, hint }
    }
}

/// `refused` and `answered 407` follow the proxy's address directly, other reasons after a colon.
fn after_address(words: &str) -> String {
    let is_direct = words == REFUSED || words.starts_with("answered");
    if is_direct { format!(" {words}") } else { format!(": {words}") }
}

fn hint(fault: ConnectionFault, words: &str) -> &'static str {
    match fault {
        ConnectionFault::LocalLimit if words == TOO_MANY_FILES => {
            "raise the limit of open files (ulimit -n), or lower max_poll_connections, max_sampling_threads and max_idle_connections"
        }
        ConnectionFault::LocalLimit => {
            "raise the limit of memory (ulimit -v) or threads (ulimit -u), or lower thread_stack_size and connection_buffer"
        }
        ConnectionFault::Name => {
            "check the host in the base URL (TINKER_BASE_URL) and the network; if a proxy is required, set HTTPS_PROXY"
        }
        ConnectionFault::Route => {
            "check that the service runs, the host and port in the base URL (TINKER_BASE_URL) and the network; \
             if a proxy is required, set HTTPS_PROXY"
        }
        ConnectionFault::Proxy => {
            "check the proxy's address, user name and password in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY"
        }
        ConnectionFault::Certificate if words.ends_with(EXPIRED) => {
            "check this machine's clock; if it is right, the operators of the server must renew the certificate"
        }
        ConnectionFault::Certificate if words.ends_with(NOT_YET_VALID) => "check this machine's clock",
        ConnectionFault::Certificate if words.contains(OTHER_HOST) => {
            "check the host in the base URL (TINKER_BASE_URL)"
        }
        ConnectionFault::Certificate => {
            "if the service or a gateway has a certificate authority of its own, \
             name its PEM file in SSL_CERT_FILE, --ca-certificate of the program or add_root_certificate in code"
        }
        ConnectionFault::Tls if words.ends_with(SPEAKS_TLS) => "use https:// in the base URL (TINKER_BASE_URL)",
        ConnectionFault::Tls => {
            "check the scheme and port in the base URL (TINKER_BASE_URL): http:// for a port without TLS"
        }
        ConnectionFault::Protocol => "check the host and port in the base URL (TINKER_BASE_URL)",
    }
}

const SPEAKS_TLS: &str = "the port speaks TLS";
const REFUSED: &str = "refused";
const TOO_MANY_FILES: &str = "too many open files";
const EXPIRED: &str = "it has expired";
const NOT_YET_VALID: &str = "it is not valid yet";
const OTHER_HOST: &str = "it is that of another host";

/// Whether the process has no descriptors left, by the text of an I/O error.
pub(crate) fn is_out_of_files(text: &str) -> bool {
    shortage(ConnectionStage::Route, text) == Some(TOO_MANY_FILES)
}

/// What this process lacks, by the codes of Linux, macOS and Windows: only some of them have an [`io::ErrorKind`].
fn shortage(stage: ConnectionStage, text: &str) -> Option<&'static str> {
    let has = |codes: &[u32]| codes.iter().any(|code| text.ends_with(&format!("(os error {code})")));
    match stage {
        _ if has(&[23, 24, 10024]) => Some(TOO_MANY_FILES),
        _ if has(&[12, 55, 105, 10055]) => Some("out of memory"),
        // A lookup has a thread of its own.
        ConnectionStage::Lookup if has(&[11, 35]) => Some("the tinkex-dns thread could not be started"),
        _ => None,
    }
}

type Meaning = (ConnectionFault, Outlook, String);

/// The texts of glibc, musl, macOS and Windows: there is no portable code for them.
fn lookup(text: &str) -> Meaning {
    let reason = text.strip_prefix("failed to lookup address information: ").unwrap_or(text);
    let is_temporary = ["Temporary failure", "Try again", "usually a temporary error", "os error 11002", "os error 24"];
    if is_temporary.iter().any(|words| reason.contains(words)) {
        return (ConnectionFault::Name, Outlook::Temporary, format!("name lookup failed: {reason}"));
    }
    let is_unknown = [
        "not known",
        "does not resolve",
        "No address associated",
        "No such host",
        "host not found",
        "os error 11001",
        "os error 11004",
    ];
    if is_unknown.iter().any(|words| reason.contains(words)) {
        return (ConnectionFault::Name, Outlook::OneMoreTry, "no such host".to_owned());
    }
    (ConnectionFault::Name, Outlook::OneMoreTry, format!("name lookup failed: {reason}"))
}

fn timed_out(stage: ConnectionStage) -> Meaning {
    let (fault, words) = match stage {
        ConnectionStage::Lookup => (ConnectionFault::Name, "name lookup timed out"),
        ConnectionStage::Tls => (ConnectionFault::Route, "the TLS handshake timed out"),
        ConnectionStage::Route | ConnectionStage::Response => (ConnectionFault::Route, "timed out"),
    };
    (fault, Outlook::Temporary, words.to_owned())
}

fn route(kind: io::ErrorKind, text: &str) -> Meaning {
    let words = match kind {
        io::ErrorKind::ConnectionRefused => REFUSED,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            "connection reset"
        }
        io::ErrorKind::UnexpectedEof => "connection closed",
        io::ErrorKind::NetworkUnreachable => "network unreachable",
        io::ErrorKind::HostUnreachable => "host unreachable",
        _ => text,
    };
    (ConnectionFault::Route, Outlook::Temporary, words.to_owned())
}

/// ureq's texts about SOCKS. `None` if the connection to the proxy failed.
fn socks(text: &str) -> Option<Meaning> {
    let (outlook, words) = match text {
        "no acceptable auth methods" | "unknown auth method" => {
            (Outlook::Permanent, "wants another way to authenticate: a user name and password, or none")
        }
        "password authentication failed" => (Outlook::Permanent, "refused the user name and password"),
        "invalid username" | "invalid password" => {
            (Outlook::Permanent, "takes user names and passwords of 1 to 255 bytes only")
        }
        "invalid response version" | "invalid reserved byte" => (Outlook::Permanent, "does not speak SOCKS"),
        "connection not allowed by ruleset" | "command not supported" | "address kind not supported" => {
            (Outlook::Permanent, text)
        }
        "general SOCKS server failure"
        | "network unreachable"
        | "host unreachable"
        | "connection refused"
        | "TTL expired" => (Outlook::Temporary, text),
        _ => return None,
    };
    Some((ConnectionFault::Proxy, outlook, format!("answered: {words}")))
}

/// The texts of rustls and OpenSSL.
fn tls(text: &str) -> Meaning {
    let has = |words: &[&str]| words.iter().any(|words| text.contains(words));
    let certificate = |words: String| (ConnectionFault::Certificate, Outlook::Permanent, words);
    if has(&["certificate expired", "certificate has expired", "Expired"]) {
        return certificate(format!("certificate not trusted: {EXPIRED}"));
    }
    if has(&["not valid yet", "NotValidYet", "not yet valid"]) {
        return certificate(format!("certificate not trusted: {NOT_YET_VALID}"));
    }
    if has(&["not valid for name", "NotValidForName", "ostname mismatch", "address mismatch"]) {
        let names = text.split_once("certificate is ").map(|(_, names)| format!(": it is {names}")).unwrap_or_default();
        return certificate(format!("certificate not trusted: {OTHER_HOST}{names}"));
    }
    if has(&["UnknownIssuer", "unable to get local issuer", "unable to get issuer"]) {
        return certificate("certificate not trusted: unknown issuer".to_owned());
    }
    if has(&["self-signed certificate", "self signed certificate"]) {
        return certificate("certificate not trusted: self-signed, or unknown issuer".to_owned());
    }
    if let Some((_, reason)) = text.split_once("invalid peer certificate: ") {
        return certificate(format!("certificate not trusted: {reason}"));
    }
    if has(&["certificate verify failed"]) {
        return certificate(format!("certificate not trusted: {text}"));
    }
    if has(&[
        "received corrupt message",
        "wrong version number",
        "packet length too long",
        "http request",
        "unexpected message",
    ]) {
        return (ConnectionFault::Tls, Outlook::Permanent, "the port does not speak TLS".to_owned());
    }
    let outlook =
        if has(&["alert: InternalError", "internal error"]) { Outlook::Temporary } else { Outlook::Permanent };
    (ConnectionFault::Tls, outlook, format!("TLS handshake failed: {text}"))
}

/// Whether a proxy may connect later.
fn status_outlook(status: u16) -> Outlook {
    match status {
        408 | 429 | 500 | 502..=599 => Outlook::Temporary,
        _ => Outlook::Permanent,
    }
}

fn status_meaning(status: u16) -> &'static str {
    match status {
        401 | 407 => ": it wants a user name and password",
        403 => ": it does not allow this connection",
        405 | 501 => ": it does not make tunnels (CONNECT)",
        502..=504 => ": it cannot reach the server",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
