//! `tinkex doctor`: checks everything between this machine and the service, from the nearest to the farthest.

mod report;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::{Duration, SystemTime};

use clap::Args;
use report::{EXIT_CODES, NotPassed, Report, exit_code, failed, failed_request, limited, skipped};
use tinkex::api::{Api, Response};
use tinkex::types::GetServerCapabilitiesResponse;
use tinkex::{Config, ConnectionFault, CredentialSource, ServiceClient};

use crate::app::App;
use crate::failure::Failure;

/// Timeout of one request.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum clock skew: certificates and signed URLs, which depend on the time, are valid for longer than that.
const MAX_SKEW: Duration = Duration::from_secs(5 * 60);

/// A smaller skew is not reported: it may come from the time that the request took.
const MIN_SKEW: Duration = Duration::from_secs(60);

/// How many models are named.
const MODELS_SHOWN: usize = 3;

/// Check the API key, the network and the service, and suggest fixes.
///
/// The checks are key, url, proxy, dns, connection, tls, server, access, clock and tokenizer. After a failed check, the remaining
/// ones are skipped; without a key, only those that need one. The exit code tells what is at fault: see below.
#[derive(Args, Debug)]
#[command(after_long_help = EXIT_CODES)]
pub(crate) struct Options {
    /// Model whose tokenizer is checked [default: the first model that the service lists].
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

pub(crate) fn run(app: &App, options: &Options) -> Result<(), Failure> {
    let report = run_checks(app, options);
    app.output.report(&report, &report)?;
    match report.fault() {
        None => Ok(()),
        Some(fault) => Err(Failure::reported_with(exit_code(fault))),
    }
}

fn run_checks(app: &App, options: &Options) -> Report {
    let mut report = Report::new();
    let key = report.check("key", || match app.require_key() {
        Ok(CredentialSource::Stored) => Ok(((), "a login stored it".to_owned())),
        Ok(source) => Ok(((), format!("{source} is set"))),
        Err(failure) => failed(failure.message(), failure.hint_text()),
    });
    let config = report.check("url", || match app.config_for_checks(key.is_some()) {
        Ok(config) => {
            let url = config.base_url().to_owned();
            Ok((config, url))
        }
        Err(failure) => failed(failure.message(), failure.hint_text()),
    });
    let proxy = config.as_ref().and_then(Config::proxy_in_use);
    let endpoint = config.as_ref().map(|config| Endpoint::of(config.base_url())).unwrap_or_default();
    // One request serves for the checks of the proxy, TLS, the server and the clock.
    let request = |config: Option<&Config>| config.map(|config| get(config, "/api/v1/healthz"));
    let mut response = None;
    report.check("proxy", || match &proxy {
        None => Ok(((), "none for this URL".to_owned())),
        Some(proxy) => {
            response = request(config.as_ref());
            through(proxy, response.as_ref())
        }
    });
    let addresses = report.check("dns", || match proxy {
        None => resolve(&endpoint),
        Some(_) => skipped("the proxy resolves the name"),
    });
    report.check("connection", || match &addresses {
        Some(addresses) => connect(addresses),
        None => skipped("the proxy makes the connection"),
    });
    if response.is_none() && report.failed_checks().all(|check| check == "key") {
        response = request(config.as_ref());
    }
    report.check("tls", || tls(&endpoint, response.as_ref()));
    let health = report.check("server", || server(response));
    let models = report.check("access", || access(config.as_ref()));
    report.check("clock", || clock(health.as_ref().and_then(|response| response.header("date")), app.now()));
    report.check("tokenizer", || match (&config, options.model.clone().or_else(|| models?.into_iter().next())) {
        (Some(config), Some(model)) => tokenizer(config, &model),
        _ => skipped("the service lists no model"),
    });
    report
}

/// Sends one request, without retries.
fn get(config: &Config, path: &str) -> tinkex::Result<Response> {
    Api::new(config.clone())?.get(path).max_retries(0).timeout_operation(Some(TIMEOUT)).send()
}

/// The endpoint that a base URL names.
#[derive(Debug, Default, PartialEq, Eq)]
struct Endpoint {
    is_https: bool,
    /// `HOST:PORT`, with the default port of the scheme if the URL has none.
    address: String,
}

impl Endpoint {
    fn of(base_url: &str) -> Self {
        let (scheme, rest) = base_url.split_once("://").unwrap_or(("http", base_url));
        let host = rest.split('/').next().unwrap_or_default();
        let is_https = scheme.eq_ignore_ascii_case("https");
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if is_https { 443 } else { 80 };
        Endpoint { is_https, address: if has_port { host.to_owned() } else { format!("{host}:{port}") } }
    }
}

/// The proxy is at fault if the request says so.
fn through(proxy: &str, response: Option<&tinkex::Result<Response>>) -> Result<((), String), NotPassed> {
    match response {
        Some(Err(error)) if error.connection_fault() == Some(ConnectionFault::Proxy) => {
            let failure = Failure::from(error.clone());
            failed(failure.message(), format!("the proxy in use is {proxy}; {}", failure.hint_text()))
        }
        _ => Ok(((), proxy.to_owned())),
    }
}

/// Blocks as long as the system's resolver takes.
fn resolve(endpoint: &Endpoint) -> Result<(Vec<SocketAddr>, String), NotPassed> {
    let addresses: Vec<SocketAddr> = match endpoint.address.to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            if let Some(limit) = socket_limit() {
                return limited(&limit);
            }
            let hint = "check TINKER_BASE_URL and the network; if a proxy is required, set HTTPS_PROXY";
            return failed(format!("cannot resolve {}: {error}", endpoint.address), hint);
        }
    };
    let detail = addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ");
    Ok((addresses, detail))
}

