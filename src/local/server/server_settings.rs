//! The settings of a server, with their defaults.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::api::KeyCheck;
use super::faults::Fault;
use super::flags::Flags;
use super::net::Limits;
#[cfg(feature = "pretrained")]
use super::origins::AllowedOrigins;
use super::wire_formats::WireFormats;
use crate::local::model::Model;
use crate::rules::ttl::MIN_SECONDS;

/// The settings of a server; [`LocalServerBuilder`](crate::local::LocalServerBuilder) documents each.
pub(crate) struct Settings {
    pub(crate) models: Vec<Arc<dyn Model>>,
    pub(crate) flags: Flags,
    pub(crate) hold_time: Duration,
    pub(crate) result_time: Duration,
    pub(crate) metadata_above: usize,
    pub(crate) session_time: Duration,
    pub(crate) link_time: Duration,
    pub(crate) min_ttl: Duration,
    pub(crate) max_models: usize,
    /// `None` keeps everything in memory.
    pub(crate) data_dir: Option<PathBuf>,
    /// `None` accepts every key.
    pub(crate) key_check: Option<KeyCheck>,
    pub(crate) token_time: Duration,
    #[cfg(feature = "pretrained")]
    pub(crate) allowed_origins: AllowedOrigins,
    pub(crate) wire: WireFormats,
    /// How long results take, if nothing is computed.
    pub(crate) stub: Option<Duration>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) fault_seed: u64,
    pub(crate) log_capacity: usize,
    pub(crate) max_connections: usize,
    pub(crate) limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            models: Vec::new(),
            flags: Flags::default(),
            hold_time: Duration::from_secs(30),
            result_time: Duration::from_secs(600),
            metadata_above: 1024 * 1024,
            session_time: Duration::from_secs(600),
            link_time: Duration::from_secs(15 * 60),
            min_ttl: Duration::from_secs(MIN_SECONDS),
            max_models: 64,
            data_dir: None,
            key_check: None,
            token_time: Duration::from_secs(3600),
            #[cfg(feature = "pretrained")]
            allowed_origins: AllowedOrigins::default(),
            wire: WireFormats::default(),
            stub: None,
            faults: Vec::new(),
            fault_seed: 0,
            log_capacity: 10_000,
            max_connections: 4096,
            limits: Limits {
                max_body: 64 * 1024 * 1024,
                timeout_header: Duration::from_secs(10),
                timeout_idle: Duration::from_secs(120),
            },
        }
    }
}
