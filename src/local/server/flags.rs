//! The settings that the server announces to its clients, and their names on a command line.

use std::fmt;
use std::str::FromStr;

use crate::types::wire::{ClientConfig, ClientDynamicConfig};

/// What the server announces in `client/config` and `client/dynamic_config`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) client_config: ClientConfig,
    pub(crate) dynamic_config: ClientDynamicConfig,
}

/// A setting that the server announces to its clients, written as `NAME=VALUE`.
///
/// The names are those of [`ClientConfig`] and [`ClientDynamicConfig`], which say what clients make of each, and have the defaults.
/// A value is `true` or `false`, a number, or one of the names in the table. The defaults are those of the protocol.
///
/// What this server does by itself:
///
/// | flag | what the server does |
/// |---|---|
/// | `pjwt_auth_enabled` | gives tokens (`auth/token`) and accepts them in place of keys, also without the flag; goes on to accept keys |
/// | `credential_default_source` | nothing: it cannot see whether `api_key` or `credential_cmd` gave a credential |
/// | `parallel_fwdbwd_chunks` | computes chunks in the order of arrival; the last digit of a sum of gradients may depend on it |
/// | `fwdbwd_max_chunk_len` | refuses larger passes in protobuf with 400; clients of 2025 do not know the limit |
/// | `fwdbwd_max_chunk_bytes_count` | the same, unless the pass has one datum only |
/// | `fwdbwd_dispatch_bytes_semaphore_size` | nothing: a limit that a client sets itself |
/// | `proto_compress_fwdbwd` | accepts passes that are compressed with zstd, also without the flag |
/// | `sample_dispatch_bytes_semaphore_size` | nothing: a limit that a client sets itself |
/// | `sample_max_concurrent_requests` | nothing: a limit that a client sets itself; samples wait in a queue |
/// | `sample_no_retries` | gives a sample that is submitted again under a new number a new result, as any other |
/// | `sample_enable_stuck_detection` | nothing: a client measures the time itself |
/// | `sample_use_retrieve_futures` | has `retrieve_futures`, also without the flag |
/// | `sample_join_sampling_session` | has `join_sampling_session`, also without the flag |
/// | `inflight_response_bytes_semaphore_size` | nothing: a limit that a client sets itself, from the sizes that large results announce |
/// | `billing_exception_max_pause_duration_sec` | nothing: it never says 402 by itself; a [`Fault`](crate::local::Fault) does |
/// | `custom_loss_server_side` | refuses custom losses as graphs with 400: leave it off |
/// | `use_pyqwest_transport` | nothing: both libraries send the same |
/// | `refresh_interval_sec` | responds the same until it is stopped |
/// | `sample_cancel_enabled` | stops samples that are cancelled (`cancel_future`), also without the flag |
/// | `sample_cancel_max_batch_size` | nothing: a limit that a client sets itself |
///
/// ```
/// use tinkex::local::{Flag, LocalServer};
///
/// let flag: Flag = "sample_use_retrieve_futures=true".parse()?;
/// let server = LocalServer::builder().flag(flag).start()?;
///
/// let error = "sample_no_retries=maybe".parse::<Flag>().unwrap_err();
/// assert_eq!(error.to_string(), "\"maybe\" is not a value of sample_no_retries: expected true or false");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Flag {
    setting: &'static Setting,
    value: usize,
}

/// A setting with its name.
struct Setting {
    name: &'static str,
    kind: Kind,
}

/// What values a setting has, and where they are stored.
enum Kind {
    Switch(fn(&mut Flags) -> &mut bool),
    /// From 1: with 0, clients could send nothing.
    Size(fn(&mut Flags) -> &mut usize),
    Seconds(fn(&mut Flags) -> &mut u64),
    Choice(fn(&mut Flags) -> &mut String, &'static [&'static str]),
}

macro_rules! settings {
    ($($config:ident.$name:ident: $kind:ident $(($names:expr))?,)*) => {
        &[$(Setting { name: stringify!($name), kind: Kind::$kind(|flags| &mut flags.$config.$name $(, $names)?) },)*]
    };
}

const SETTINGS: &[Setting] = settings![
    client_config.pjwt_auth_enabled: Switch,
    client_config.credential_default_source: Choice(&["api_key", "credential_cmd"]),
    client_config.parallel_fwdbwd_chunks: Switch,
    client_config.fwdbwd_max_chunk_len: Size,
    client_config.fwdbwd_max_chunk_bytes_count: Size,
    client_config.fwdbwd_dispatch_bytes_semaphore_size: Size,
    client_config.proto_compress_fwdbwd: Switch,
    client_config.sample_dispatch_bytes_semaphore_size: Size,
    client_config.sample_max_concurrent_requests: Size,
    client_config.sample_no_retries: Switch,
    client_config.sample_enable_stuck_detection: Switch,
    client_config.sample_use_retrieve_futures: Switch,
    client_config.sample_join_sampling_session: Switch,
    client_config.inflight_response_bytes_semaphore_size: Size,
    client_config.billing_exception_max_pause_duration_sec: Seconds,
    client_config.custom_loss_server_side: Switch,
    client_config.use_pyqwest_transport: Switch,
    dynamic_config.refresh_interval_sec: Seconds,
    dynamic_config.sample_cancel_enabled: Switch,
    dynamic_config.sample_cancel_max_batch_size: Size,
];

