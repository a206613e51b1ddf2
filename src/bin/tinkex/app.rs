//! What every command gets, and the global options behind it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{env, fs};

use clap::Args;
use env_logger::{Env, Target};
use log::LevelFilter;
use tinkex::ConfigBuilder;
use tinkex::api::Api;
use tinkex::clock::Clock;
use tinkex::credential_store::CredentialStore;
use tinkex::types::FinishReason;
use tinkex::{Config, CredentialSource, RestClient, ServiceClient};

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::{Format, Output};
use crate::screen;

/// Retries of a short request: fewer than the library's default, since a person is waiting and can repeat the command.
pub(crate) const RETRIES: u32 = 2;

/// In place of a key, for requests that need none.
const NO_KEY: &str = "tml-none";

/// Options that are accepted before and after the command.
#[derive(Args, Debug)]
pub(crate) struct GlobalOptions {
    /// Output format: tables, or one JSON document.
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
    /// Show the causes of an error.
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// URL of the service [env: TINKER_BASE_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) base_url: Option<String>,
    /// PEM file with certificate authorities to trust besides the public ones and those of SSL_CERT_FILE and SSL_CERT_DIR
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_certificate: Option<PathBuf>,
    /// Project of the sessions of `sample`, `chat`, `train` and `eval` [env: TINKER_PROJECT_ID]
    #[arg(long, global = true, value_name = "PROJECT_ID")]
    pub(crate) project: Option<String>,
}

pub(crate) struct App {
    pub(crate) output: Output,
    pub(crate) interrupt: Interrupt,
    /// Whether errors show their causes.
    pub(crate) verbose: bool,
    base_url: Option<String>,
    project: Option<String>,
    ca_certificate: Option<Vec<u8>>,
}

impl App {
    /// Sets up logging, by TINKER_LOG or else this filter, and signal handling.
    pub(crate) fn start(global: GlobalOptions, default_log: &str) -> Result<App, Failure> {
        // ureq logs signed URLs, and whole responses with tokens: only for those who name it.
        let mut logger = env_logger::Builder::new();
        logger
            .target(Target::Pipe(Box::new(screen::Log)))
            .filter_module("ureq", LevelFilter::Off)
            // The program shows waits by itself.
            .filter_module("tinkex::waiting", LevelFilter::Off)
            .parse_env(Env::new().filter_or("TINKER_LOG", default_log))
            .init();
        let output = Output::new(global.format);
        let (base_url, project) = (global.base_url, global.project);
        let ca_certificate = global.ca_certificate.as_deref().map(read_certificates).transpose()?;
        Ok(App { output, interrupt: Interrupt::install()?, verbose: global.verbose, base_url, project, ca_certificate })
    }

    /// Where the API key comes from. Fails if there is none.
    pub(crate) fn require_key(&self) -> Result<CredentialSource, Failure> {
        let is_set = |name: &str| env::var(name).is_ok_and(|value| !value.trim().is_empty());
        let store = CredentialStore::of_user(|name| env::var(name).ok());
        if is_set("TINKER_API_KEY") {
            return Ok(CredentialSource::Variable);
        } else if is_set("TINKER_CREDENTIAL_CMD") {
            return Ok(CredentialSource::Command);
        } else if store.map(|store| store.default_key()).transpose()?.flatten().is_some() {
            return Ok(CredentialSource::Stored);
        }
        Err(Failure::usage("no API key").hint(
            "set TINKER_API_KEY to your key, or run `tinkex auth login`; `tinkex serve` accepts any text, such as tml-local",
        ))
    }

    /// These settings and those of the global options.
    pub(crate) fn settings(&self, builder: ConfigBuilder) -> ConfigBuilder {
        let mut builder = builder.observer(screen::observe);
        if let Some(url) = &self.base_url {
            builder = builder.base_url(url);
        }
        if let Some(project) = &self.project {
            builder = builder.project_id(project);
        }
        if let Some(pem) = &self.ca_certificate {
            builder = builder.add_root_certificate(pem.clone());
        }
        builder
    }

    /// The configuration from the options and the environment.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        self.build(Config::builder())
    }

    /// The same for checks of the network, which need no key.
    pub(crate) fn config_for_checks(&self, has_key: bool) -> Result<Config, Failure> {
        if has_key {
            return self.config();
        }
        Ok(self.settings(Config::builder().api_key(NO_KEY)).build()?)
    }

    fn build(&self, builder: ConfigBuilder) -> Result<Config, Failure> {
        // The key is the first that is looked for. If there is none, the program's own hint says what to do.
        let built = self.settings(builder).build();
        built.map_err(|error| self.require_key().err().unwrap_or_else(|| error.into()))
    }

    /// Fails within seconds if the service does not respond. The library itself retries for minutes, which is right for an
    /// outage during long work, but not for a wrong address at its start.
    pub(crate) fn require_service(&self, config: &Config) -> Result<(), Failure> {
        match Api::new(config.clone())?.get("/api/v1/healthz").max_retries(RETRIES).send() {
            Err(error) if error.is_retryable() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// A client for runs, checkpoints, sessions and samplers.
    pub(crate) fn rest(&self) -> Result<RestClient, Failure> {
        Ok(RestClient::new(self.build(Config::builder().max_retries(RETRIES))?)?)
    }

    /// Runs the work of a command in a session, and tells the service how it ended.
    pub(crate) fn in_session<T>(
        config: Config,
        work: impl FnOnce(&ServiceClient) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let service = ServiceClient::connect(config)?;
        let outcome = work(&service);
        let reason = outcome.as_ref().err().map_or(FinishReason::Success, Failure::finish_reason);
        service.close_with(reason, None, service.config().timeout_drop());
        outcome
    }

    /// The time of day.
    pub(crate) fn now(&self) -> SystemTime {
        Clock::system().wall()
    }
}

/// Reads the file of `--ca-certificate`, which must hold a certificate.
fn read_certificates(path: &Path) -> Result<Vec<u8>, Failure> {
    let named = |what: String| Failure::usage(format!("--ca-certificate: {} {what}", path.display()));
    let pem = fs::read(path).map_err(|error| named(format!("cannot be read: {error}")))?;
    if !String::from_utf8_lossy(&pem).contains("BEGIN CERTIFICATE") {
        return Err(named("contains no certificate".to_owned()).hint("use a PEM file, with `BEGIN CERTIFICATE`"));
    }
    Ok(pem)
}
