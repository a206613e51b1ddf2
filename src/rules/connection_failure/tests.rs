use super::ConnectionFault as Fault;
use super::*;

fn diagnosis(stage: ConnectionStage, proxy: Option<&str>, report: ConnectionReport<'_>) -> (Fault, Outlook, String) {
    let ConnectionDiagnosis { fault, outlook, words, .. } = ConnectionFailure { stage, proxy, report }.diagnosis();
    (fault, outlook, words)
}

#[test]
fn lookups_fail_for_good_or_for_now() {
    for (text, outlook, words) in [
        ("Name or service not known", Outlook::OneMoreTry, "no such host"),
        ("No address associated with hostname", Outlook::OneMoreTry, "no such host"),
        ("Name does not resolve", Outlook::OneMoreTry, "no such host"),
        ("nodename nor servname provided, or not known", Outlook::OneMoreTry, "no such host"),
        ("No such host is known. (os error 11001)", Outlook::OneMoreTry, "no such host"),
        (
            "Temporary failure in name resolution",
            Outlook::Temporary,
            "name lookup failed: Temporary failure in name resolution",
        ),
        ("Try again", Outlook::Temporary, "name lookup failed: Try again"),
        ("Bad value for ai_flags", Outlook::OneMoreTry, "name lookup failed: Bad value for ai_flags"),
    ] {
        let full = format!("failed to lookup address information: {text}");
        for text in [text, &full] {
            let report = ConnectionReport::Io(io::ErrorKind::Other, text);
            assert_eq!(diagnosis(ConnectionStage::Lookup, None, report), (Fault::Name, outlook, words.to_owned()));
        }
    }
}

#[test]
fn a_local_limit_is_no_network_fault() {
    let descriptor = "Too many open files (os error 24)";
    let thread = "Resource temporarily unavailable (os error 11)";
    for (stage, text, words) in [
        (ConnectionStage::Lookup, descriptor, "too many open files"),
        (ConnectionStage::Route, descriptor, "too many open files"),
        (ConnectionStage::Route, "Too many open files in system (os error 23)", "too many open files"),
        (ConnectionStage::Tls, "Cannot allocate memory (os error 12)", "out of memory"),
        (ConnectionStage::Lookup, thread, "the tinkex-dns thread could not be started"),
    ] {
        for proxy in [None, Some("127.0.0.1:3128")] {
            let report = ConnectionReport::Io(io::ErrorKind::Other, text);
            let expected = (Fault::LocalLimit, Outlook::Shortage, words.to_owned());
            assert_eq!(diagnosis(stage, proxy, report), expected);
        }
    }
    let report = ConnectionReport::Io(io::ErrorKind::WouldBlock, thread);
    assert_eq!(diagnosis(ConnectionStage::Route, None, report).0, Fault::Route);
    assert!(hint(Fault::LocalLimit, TOO_MANY_FILES).contains("ulimit -n"));
}

#[test]
fn a_timeout_says_what_took_too_long() {
    for (stage, proxy, fault, words) in [
        (ConnectionStage::Lookup, None, Fault::Name, "name lookup timed out"),
        (ConnectionStage::Route, None, Fault::Route, "timed out"),
        (ConnectionStage::Tls, None, Fault::Route, "the TLS handshake timed out"),
        (ConnectionStage::Route, Some("127.0.0.1:3128"), Fault::Proxy, "proxy 127.0.0.1:3128: timed out"),
    ] {
        let expected = (fault, Outlook::Temporary, words.to_owned());
        assert_eq!(diagnosis(stage, proxy, ConnectionReport::TimedOut), expected);
    }
}

#[test]
fn a_broken_route_may_recover() {
    for (kind, words) in [
        (io::ErrorKind::ConnectionRefused, "refused"),
        (io::ErrorKind::ConnectionReset, "connection reset"),
        (io::ErrorKind::UnexpectedEof, "connection closed"),
        (io::ErrorKind::NetworkUnreachable, "network unreachable"),
        (io::ErrorKind::HostUnreachable, "host unreachable"),
        (io::ErrorKind::Other, "text"),
    ] {
        let report = ConnectionReport::Io(kind, "text");
        let expected = (Fault::Route, Outlook::Temporary, words.to_owned());
        assert_eq!(diagnosis(ConnectionStage::Route, None, report), expected);
        let during = format!("{words} during the TLS handshake");
        assert_eq!(diagnosis(ConnectionStage::Tls, None, report), (Fault::Route, Outlook::Temporary, during));
    }
}