impl Flag {
    /// The names of all flags, in the order of the table in [`Flag`].
    pub fn names() -> impl Iterator<Item = &'static str> {
        SETTINGS.iter().map(|setting| setting.name)
    }

    /// The name of this flag.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.setting.name
    }

    /// Sets this flag.
    pub(crate) fn set(self, flags: &mut Flags) {
        match self.setting.kind {
            Kind::Switch(field) => *field(flags) = self.value == 1,
            Kind::Size(field) => *field(flags) = self.value,
            Kind::Seconds(field) => *field(flags) = self.value as u64,
            Kind::Choice(field, names) => names.get(self.value).copied().unwrap_or_default().clone_into(field(flags)),
        }
    }
}

impl Kind {
    /// The number that stands for a value: the position among the names, or the number itself.
    fn parse(&self, text: &str) -> Option<usize> {
        let position = |names: &[&str]| names.iter().position(|name| *name == text);
        match self {
            Kind::Switch(_) => position(&["false", "true"]),
            Kind::Choice(_, names) => position(names),
            Kind::Size(_) => text.parse().ok().filter(|size| *size > 0),
            Kind::Seconds(_) => text.parse().ok(),
        }
    }

    fn expected(&self) -> String {
        match self {
            Kind::Switch(_) => "true or false".to_owned(),
            Kind::Choice(_, names) => names.join(" or "),
            Kind::Size(_) => "a whole number from 1".to_owned(),
            Kind::Seconds(_) => "a whole number of seconds".to_owned(),
        }
    }
}

impl FromStr for Flag {
    type Err = ParseFlagError;

    fn from_str(text: &str) -> Result<Self, ParseFlagError> {
        let names = || Flag::names().collect::<Vec<_>>().join(", ");
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| ParseFlagError(format!("expected NAME=VALUE, where NAME is one of {}", names())))?;
        let setting = SETTINGS.iter().find(|setting| setting.name == name);
        let setting =
            setting.ok_or_else(|| ParseFlagError(format!("there is no flag {name:?}: expected one of {}", names())))?;
        let number = setting.kind.parse(value).ok_or_else(|| {
            ParseFlagError(format!("{value:?} is not a value of {name}: expected {}", setting.kind.expected()))
        })?;
        Ok(Flag { setting, value: number })
    }
}

impl fmt::Debug for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flag").field("name", &self.setting.name).field("value", &self.value).finish()
    }
}

/// Why a text is not a [`Flag`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseFlagError(String);

impl fmt::Display for ParseFlagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ParseFlagError {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;

    fn keys(flags: &Flags) -> serde_json::Map<String, Value> {
        let configs = [serde_json::to_value(&flags.client_config), serde_json::to_value(&flags.dynamic_config)];
        configs.into_iter().flat_map(|config| config.unwrap().as_object().unwrap().clone()).collect()
    }

    #[test]
    fn every_key_is_a_flag() {
        let defaults = keys(&Flags::default());
        let names: BTreeSet<&str> = Flag::names().collect();
        assert_eq!(names, defaults.keys().map(String::as_str).collect());
        for (name, default) in defaults {
            let value = match &default {
                Value::Bool(on) => json!(!on),
                Value::Number(number) => json!(number.as_u64().unwrap() + 1),
                _ => json!("credential_cmd"),
            };
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let mut flags = Flags::default();
            format!("{name}={text}").parse::<Flag>().unwrap().set(&mut flags);
            let changed: Vec<_> =
                keys(&flags).into_iter().filter(|(key, now)| keys(&Flags::default())[key] != *now).collect();
            assert_eq!(changed, [(name, value)]);
        }
    }

    #[test]
    fn the_table_has_every_flag() {
        let source = include_str!("flags.rs");
        let rows = source.lines().filter_map(|line| line.strip_prefix("/// | `")?.split('`').next());
        assert_eq!(rows.collect::<Vec<_>>(), Flag::names().collect::<Vec<_>>());
    }

    #[test]
    fn wrong_flags_are_refused_with_the_list() {
        for (text, expected) in [
            ("sample_no_retries", "expected NAME=VALUE, where NAME is one of pjwt_auth_enabled, "),
            ("no_such=1", "there is no flag \"no_such\": expected one of pjwt_auth_enabled, "),
            ("sample_no_retries=1", "\"1\" is not a value of sample_no_retries: expected true or false"),
            ("fwdbwd_max_chunk_len=0", "\"0\" is not a value of fwdbwd_max_chunk_len: expected a whole number from 1"),
            (
                "refresh_interval_sec=-1",
                "\"-1\" is not a value of refresh_interval_sec: expected a whole number of seconds",
            ),
            (
                "credential_default_source=x",
                "\"x\" is not a value of credential_default_source: expected api_key or credential_cmd",
            ),
        ] {
            let error = text.parse::<Flag>().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
