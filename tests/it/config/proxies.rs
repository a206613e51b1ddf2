//! Proxies from the settings and from the environment.

use std::collections::BTreeSet;
use std::net::TcpListener;

use tinkex::api::Api;
use tinkex::clock::ManualClock;
use tinkex::{Config, ConnectionFault, ErrorKind, Proxy, ServiceClient};

use super::{connect, everything};
use crate::support::{Reply, Service, healthy_service, refusing_proxy, socks_proxy};

/// A proxy that is also the service. ureq opens a tunnel for plain http, too.
fn proxy() -> Service {
    Service::start(|request| match &*request.method {
        "CONNECT" => Reply::Full { status: 200, headers: vec![], body: vec![] },
        _ => healthy_service(request),
    })
}

fn tunnels(service: &Service) -> BTreeSet<String> {
    service.requests().into_iter().filter(|request| request.method == "CONNECT").map(|request| request.path).collect()
}

#[test]
fn requests_go_through_the_proxy() {
    let service = proxy();
    let target = "service.invalid:8123";
    let with_user = service.url().replace("http://", "http://me:word@");
    let config = Config::builder().api_key("tml-k").base_url(format!("http://{target}")).proxy(Proxy::Url(with_user));
    everything(config);
    assert_eq!(tunnels(&service), BTreeSet::from([target.to_owned()]));
    for seen in service.requests() {
        let is_tunnel = seen.method == "CONNECT";
        // me:word
        assert_eq!(seen.header("proxy-authorization"), is_tunnel.then_some("Basic bWU6d29yZA=="));
        assert_eq!(seen.header("x-api-key").is_some(), !is_tunnel);
    }
}

/// A configuration with these variables.
fn with_variables(url: &str, set: &[(&str, &str)]) -> tinkex::Result<Config> {
    Config::builder()
        .api_key("tml-k")
        .base_url(url)
        .telemetry(false)
        .build_with(|name| set.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned()))
}

#[test]
fn the_environments_proxy_applies_unless_off() {
    let (direct, proxy) = (Service::start(healthy_service), proxy());
    let url = &*proxy.url();
    for set in [[("HTTP_PROXY", url)], [("http_proxy", url)], [("ALL_PROXY", url)]] {
        let config = with_variables("http://service.invalid:8123", &set).unwrap();
        assert_eq!(config.proxy_in_use(), Some(format!("{url} ({})", set[0].0)));
        ServiceClient::connect(config).unwrap();
        // This machine.
        let config = with_variables(&direct.url(), &set).unwrap();
        assert_eq!(config.proxy_in_use(), None);
        ServiceClient::connect(config).unwrap();
    }
    let off = Config::builder().api_key("tml-k").base_url(direct.url()).proxy(Proxy::Off);
    ServiceClient::connect(off.build_with(|name| (name == "HTTP_PROXY").then(|| url.to_owned())).unwrap()).unwrap();
    assert_eq!(direct.requests_to("create_session").len(), 4);
    assert_eq!(tunnels(&direct), BTreeSet::new());
    assert_eq!(proxy.requests_to("create_session").len(), 3);
    assert_eq!(tunnels(&proxy), BTreeSet::from(["service.invalid:8123".to_owned()]));
}

#[test]
fn no_proxy_covers_as_in_curl() {
    let proxy = proxy();
    let url = &*proxy.url();
    for (no_proxy, covered) in [
        ("corp.test", true),
        ("a.b, api.corp.test", true),
        ("api.corp.test:8000", true),
        ("api.corp.test:8001", false),
        ("pi.corp.test", false),
    ] {
        let set = [("HTTP_PROXY", url), ("NO_PROXY", no_proxy)];
        let config = with_variables("http://api.corp.test:8000", &set).unwrap();
        assert_eq!(config.proxy_in_use().is_none(), covered, "{no_proxy}");
    }
    let set = [("HTTP_PROXY", url), ("NO_PROXY", "10.0.0.0/8")];
    assert_eq!(with_variables("http://10.1.2.3:8000", &set).unwrap().proxy_in_use(), None);
}