/// Why this process may open no socket, if that is so: a lookup that fails for it reports an unknown host.
fn socket_limit() -> Option<io::Error> {
    let error = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).err()?;
    // ENFILE, EMFILE, ENOMEM and ENOBUFS of Linux and macOS, and two of them on Windows.
    error.raw_os_error().is_some_and(|code| matches!(code, 12 | 23 | 24 | 55 | 105 | 10024 | 10055)).then_some(error)
}

fn connect(addresses: &[SocketAddr]) -> Result<((), String), NotPassed> {
    let mut last = "no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(address, TIMEOUT / 3) {
            Ok(_) => return Ok(((), format!("connected to {address}"))),
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    if let Some(limit) = socket_limit() {
        return limited(&limit);
    }
    failed(
        last,
        "check that the service is running, the port and the firewall; if a proxy is required, set HTTPS_PROXY",
    )
}

fn tls(endpoint: &Endpoint, response: Option<&tinkex::Result<Response>>) -> Result<((), String), NotPassed> {
    match response {
        Some(Err(error))
            if matches!(error.connection_fault(), Some(ConnectionFault::Certificate | ConnectionFault::Tls)) =>
        {
            let failure = Failure::from(error.clone());
            failed(failure.message(), failure.hint_text())
        }
        Some(Err(error)) if error.connection_fault() == Some(ConnectionFault::LocalLimit) => failed_request(error, ""),
        _ if !endpoint.is_https => skipped("the URL is plain http"),
        Some(Err(error)) if error.connection_fault().is_some() => skipped("the connection was not made"),
        _ => Ok(((), "the certificate is valid".to_owned())),
    }
}

fn server(response: Option<tinkex::Result<Response>>) -> Result<(Response, String), NotPassed> {
    match response {
        Some(Ok(response)) => match response.json::<serde_json::Value>() {
            Ok(_) => {
                let detail = format!("health check took {} ms", response.elapsed().as_millis());
                Ok((response, detail))
            }
            Err(error) => failed(
                Failure::from(error).message(),
                "check that TINKER_BASE_URL is the URL of a Tinker service, including the path",
            ),
        },
        Some(Err(error)) => failed_request(
            &error,
            "check that TINKER_BASE_URL is the URL of a Tinker service, including the path; otherwise try again later",
        ),
        None => skipped("no request was sent"),
    }
}

