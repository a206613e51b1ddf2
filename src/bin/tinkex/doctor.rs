//! `tinkex doctor`: what stands between this machine and the service, checked from the nearest to the farthest.

use std::env;
use std::error::Error as _;
use std::fmt;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, SystemTime};

use clap::Args;
use serde::Serialize;
use tinkex::api::{Api, Response};
use tinkex::types::GetServerCapabilitiesResponse;
use tinkex::{Config, ErrorKind, Limit, ServiceClient};

use crate::app::App;
use crate::errors::Failure;
use crate::output::{Table, one_line};

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How far the clocks may be apart. Certificates and signed links, which go by the time, last for longer than that.
const MAX_SKEW: Duration = Duration::from_secs(5 * 60);

/// Less than this is nothing that matters.
const NO_SKEW: Duration = Duration::from_secs(60);

/// The variables that name a proxy, in either case.
const PROXIES: [&str; 3] = ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"];

/// Check the key, the address, the network and the service, and say what to do.
///
/// The checks are key, url, dns, connection, tls, server, access, clock and tokenizer; after one that fails, the others are
/// skipped. The exit code is 1 when one failed.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Whose tokenizer is checked; else that of the first model that the service lists.
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

/// How a check ends early.
#[derive(Debug)]
enum Verdict {
    Failed { detail: String, hint: String },
    Skipped(String),
}

fn failed<T>(detail: impl Into<String>, hint: impl Into<String>) -> Result<T, Verdict> {
    Err(Verdict::Failed { detail: detail.into(), hint: hint.into() })
}

fn skipped<T>(why: impl Into<String>) -> Result<T, Verdict> {
    Err(Verdict::Skipped(why.into()))
}

/// The checks so far. After a failure all further ones are skipped, as they would only fail for the same reason.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    checks: Vec<Check>,
}

impl Report {
    fn new() -> Self {
        Report { ok: true, checks: Vec::new() }
    }

    /// Makes a check, which gives what later checks need and what to tell; none when it failed or was skipped.
    fn check<T>(&mut self, check: &'static str, make: impl FnOnce() -> Result<(T, String), Verdict>) -> Option<T> {
        let culprit = self.checks.iter().find(|check| check.status == Status::Failed).map(|check| check.check);
        let result = match culprit {
            Some(culprit) => skipped(format!("not checked, as {culprit} failed")),
            None => make(),
        };
        let (found, status, detail, hint) = match result {
            Ok((found, detail)) => (Some(found), Status::Ok, detail, None),
            Err(Verdict::Failed { detail, hint }) => (None, Status::Failed, detail, Some(hint)),
            Err(Verdict::Skipped(why)) => (None, Status::Skipped, why, None),
        };
        self.ok &= status != Status::Failed;
        self.checks.push(Check { check, status, detail, hint });
        found
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = if self.ok { "All that was checked works" } else { "Something does not work" };
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
    let report = examine(app, options);
    app.output.report(&report, &report)?;
    if report.ok { Ok(()) } else { Err(Failure::reported()) }
}

fn examine(app: &App, options: &Options) -> Report {
    let mut report = Report::new();
    let by_proxy =
        PROXIES.iter().any(|name| [*name, &name.to_lowercase()].into_iter().any(|name| env::var_os(name).is_some()));
    report.check("key", || match app.key() {
        Ok(()) => Ok(((), "TINKER_API_KEY is set".to_owned())),
        Err(failure) => failed(failure.message(), failure.what_to_do()),
    });
    let config = report.check("url", || match app.config() {
        Ok(config) => {
            let url = config.base_url().to_owned();
            Ok((config, url))
        }
        Err(failure) => failed(failure.message(), failure.what_to_do()),
    });
    let url = config.as_ref().map(|config| Url::of(config.base_url())).unwrap_or_default();
    let addresses = report.check("dns", || look_up(&url, by_proxy));
    let is_here = addresses.iter().flatten().all(|address| address.ip().is_loopback());
    report.check("connection", || match &addresses {
        // No proxy is used for a service on this machine.
        Some(addresses) if is_here || !by_proxy => connect(addresses),
        _ => skipped("a proxy is set, which makes the connection"),
    });
    // The answer to a first request tells of TLS and of the server.
    let answer = config.as_ref().filter(|_| report.ok).map(|config| ask(config, "/api/v1/healthz"));
    report.check("tls", || tls(&url, answer.as_ref()));
    let health = report.check("server", || server(answer));
    let models = report.check("access", || access(config.as_ref()));
    report.check("clock", || clock(health.as_ref().and_then(|answer| answer.header("date")), app.now()));
    report.check("tokenizer", || match (&config, options.model.clone().or_else(|| models?.into_iter().next())) {
        (Some(config), Some(model)) => tokenizer(config, &model),
        _ => skipped("the service lists no model"),
    });
    report
}

type Asked = tinkex::Result<Response>;

/// One request, once.
fn ask(config: &Config, path: &str) -> Asked {
    Api::new(config.clone())?.get(path).max_retries(0).timeout_operation(Some(PATIENCE)).send()
}

/// What of a base URL matters here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Url {
    is_https: bool,
    /// The host, and the port that it has or that its scheme implies.
    place: String,
}