#[test]
fn an_unusable_variable_is_refused_by_name() {
    for (set, words) in [
        (vec![("ALL_PROXY", "socks://me:secret@host:1")], "ALL_PROXY: the proxy URL has the unsupported scheme"),
        (vec![("http_proxy", "http://me:secret@host:port")], "http_proxy: the proxy URL has a port"),
        (vec![("HTTP_PROXY", "http://host"), ("NO_PROXY", "10.0.0.0/99")], "NO_PROXY has the entry"),
    ] {
        let error = with_variables("http://service.invalid", &set).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().starts_with(words) && !error.to_string().contains("secret"), "{error}");
        // The variables are not for this machine, nor for https.
        with_variables("http://127.0.0.1:1", &set).unwrap();
    }
}

#[test]
fn socks_proxies_connect_and_authenticate() {
    let service = Service::start(healthy_service);
    let address = service.url().replace("http://", "");
    for (scheme, login, target) in [
        ("socks5h", "", "http://service.invalid:8123".to_owned()),
        ("socks5h", "me:w%40rd@", "http://service.invalid:8123".to_owned()),
        // This machine looks the name up.
        ("socks5", "", "http://localhost:8123".to_owned()),
    ] {
        let (port, targets) = socks_proxy(address.clone());
        let proxy = Proxy::Url(format!("{scheme}://{login}127.0.0.1:{port}"));
        connect(Config::builder().api_key("tml-k").base_url(&target).telemetry(false).proxy(proxy)).unwrap();
        let (login, target) = targets.lock().unwrap()[0].clone();
        let expected = match scheme {
            "socks5h" => "service.invalid:8123",
            _ => "127.0.0.1:8123",
        };
        assert!(target == expected || target == "[::1]:8123", "{target}");
        assert!(login.is_empty() || login == "me:w@rd", "{login}");
    }
    assert_eq!(service.requests_to("create_session").len(), 3);
}

#[test]
fn a_proxy_that_refuses_ends_at_once() {
    let clock = ManualClock::new();
    for (response, words) in [
        ("407 Proxy Authentication Required", "answered 407: it wants a user name and password"),
        ("403 Forbidden", "answered 403: it does not allow this connection"),
        ("501 Not Implemented", "answered 501: it does not make tunnels (CONNECT)"),
    ] {
        let (port, tunnels) = refusing_proxy(response);
        let proxy = Proxy::Url(format!("http://127.0.0.1:{port}"));
        let config = Config::builder().api_key("tml-k").base_url("http://service.invalid").clock(clock.clock());
        let error = connect(config.proxy(proxy)).unwrap_err();
        let message = format!("cannot connect to http://service.invalid: proxy 127.0.0.1:{port} {words}");
        assert_eq!((error.message(), error.connection_fault()), (&*message, Some(ConnectionFault::Proxy)));
        assert!(!error.is_retryable() && error.hint().unwrap().contains("HTTPS_PROXY"), "{error}");
        assert_eq!(tunnels.lock().unwrap().len(), 1);
    }
}

#[test]
fn a_proxy_that_is_down_is_named() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (proxy, words) in [
        (format!("http://{closed}"), format!("proxy {closed} refused")),
        (format!("socks5h://{closed}"), format!("proxy {closed} refused")),
    ] {
        let config = Config::builder().api_key("tml-k").base_url("http://service.invalid").max_retries(0);
        let api = Api::new(config.proxy(Proxy::Url(proxy)).build_with(|_| None).unwrap()).unwrap();
        let error = api.get("/api/v1/healthz").send().unwrap_err();
        assert_eq!(error.message(), format!("cannot connect to http://service.invalid: {words}"));
        assert_eq!(error.connection_fault(), Some(ConnectionFault::Proxy));
        assert!(error.is_retryable());
    }
}
