//! `tinkex doctor`: checks everything between this machine and the service, from the nearest to the farthest.

use std::env;
use std::error::Error as _;
use std::fmt;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, SystemTime};

use clap::Args;
use serde::Serialize;
use tinkex::api::{Api, Response};
use tinkex::types::GetServerCapabilitiesResponse;
use tinkex::{Config, CredentialSource, ErrorKind, Limit, ServiceClient};

use crate::app::App;
use crate::failure::Failure;
use crate::output::Table;
use crate::text::one_line;

/// Timeout of one request.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum clock skew: certificates and signed URLs, which depend on the time, are valid for longer than that.
const MAX_SKEW: Duration = Duration::from_secs(5 * 60);

/// A smaller skew is not reported: it may come from the time that the request took.
const MIN_SKEW: Duration = Duration::from_secs(60);

/// The variables that set a proxy, in upper or lower case.
const PROXIES: [&str; 3] = ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"];

/// Check the API key, the network and the service, and suggest fixes.
///
/// The checks are key, url, dns, connection, tls, server, access, clock and tokenizer. After a failed check, the remaining ones
/// are skipped, and the exit code is 1.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Model whose tokenizer is checked [default: the first model that the service lists].
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    Failed,
    Skipped,
}

#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    status: Status,
    detail: String,
    /// What to do about it.
    hint: Option<String>,
}

/// How a check ends without passing.
#[derive(Debug)]
enum NotPassed {
    Failed { detail: String, hint: String },
    Skipped(String),
}

fn failed<T>(detail: impl Into<String>, hint: impl Into<String>) -> Result<T, NotPassed> {
    Err(NotPassed::Failed { detail: detail.into(), hint: hint.into() })
}

fn skipped<T>(why: impl Into<String>) -> Result<T, NotPassed> {
    Err(NotPassed::Skipped(why.into()))
}

/// The checks so far. After a failed one, all further ones are skipped, since they would fail for the same reason.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    checks: Vec<Check>,
}

impl Report {
    fn new() -> Self {
        Report { ok: true, checks: Vec::new() }
    }

    /// Runs a check, which returns a value for later checks and a detail to print. `None` if it fails or is skipped.
    fn check<T>(&mut self, check: &'static str, run: impl FnOnce() -> Result<(T, String), NotPassed>) -> Option<T> {
        let failed_check = self.checks.iter().find(|check| check.status == Status::Failed).map(|check| check.check);
        let result = match failed_check {
            Some(failed_check) => skipped(format!("not checked, since {failed_check} failed")),
            None => run(),
        };
        let (value, status, detail, hint) = match result {
            Ok((value, detail)) => (Some(value), Status::Ok, detail, None),
            Err(NotPassed::Failed { detail, hint }) => (None, Status::Failed, detail, Some(hint)),
            Err(NotPassed::Skipped(why)) => (None, Status::Skipped, why, None),
        };
        self.ok &= status != Status::Failed;
        self.checks.push(Check { check, status, detail, hint });
        value
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = if self.ok { "All checks passed" } else { "A check failed" };
        let mut table = Table::new(title, ["Check", "Status", "Detail"]);
        for check in &self.checks {
            let status = match check.status {
                Status::Ok => "ok",
                Status::Failed => "failed",
                Status::Skipped => "skipped",
            };
            table.row([check.check, status, &check.detail]);
        }
        table.fmt(f)?;
        let hints = self.checks.iter().filter_map(|check| Some((check.check, check.hint.as_ref()?)));
        hints
            .filter(|(_, hint)| !hint.is_empty())
            .try_for_each(|(check, hint)| write!(f, "\n{check}: {}", one_line(hint)))
    }
}

pub(crate) fn run(app: &App, options: &Options) -> Result<(), Failure> {
    let report = run_checks(app, options);
    app.output.report(&report, &report)?;
    if report.ok { Ok(()) } else { Err(Failure::reported()) }
}

