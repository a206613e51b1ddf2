//! Proxies from the settings and from the environment.

use std::collections::BTreeSet;
use std::process::Command;

use tinkex::{Config, Proxy};

use super::{connect, everything};
use crate::support::{Reply, Service, healthy_service};

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

/// Environment variables belong to the process, so this test runs itself in a child process with a proxy set.
#[test]
fn the_environments_proxy_applies_unless_off() {
    const TARGET: &str = "TINKEX_TEST_TARGET";
    if let Ok(target) = std::env::var(TARGET) {
        connect(Config::builder().api_key("tml-k").base_url(target).proxy(Proxy::Off)).unwrap();
        connect(Config::builder().api_key("tml-k").base_url("http://service.invalid:8123")).unwrap();
        return;
    }
    let (direct, proxy) = (Service::start(healthy_service), proxy());
    let mut again = Command::new(std::env::current_exe().unwrap());
    for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"] {
        again.env_remove(name).env_remove(name.to_lowercase());
    }
    let name = "config::proxies::the_environments_proxy_applies_unless_off";
    let output = again.args(["--exact", name]).env(TARGET, direct.url()).env("HTTP_PROXY", proxy.url()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(direct.requests_to("create_session").len(), 1);
    assert_eq!(tunnels(&direct), BTreeSet::new());
    assert_eq!(proxy.requests_to("create_session").len(), 1);
    assert_eq!(tunnels(&proxy), BTreeSet::from(["service.invalid:8123".to_owned()]));
}