impl Url {
    fn of(base_url: &str) -> Self {
        let (scheme, rest) = base_url.split_once("://").unwrap_or(("http", base_url));
        let host = rest.split('/').next().unwrap_or_default();
        let is_https = scheme.eq_ignore_ascii_case("https");
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if is_https { 443 } else { 80 };
        Url { is_https, place: if has_port { host.to_owned() } else { format!("{host}:{port}") } }
    }
}

/// Blocks for as long as the system's resolver takes.
fn look_up(url: &Url, by_proxy: bool) -> Result<(Vec<SocketAddr>, String), Verdict> {
    let found: Vec<SocketAddr> = match url.place.to_socket_addrs() {
        Ok(found) => found.collect(),
        Err(_) if by_proxy => return skipped("not known here; a proxy is set, which looks it up"),
        Err(error) => {
            let hint = "check the spelling of TINKER_BASE_URL and the network; a proxy is set by HTTPS_PROXY";
            return failed(format!("{} is not known: {error}", url.place), hint);
        }
    };
    let shown = found.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ");
    Ok((found, shown))
}

fn connect(addresses: &[SocketAddr]) -> Result<((), String), Verdict> {
    let mut last = "no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(address, PATIENCE / 3) {
            Ok(_) => return Ok(((), format!("connected to {address}"))),
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    failed(
        last,
        "check that the service runs, the port, and the firewall; where only a proxy may connect, set HTTPS_PROXY",
    )
}

fn tls(url: &Url, answer: Option<&Asked>) -> Result<((), String), Verdict> {
    if !url.is_https {
        return skipped("the URL is plain http");
    }
    match answer {
        // The connection itself was made before.
        Some(Err(error)) if matches!(error.kind(), ErrorKind::Connect | ErrorKind::Timeout(Limit::Connect)) => failed(
            error.source().map_or_else(|| error.to_string(), ToString::to_string),
            "check the clock, the proxy where one is set, and that nothing on the way has a certificate of its own",
        ),
        _ => Ok(((), "the certificate is good".to_owned())),
    }
}

fn server(answer: Option<Asked>) -> Result<(Response, String), Verdict> {
    match answer {
        Some(Ok(response)) => match response.json::<serde_json::Value>() {
            Ok(_) => {
                let took = format!("answers healthz in {} ms", response.elapsed().as_millis());
                Ok((response, took))
            }
            Err(error) => failed(
                Failure::from(error).message(),
                "check that TINKER_BASE_URL is that of a Tinker service, path and all",
            ),
        },
        Some(Err(error)) => {
            let failure = Failure::from(error);
            failed(
                failure.message(),
                "check that TINKER_BASE_URL is that of a Tinker service, path and all; else try later",
            )
        }
        None => skipped("not asked"),
    }
}

/// The models that the service lists, which takes a key.
fn access(config: Option<&Config>) -> Result<(Vec<String>, String), Verdict> {
    let Some(config) = config else { return skipped("not asked") };
    let answer = ask(config, "/api/v1/get_server_capabilities")
        .and_then(|answer| answer.json::<GetServerCapabilitiesResponse>());
    match answer {
        Ok(capabilities) => {
            let models = capabilities.supported_models.into_iter().filter_map(|model| model.model_name);
            let models: Vec<String> = models.collect();
            let told = format!("the key is accepted; {} models", models.len());
            Ok((models, told))
        }
        Err(error) if matches!(error.status(), Some(401 | 403)) => failed(
            format!("the service refuses the key: {}", Failure::from(error).message()),
            "set TINKER_API_KEY to a key that is valid; behind Cloudflare Access, set CLOUDFLARE_ACCESS_CLIENT_ID and _SECRET",
        ),
        Err(error) => failed(Failure::from(error).message(), "try later, or ask whoever runs the service"),
    }
}

