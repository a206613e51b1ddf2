//! What every command is given, and the options that it comes from.

use std::env;
use std::time::SystemTime;

use clap::Args;
use env_logger::Env;
use tinkex::ConfigBuilder;
use tinkex::api::Api;
use tinkex::clock::Clock;
use tinkex::{Config, RestClient};

use crate::errors::Failure;
use crate::interrupt::Interrupt;
use crate::output::{Format, Output};

/// How often a short request is repeated. Fewer than the library does: somebody waits, and can repeat the command.
const RETRIES: u32 = 2;

/// Options that may stand before or after the command.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// How results are printed: as tables, or as one JSON document.
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
    /// With an error, say what caused it.
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Where the service is; else TINKER_BASE_URL says so.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) base_url: Option<String>,
}

pub(crate) struct App {
    pub(crate) output: Output,
    pub(crate) interrupt: Interrupt,
    /// Whether errors say what caused them.
    pub(crate) verbose: bool,
    base_url: Option<String>,
}

impl App {
    /// Sets up the log, by TINKER_LOG or this filter, and the interrupt.
    pub(crate) fn start(global: Global, log: &str) -> Result<App, Failure> {
        env_logger::init_from_env(Env::new().filter_or("TINKER_LOG", log));
        let output = Output::new(global.format);
        Ok(App { output, interrupt: Interrupt::install()?, verbose: global.verbose, base_url: global.base_url })
    }

    /// Whether there is a key.
    pub(crate) fn key(&self) -> Result<(), Failure> {
        if env::var("TINKER_API_KEY").unwrap_or_default().trim().is_empty() {
            return Err(Failure::usage("no API key")
                .hint("set TINKER_API_KEY to your key; for `tinkex serve` any text will do, such as tml-local"));
        }
        Ok(())
    }

    /// The configuration that the arguments and the environment give.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        Ok(self.builder()?.build()?)
    }

    fn builder(&self) -> Result<ConfigBuilder, Failure> {
        self.key()?;
        let builder = Config::builder();
        Ok(match &self.base_url {
            Some(url) => builder.base_url(url),
            None => builder,
        })
    }

    /// Fails soon where nobody answers. The library's patience is for a service that goes away while work is under way.
    pub(crate) fn reach(&self, config: &Config) -> Result<(), Failure> {
        match Api::new(config.clone())?.get("/api/v1/healthz").max_retries(RETRIES).send() {
            Err(error) if error.is_retryable() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// A client that lists, shows and changes what the service keeps.
    pub(crate) fn rest(&self) -> Result<RestClient, Failure> {
        Ok(RestClient::new(self.builder()?.max_retries(RETRIES).build()?)?)
    }

    /// The time of day.
    pub(crate) fn now(&self) -> SystemTime {
        Clock::system().wall()
    }
}