/// The models that the service lists; the request needs a valid key.
fn access(config: Option<&Config>) -> Result<(Vec<String>, String), NotPassed> {
    let Some(config) = config else { return skipped("no request was sent") };
    let capabilities = get(config, "/api/v1/get_server_capabilities")
        .and_then(|response| response.json::<GetServerCapabilitiesResponse>());
    match capabilities {
        Ok(capabilities) => {
            let models = capabilities.supported_models.into_iter().filter_map(|model| model.model_name);
            let models: Vec<String> = models.collect();
            let mut named = models.iter().take(MODELS_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
            if models.len() > MODELS_SHOWN {
                named.push_str(", …");
            }
            let detail = format!("the key is valid; {} models: {named}", models.len());
            Ok((models, detail))
        }
        Err(error) if matches!(error.status(), Some(401 | 403)) => failed(
            format!("the service rejected the key: {}", Failure::from(error).message()),
            "set TINKER_API_KEY to a valid key; for Cloudflare Access, set CLOUDFLARE_ACCESS_CLIENT_ID and CLOUDFLARE_ACCESS_CLIENT_SECRET",
        ),
        Err(error) => failed_request(&error, "try again later, or contact the operator of the service"),
    }
}

fn clock(date: Option<&str>, now: SystemTime) -> Result<((), String), NotPassed> {
    let Some(server_time) = date.and_then(|date| httpdate::parse_http_date(date).ok()) else {
        return skipped("the server sends no date");
    };
    let (skew, direction) = match now.duration_since(server_time) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    if skew < MIN_SKEW {
        return Ok(((), "matches the server's clock".to_owned()));
    }
    let detail = format!("{} s {direction} the server's clock", skew.as_secs());
    if skew <= MAX_SKEW {
        Ok(((), detail))
    } else {
        failed(detail, "synchronize this machine's clock, for example with NTP")
    }
}

/// Loads the tokenizer in the same way as `sample` and `train`.
fn tokenizer(config: &Config, model: &str) -> Result<((), String), NotPassed> {
    let load = || {
        let service = ServiceClient::connect(config.clone())?.with_timeout_operation(Some(TIMEOUT));
        let sampler = service.create_sampling_client(model)?;
        let id = sampler.tokenizer_id()?;
        sampler.tokenizer()?;
        Ok(((), format!("{model} uses {id}")))
    };
    load().or_else(|error: tinkex::Error| {
        let hint = Failure::from(error.clone()).hint_text().to_owned();
        failed_request(&error, hint)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_gives_the_default_port() {
        for (url, is_https, address) in [
            ("https://example.com/a/b", true, "example.com:443"),
            ("http://example.com", false, "example.com:80"),
            ("http://127.0.0.1:8000/x:9", false, "127.0.0.1:8000"),
            ("https://[::1]", true, "[::1]:443"),
            ("https://[::1]:8443", true, "[::1]:8443"),
        ] {
            assert_eq!(Endpoint::of(url), Endpoint { is_https, address: address.to_owned() }, "{url}");
        }
    }

    #[test]
    fn clocks_may_differ_by_five_minutes() {
        let date = "Sat, 01 Nov 2025 10:00:00 GMT";
        let theirs = httpdate::parse_http_date(date).unwrap();
        let detail = |now| clock(Some(date), now).map(|((), detail)| detail);
        assert_eq!(detail(theirs + Duration::from_secs(300)).unwrap(), "300 s ahead of the server's clock");
        assert_eq!(detail(theirs - Duration::from_secs(300)).unwrap(), "300 s behind the server's clock");
        assert_eq!(detail(theirs + Duration::from_secs(59)).unwrap(), "matches the server's clock");
        for now in [theirs + Duration::from_secs(301), theirs - Duration::from_secs(301)] {
            assert!(matches!(detail(now), Err(NotPassed::Failed { .. })));
        }
        assert!(matches!(clock(Some("yesterday"), theirs), Err(NotPassed::Skipped(_))));
    }
}