fn clock(date: Option<&str>, now: SystemTime) -> Result<((), String), Verdict> {
    let Some(theirs) = date.and_then(|date| httpdate::parse_http_date(date).ok()) else {
        return skipped("the server does not say what time it is");
    };
    let (skew, direction) = match now.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    if skew < NO_SKEW {
        return Ok(((), "agrees with the server's".to_owned()));
    }
    let told = format!("{} s {direction} the server's", skew.as_secs());
    if skew <= MAX_SKEW { Ok(((), told)) } else { failed(told, "set this machine's clock, best by NTP") }
}

/// Asks and loads as `sample` and `train` do.
fn tokenizer(config: &Config, model: &str) -> Result<((), String), Verdict> {
    let make = || {
        let service = ServiceClient::connect(config.clone())?.timeout_operation(Some(PATIENCE));
        let sampler = service.create_sampling_client(model)?;
        let id = sampler.tokenizer_id()?;
        if !cfg!(feature = "tokenizers") && id != "bytes" {
            return Ok(skipped(format!(
                "{model} has {id}, which this build cannot read: it lacks the feature tokenizers"
            )));
        }
        sampler.tokenizer()?;
        Ok(Ok(((), format!("{model} has {id}"))))
    };
    make().unwrap_or_else(|error: tinkex::Error| {
        let failure = Failure::from(error);
        failed(failure.message(), failure.what_to_do())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failure_nothing_more_is_tried() {
        let mut report = Report::new();
        assert_eq!(report.check("a", || Ok((1, "fine".into()))), Some(1));
        assert_eq!(report.check("b", || skipped::<((), _)>("not here")), None);
        assert!(report.ok);
        assert_eq!(report.check("c", || failed::<((), _)>("broken", "mend it")), None);
        assert_eq!(report.check("d", || -> Result<((), _), _> { unreachable!("it was tried") }), None);
        assert!(!report.ok);
        let seen: Vec<_> = report.checks.iter().map(|check| (check.check, check.status)).collect();
        let expected = [("a", Status::Ok), ("b", Status::Skipped), ("c", Status::Failed), ("d", Status::Skipped)];
        assert_eq!(seen, expected);
        assert_eq!(report.checks[3].detail, "not checked, as c failed");
    }

    #[test]
    fn a_url_without_a_port_has_that_of_its_scheme() {
        for (url, is_https, place) in [
            ("https://example.com/a/b", true, "example.com:443"),
            ("http://example.com", false, "example.com:80"),
            ("http://127.0.0.1:8000/x:9", false, "127.0.0.1:8000"),
            ("https://[::1]", true, "[::1]:443"),
            ("https://[::1]:8443", true, "[::1]:8443"),
        ] {
            assert_eq!(Url::of(url), Url { is_https, place: place.to_owned() }, "{url}");
        }
    }

    #[test]
    fn clocks_may_be_five_minutes_apart_and_no_more() {
        let date = "Sat, 01 Nov 2025 10:00:00 GMT";
        let theirs = httpdate::parse_http_date(date).unwrap();
        let told = |now| clock(Some(date), now).map(|((), told)| told);
        assert_eq!(told(theirs + Duration::from_secs(300)).unwrap(), "300 s ahead of the server's");
        assert_eq!(told(theirs - Duration::from_secs(300)).unwrap(), "300 s behind the server's");
        assert_eq!(told(theirs + Duration::from_secs(59)).unwrap(), "agrees with the server's");
        for now in [theirs + Duration::from_secs(301), theirs - Duration::from_secs(301)] {
            assert!(matches!(told(now), Err(Verdict::Failed { .. })));
        }
        assert!(matches!(clock(Some("yesterday"), theirs), Err(Verdict::Skipped(_))));
    }
}
