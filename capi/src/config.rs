//! The configuration, as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tinkex::{Config, ConfigBuilder, Proxy};

use crate::error::Error;
use crate::json;

/// A number of seconds.
#[derive(Deserialize)]
struct Seconds(f64);

impl Seconds {
    fn duration(&self, key: &str) -> Result<Duration, Error> {
        Duration::try_from_secs_f64(self.0)
            .map_err(|error| Error::config(format!("{key} is {} seconds: {error}", self.0)))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CloudflareAccess {
    id: String,
    secret: String,
}

/// Defines the keys of plain settings, each with the name of its setter.
macro_rules! keys {
    (seconds: $($seconds:ident)*; optional seconds: $($optional:ident)*; values: $($value:ident: $type:ty,)*) => {
        #[derive(Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct Keys {
            cloudflare_access: Option<CloudflareAccess>,
            user_metadata: BTreeMap<String, String>,
            headers: BTreeMap<String, String>,
            query: BTreeMap<String, String>,
            proxy: Option<String>,
            wire: Option<String>,
            constrained: bool,
            $($seconds: Option<Seconds>,)*
            $($optional: Option<Seconds>,)*
            $($value: Option<$type>,)*
        }

        impl Keys {
            fn plain(&mut self, mut builder: ConfigBuilder) -> Result<ConfigBuilder, Error> {
                $(if let Some(seconds) = &self.$seconds {
                    builder = builder.$seconds(seconds.duration(stringify!($seconds))?);
                })*
                $(if let Some(seconds) = &self.$optional {
                    builder = builder.$optional(Some(seconds.duration(stringify!($optional))?));
                })*
                $(if let Some(value) = self.$value.take() {
                    builder = builder.$value(value);
                })*
                Ok(builder)
            }
        }
    };
}

keys! {
    seconds: timeout_connect timeout_idle timeout_submit timeout_poll timeout_progress timeout_drop heartbeat_interval retry_base
        retry_cap idle_retention dns_retention;
    optional seconds: timeout_operation timeout_billing;
    values:
        base_url: String,
        api_key: String,
        tags: Vec<String>,
        project_id: String,
        display_name: String,
        root_certificate: String,
        add_root_certificate: String,
        telemetry: bool,
        max_retries: u32,
        max_poll_connections: usize,
        max_sampling_threads: usize,
        max_sampling_in_flight: usize,
        sampling_burst: u32,
        sampling_rate: u32,
        max_queued: usize,
        max_queued_bytes: usize,
        max_response_bytes: u64,
        max_idle_connections: usize,
        connection_buffer: usize,
        thread_stack_size: usize,
}

/// The configuration of these settings. All others are those of the environment, or the defaults.
pub(crate) fn read(text: Option<&str>) -> Result<Config, Error> {
    let mut keys: Keys = json::read_optional(text, "config_json")?;
    let builder = if keys.constrained { Config::constrained() } else { Config::builder() };
    let mut builder = keys.plain(builder)?;
    if let Some(CloudflareAccess { id, secret }) = keys.cloudflare_access {
        builder = builder.cloudflare_access(id, secret);
    }
    if let Some(proxy) = keys.proxy {
        builder = builder.proxy(match proxy.as_str() {
            "environment" => Proxy::Environment,
            "off" => Proxy::Off,
            _ => Proxy::Url(proxy),
        });
    }
    if let Some(wire) = keys.wire {
        builder = builder.wire(wire.parse()?);
    }
    let builder =
        keys.user_metadata.into_iter().fold(builder, |builder, (key, value)| builder.user_metadata(key, value));
    let builder = keys.headers.into_iter().fold(builder, |builder, (name, value)| builder.header(name, value));
    let builder = keys.query.into_iter().fold(builder, |builder, (name, value)| builder.query(name, value));
    Ok(builder.build()?)
}
