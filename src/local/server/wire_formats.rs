//! The wire formats that a server takes.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::rules::wire_format::WireFormat;

/// The wire formats of forward and backward passes and of results that the local server takes, as servers of each generation
/// do. All other requests are JSON.
///
/// | | `Both` | `Json` | `Protobuf` |
/// |---|---|---|---|
/// | `forward_backward` in JSON | taken | taken | 415 |
/// | `forward_backward` in protobuf | taken | 422 if the body happens to be UTF-8, else 500 | taken |
/// | `forward` | taken, in JSON | taken, in JSON | 404 |
/// | results of passes and samples | protobuf if the poll accepts it, else JSON | JSON | protobuf if the poll accepts it, else JSON |
///
/// Parses from the words of `tinkex serve --wire`: `both`, `json`, `protobuf`.
///
/// # Examples
///
/// A program that is to work with servers of 2025 can be tried against one that takes JSON only:
///
/// ```
/// use tinkex::local::{LocalServer, WireFormats};
/// use tinkex::types::{Datum, LoraConfig, LossFn, ModelInput};
/// use tinkex::{Config, ServiceClient, Wire};
///
/// # fn main() -> tinkex::Result<()> {
/// let server = LocalServer::builder().wire(WireFormats::Json).start()?;
/// let config = Config::builder().base_url(server.base_url()).api_key("tml-local");
/// let client = ServiceClient::connect(config.wire(Wire::Json).build()?)?;
/// let trainer = client.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::default())?;
/// let datum = Datum::new(ModelInput::from_tokens([1, 2])).input("target_tokens", [2, 3])?.input("weights", [1, 1])?;
/// assert_eq!(trainer.forward([datum], LossFn::CrossEntropy)?.loss_fn_outputs.len(), 1);
/// assert_eq!("both".parse::<WireFormats>()?, WireFormats::Both);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WireFormats {
    /// JSON and protobuf.
    #[default]
    Both,
    /// JSON only, like a server of 2025.
    Json,
    /// Protobuf only, like the newest servers.
    Protobuf,
}

impl WireFormats {
    /// Whether passes in this format are taken.
    pub(crate) fn takes(self, format: WireFormat) -> bool {
        !matches!((self, format), (WireFormats::Json, WireFormat::Protobuf) | (WireFormats::Protobuf, WireFormat::Json))
    }

    /// The format of a result for a poll that prefers this one.
    pub(crate) fn answered(self, preferred: WireFormat) -> WireFormat {
        if self == WireFormats::Json { WireFormat::Json } else { preferred }
    }
}

impl FromStr for WireFormats {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "both" => Ok(WireFormats::Both),
            "json" => Ok(WireFormats::Json),
            "protobuf" => Ok(WireFormats::Protobuf),
            _ => Err(Error::config(format!("{word:?} names no wire formats")).with_hint("use both, json or protobuf")),
        }
    }
}