fn run_checks(app: &App, options: &Options) -> Report {
    let mut report = Report::new();
    let has_proxy =
        PROXIES.iter().any(|name| [*name, &name.to_lowercase()].into_iter().any(|name| env::var_os(name).is_some()));
    report.check("key", || match app.require_key() {
        Ok(CredentialSource::Stored) => Ok(((), "a login stored it".to_owned())),
        Ok(source) => Ok(((), format!("{source} is set"))),
        Err(failure) => failed(failure.message(), failure.hint_text()),
    });
    let config = report.check("url", || match app.config() {
        Ok(config) => {
            let url = config.base_url().to_owned();
            Ok((config, url))
        }
        Err(failure) => failed(failure.message(), failure.hint_text()),
    });
    let endpoint = config.as_ref().map(|config| Endpoint::of(config.base_url())).unwrap_or_default();
    let addresses = report.check("dns", || resolve(&endpoint, has_proxy));
    let is_loopback = addresses.iter().flatten().all(|address| address.ip().is_loopback());
    report.check("connection", || match &addresses {
        // The library uses no proxy for a service on this machine.
        Some(addresses) if is_loopback || !has_proxy => connect(addresses),
        _ => skipped("the proxy makes the connection"),
    });
    // One request serves for the checks of TLS, the server and the clock.
    let response = config.as_ref().filter(|_| report.ok).map(|config| get(config, "/api/v1/healthz"));
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

/// Blocks as long as the system's resolver takes.
fn resolve(endpoint: &Endpoint, has_proxy: bool) -> Result<(Vec<SocketAddr>, String), NotPassed> {
    let addresses: Vec<SocketAddr> = match endpoint.address.to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(_) if has_proxy => return skipped("not resolved here; the proxy resolves it"),
        Err(error) => {
            let hint = "check TINKER_BASE_URL and the network; if a proxy is required, set HTTPS_PROXY";
            return failed(format!("cannot resolve {}: {error}", endpoint.address), hint);
        }
    };
    let detail = addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ");
    Ok((addresses, detail))
}

fn connect(addresses: &[SocketAddr]) -> Result<((), String), NotPassed> {
    let mut last = "no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(address, TIMEOUT / 3) {
            Ok(_) => return Ok(((), format!("connected to {address}"))),
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    failed(
        last,
        "check that the service is running, the port and the firewall; if a proxy is required, set HTTPS_PROXY",
    )
}

fn tls(endpoint: &Endpoint, response: Option<&tinkex::Result<Response>>) -> Result<((), String), NotPassed> {
    if !endpoint.is_https {
        return skipped("the URL is plain http");
    }
    match response {
        // The connection check passed, so a failure to connect here is one of TLS.
        Some(Err(error)) if matches!(error.kind(), ErrorKind::Connect | ErrorKind::Timeout(Limit::Connect)) => failed(
            error.source().map_or_else(|| error.to_string(), ToString::to_string),
            "check the clock, the proxy if one is set, and whether a gateway replaces the certificate with its own",
        ),
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
        Some(Err(error)) => {
            let failure = Failure::from(error);
            failed(
                failure.message(),
                "check that TINKER_BASE_URL is the URL of a Tinker service, including the path; otherwise try again later",
            )
        }
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
            let detail = format!("the key is valid; {} models", models.len());
            Ok((models, detail))
        }
        Err(error) if matches!(error.status(), Some(401 | 403)) => failed(
            format!("the service rejected the key: {}", Failure::from(error).message()),
            "set TINKER_API_KEY to a valid key; for Cloudflare Access, set CLOUDFLARE_ACCESS_CLIENT_ID and CLOUDFLARE_ACCESS_CLIENT_SECRET",
        ),
        Err(error) => failed(Failure::from(error).message(), "try again later, or contact the operator of the service"),
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
        if !cfg!(feature = "tokenizers") && id != "bytes" {
            return Ok(skipped(format!("{model} uses {id}, which needs a build with the feature `tokenizers`")));
        }
        sampler.tokenizer()?;
        Ok(Ok(((), format!("{model} uses {id}"))))
    };
    load().unwrap_or_else(|error: tinkex::Error| {
        let failure = Failure::from(error);
        failed(failure.message(), failure.hint_text())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_skips_the_others() {
        let mut report = Report::new();
        assert_eq!(report.check("a", || Ok((1, "fine".into()))), Some(1));
        assert_eq!(report.check("b", || skipped::<((), _)>("not here")), None);
        assert!(report.ok);
        assert_eq!(report.check("c", || failed::<((), _)>("broken", "repair it")), None);
        assert_eq!(report.check("d", || -> Result<((), _), _> { unreachable!("the check ran") }), None);
        assert!(!report.ok);
        let statuses: Vec<_> = report.checks.iter().map(|check| (check.check, check.status)).collect();
        let expected = [("a", Status::Ok), ("b", Status::Skipped), ("c", Status::Failed), ("d", Status::Skipped)];
        assert_eq!(statuses, expected);
        assert_eq!(report.checks[3].detail, "not checked, since c failed");
    }

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