#[test]
fn certificates_and_protocols_are_permanent_faults() {
    let other_host = "invalid peer certificate: certificate not valid for name \"a\"; certificate is only valid for b";
    for (text, fault, words) in [
        ("invalid peer certificate: UnknownIssuer", Fault::Certificate, "certificate not trusted: unknown issuer"),
        (
            "certificate verify failed: (self-signed certificate in certificate chain)",
            Fault::Certificate,
            "certificate not trusted: self-signed, or unknown issuer",
        ),
        (
            "certificate verify failed: (unable to get local issuer certificate)",
            Fault::Certificate,
            "certificate not trusted: unknown issuer",
        ),
        (
            "invalid peer certificate: certificate expired: verification time 2 (UNIX), but …",
            Fault::Certificate,
            "certificate not trusted: it has expired",
        ),
        (
            "invalid peer certificate: certificate not valid yet: verification time 2",
            Fault::Certificate,
            "certificate not trusted: it is not valid yet",
        ),
        (other_host, Fault::Certificate, "certificate not trusted: it is that of another host: it is only valid for b"),
        (
            "certificate verify failed: (hostname mismatch)",
            Fault::Certificate,
            "certificate not trusted: it is that of another host",
        ),
        ("invalid peer certificate: BadSignature", Fault::Certificate, "certificate not trusted: BadSignature"),
        ("received corrupt message of type InvalidContentType", Fault::Tls, "the port does not speak TLS"),
        ("error:0A00010B:SSL routines::wrong version number", Fault::Tls, "the port does not speak TLS"),
        (
            "received fatal alert: ProtocolVersion",
            Fault::Tls,
            "TLS handshake failed: received fatal alert: ProtocolVersion",
        ),
    ] {
        let expected = (fault, Outlook::Permanent, words.to_owned());
        let io = ConnectionReport::Io(io::ErrorKind::InvalidData, text);
        assert_eq!(diagnosis(ConnectionStage::Tls, None, io), expected);
        assert_eq!(diagnosis(ConnectionStage::Tls, None, ConnectionReport::Other(text)), expected);
    }
    let (fault, outlook, words) = diagnosis(ConnectionStage::Response, None, ConnectionReport::TlsRecord);
    assert_eq!((fault, outlook), (Fault::Tls, Outlook::Permanent));
    assert!(words.starts_with("the port speaks TLS"), "{words}");
    let not_http = diagnosis(ConnectionStage::Response, None, ConnectionReport::NotHttp("no status"));
    assert_eq!((not_http.0, not_http.1), (Fault::Protocol, Outlook::OneMoreTry));
}

#[test]
fn a_proxy_is_named_with_its_response() {
    let proxy = Some("127.0.0.1:3128");
    for (report, outlook, words) in [
        (
            ConnectionReport::ProxyStatus(407),
            Outlook::Permanent,
            "proxy 127.0.0.1:3128 answered 407: it wants a user name and password",
        ),
        (
            ConnectionReport::ProxyStatus(403),
            Outlook::Permanent,
            "proxy 127.0.0.1:3128 answered 403: it does not allow this connection",
        ),
        (
            ConnectionReport::ProxyStatus(502),
            Outlook::Temporary,
            "proxy 127.0.0.1:3128 answered 502: it cannot reach the server",
        ),
        (ConnectionReport::ProxyStatus(429), Outlook::Temporary, "proxy 127.0.0.1:3128 answered 429"),
        (
            ConnectionReport::Io(io::ErrorKind::ConnectionRefused, "os"),
            Outlook::Temporary,
            "proxy 127.0.0.1:3128 refused",
        ),
        (
            ConnectionReport::Io(io::ErrorKind::PermissionDenied, "password authentication failed"),
            Outlook::Permanent,
            "proxy 127.0.0.1:3128 answered: refused the user name and password",
        ),
        (
            ConnectionReport::Io(io::ErrorKind::Other, "host unreachable"),
            Outlook::Temporary,
            "proxy 127.0.0.1:3128 answered: host unreachable",
        ),
    ] {
        let expected = (Fault::Proxy, outlook, words.to_owned());
        assert_eq!(diagnosis(ConnectionStage::Route, proxy, report), expected);
    }
    let unknown = ConnectionReport::Io(io::ErrorKind::Other, "Name or service not known");
    let expected = (Fault::Proxy, Outlook::OneMoreTry, "proxy 127.0.0.1:3128: no such host".to_owned());
    assert_eq!(diagnosis(ConnectionStage::Lookup, proxy, unknown), expected);
}
