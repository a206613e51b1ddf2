//! How forward and backward passes are written on the wire.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::rules::wire_format::WireFormat;

/// The wire format of forward and backward passes and of their results. All other requests are JSON.
///
/// Servers of 2025 take JSON only, the newest ones protobuf only, some both. [`Auto`](Wire::Auto) finds out which, and prefers
/// protobuf, which takes a fraction of the CPU. The other two are for a service of which you know it, or to see what a program
/// does with each.
///
/// Parses from the words of `TINKER_WIRE`: `auto`, `json`, `protobuf`.
///
/// # Examples
///
/// ```
/// use tinkex::{Config, Wire};
///
/// let config = Config::builder().api_key("tml-k").base_url("http://127.0.0.1:8000").wire(Wire::Json).build()?;
/// assert_eq!(config.wire(), Wire::Json);
/// assert_eq!("protobuf".parse::<Wire>()?, Wire::Protobuf);
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wire {
    /// The official service gets protobuf, and so does one whose settings ask for it (`proto_write_fwdbwd`). Others get JSON until one
    /// refuses it (415), and protobuf from then on.
    ///
    /// A service that takes JSON and has sent the result of a pass in protobuf is tried: the next `forward_backward` is protobuf. If the
    /// service accepts it, so are those that follow; if not, the same request goes out at once as JSON, with the same number, so that it
    /// runs once, and JSON stays for the session. Forward passes stay JSON there, unless the service says that it takes them
    /// (`fwd_via_fwdbwd`) or has no `forward`: one that overlooks `forward_only` would train. What protobuf cannot hold stays JSON,
    /// too.
    ///
    /// Results are asked for as protobuf, and read as whatever comes.
    #[default]
    Auto,
    /// JSON only. A service that takes protobuf only refuses every pass.
    Json,
    /// Protobuf only. A service that takes JSON only refuses every pass.
    Protobuf,
}

impl Wire {
    /// The chosen format, if one was.
    pub(crate) fn fixed(self) -> Option<WireFormat> {
        match self {
            Wire::Auto => None,
            Wire::Json => Some(WireFormat::Json),
            Wire::Protobuf => Some(WireFormat::Protobuf),
        }
    }
}

impl FromStr for Wire {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word.to_ascii_lowercase().as_str() {
            "auto" => Ok(Wire::Auto),
            "json" => Ok(Wire::Json),
            "protobuf" => Ok(Wire::Protobuf),
            _ => Err(Error::config(format!("{word:?} is not a wire format")).with_hint("use auto, json or protobuf")),
        }
    }
}
