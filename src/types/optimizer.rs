//! The optimizer of a model, and the settings of one step with it.

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::AdamParams;
use crate::error::{Error, Result};

/// AdamW, the default optimizer of a model. [`OptimizerConfig`] has an example.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "adamw")]
#[non_exhaustive]
pub struct AdamOptimizerConfig {}

impl AdamOptimizerConfig {
    /// AdamW. It has no settings of its own: those of a step are [`AdamParams`].
    #[must_use]
    pub fn new() -> Self {
        AdamOptimizerConfig::default()
    }
}

/// Dimuon, an optimizer that today's official service offers. [`OptimizerConfig`] has an example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "dimuon")]
#[non_exhaustive]
pub struct DimuonOptimizerConfig {
    /// The version of the optimizer. Defaults to 1, the only one that the Python client 0.38.0 knows.
    #[serde(default = "first_version")]
    pub version: u32,
}

fn first_version() -> u32 {
    1
}

impl Default for DimuonOptimizerConfig {
    fn default() -> Self {
        DimuonOptimizerConfig { version: first_version() }
    }
}

impl DimuonOptimizerConfig {
    /// Dimuon of version 1. The settings of a step are [`DimuonParams`].
    #[must_use]
    pub fn new() -> Self {
        DimuonOptimizerConfig::default()
    }
}

/// The optimizer of a model, chosen when the model is created. Servers that know no other use AdamW.
///
/// ```
/// use tinkex::types::{DimuonOptimizerConfig, OptimizerConfig};
///
/// let config: OptimizerConfig = DimuonOptimizerConfig::new().into();
/// assert_eq!(serde_json::to_string(&config)?, r#"{"type":"dimuon","version":1}"#);
/// assert_eq!(serde_json::to_string(&OptimizerConfig::default())?, r#"{"type":"adamw"}"#);
///
/// let later: OptimizerConfig = serde_json::from_str(r#"{"type":"later","momentum":0.5}"#)?;
/// assert_eq!(later.name(), "later");
/// assert!(matches!(later, OptimizerConfig::Other(_)));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptimizerConfig {
    /// AdamW, the default.
    Adam(AdamOptimizerConfig),
    /// Dimuon.
    Dimuon(DimuonOptimizerConfig),
    /// An optimizer that this version does not know, as the server described it.
    Other(Map<String, Value>),
}

impl OptimizerConfig {
    /// The name on the wire: `adamw`, `dimuon` or another.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            OptimizerConfig::Adam(_) => "adamw",
            OptimizerConfig::Dimuon(_) => "dimuon",
            OptimizerConfig::Other(fields) => fields.get("type").and_then(Value::as_str).unwrap_or_default(),
        }
    }
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        AdamOptimizerConfig::new().into()
    }
}

impl From<AdamOptimizerConfig> for OptimizerConfig {
    fn from(config: AdamOptimizerConfig) -> Self {
        OptimizerConfig::Adam(config)
    }
}

impl From<DimuonOptimizerConfig> for OptimizerConfig {
    fn from(config: DimuonOptimizerConfig) -> Self {
        OptimizerConfig::Dimuon(config)
    }
}

impl Serialize for OptimizerConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            OptimizerConfig::Adam(config) => config.serialize(serializer),
            OptimizerConfig::Dimuon(config) => config.serialize(serializer),
            OptimizerConfig::Other(fields) => fields.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for OptimizerConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Map::deserialize(deserializer)?;
        match fields.get("type").and_then(Value::as_str) {
            Some("adamw") => Ok(AdamOptimizerConfig::new().into()),
            Some("dimuon") => {
                DimuonOptimizerConfig::deserialize(Value::Object(fields)).map(Self::Dimuon).map_err(D::Error::custom)
            }
            _ => Ok(OptimizerConfig::Other(fields)),
        }
    }
}

/// The settings of one step with Dimuon, for a model that was created with [`DimuonOptimizerConfig`].
///
/// ```
/// use tinkex::types::DimuonParams;
///
/// let params = DimuonParams::new(0.02).grad_clip_norm(1.0);
/// params.validate()?;
/// assert_eq!(params.beta1, 0.9);
/// assert!(params.beta1(1.0).validate().is_err());
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "dimuon")]
#[non_exhaustive]
pub struct DimuonParams {
    /// The learning rate, at least 0.
    pub learning_rate: f64,
    /// The maximum L2 norm of the gradient over all weights together; a longer gradient is scaled down to it. Defaults to 0,
    /// no clipping.
    #[serde(default)]
    pub grad_clip_norm: f64,
    /// The decay rate of the momentum, at least 0 and less than 1. Defaults to 0.9.
    #[serde(default = "default_beta1")]
    pub beta1: f64,
}

fn default_beta1() -> f64 {
    0.9
}

impl DimuonParams {
    /// A step with this learning rate, `beta1` 0.9 and no gradient clipping.
    #[must_use]
    pub fn new(learning_rate: f64) -> Self {
        DimuonParams { learning_rate, grad_clip_norm: 0.0, beta1: default_beta1() }
    }

    /// Sets the maximum L2 norm of the gradient over all weights together. Defaults to 0, no clipping.
    #[must_use]
    pub fn grad_clip_norm(mut self, grad_clip_norm: f64) -> Self {
        self.grad_clip_norm = grad_clip_norm;
        self
    }

    /// Sets the decay rate of the momentum. Defaults to 0.9.
    #[must_use]
    pub fn beta1(mut self, beta1: f64) -> Self {
        self.beta1 = beta1;
        self
    }

    /// Checks that a server can take every setting.
    ///
    /// # Errors
    ///
    /// A setting that is negative, NaN or infinite, and a `beta1` of 1 or more.
    pub fn validate(&self) -> Result<()> {
        let DimuonParams { learning_rate, grad_clip_norm, beta1 } = *self;
        for (name, value) in [("learning_rate", learning_rate), ("grad_clip_norm", grad_clip_norm), ("beta1", beta1)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::invalid_input(format!("{name} must be finite and at least 0, but is {value}")));
            }
        }
        if beta1 >= 1.0 {
            return Err(Error::invalid_input(format!("beta1 must be less than 1, but is {beta1}")));
        }
        Ok(())
    }
}

/// The settings of one optimizer step: [`AdamParams`] or [`DimuonParams`], as the model's [`OptimizerConfig`] needs them.
///
/// ```
/// use tinkex::types::{AdamParams, DimuonParams, OptimParams};
///
/// let step: OptimParams = AdamParams::new().learning_rate(3e-4).into();
/// assert!(matches!(step, OptimParams::Adam(_)));
/// OptimParams::from(DimuonParams::new(0.02)).validate()?;
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum OptimParams {
    /// A step with AdamW.
    Adam(AdamParams),
    /// A step with Dimuon.
    Dimuon(DimuonParams),
}

impl OptimParams {
    /// Checks the settings before they are sent.
    ///
    /// # Errors
    ///
    /// As [`AdamParams::validate`] and [`DimuonParams::validate`].
    pub fn validate(&self) -> Result<()> {
        match self {
            OptimParams::Adam(params) => params.validate(),
            OptimParams::Dimuon(params) => params.validate(),
        }
    }
}

impl From<AdamParams> for OptimParams {
    fn from(params: AdamParams) -> Self {
        OptimParams::Adam(params)
    }
}

impl From<DimuonParams> for OptimParams {
    fn from(params: DimuonParams) -> Self {
        OptimParams::Dimuon(params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimuon_settings_have_pythons_bounds() {
        let params = DimuonParams::new;
        for (params, is_ok) in [
            (params(0.0), true),
            (params(-1.0), false),
            (params(f64::NAN), false),
            (params(1.0).beta1(0.999), true),
            (params(1.0).beta1(1.0), false),
            (params(1.0).beta1(-0.1), false),
            (params(1.0).grad_clip_norm(-1.0), false),
            (params(1.0).grad_clip_norm(f64::INFINITY), false),
        ] {
            assert_eq!(params.validate().is_ok(), is_ok, "{params:?}");
        }
    }

    #[test]
    fn a_known_optimizer_ignores_unknown_settings() {
        let read = |json: &str| serde_json::from_str::<OptimizerConfig>(json).unwrap();
        assert_eq!(read(r#"{"type":"adamw","later":1}"#), OptimizerConfig::default());
        assert_eq!(read(r#"{"type":"dimuon","later":1}"#), DimuonOptimizerConfig::new().into());
        assert_eq!(read(r#"{"type":"dimuon","version":2}"#), DimuonOptimizerConfig { version: 2 }.into());
        assert_eq!(read("{}").name(), "");
        assert!(serde_json::from_str::<OptimizerConfig>(r#"{"type":"dimuon","version":"x"}"#).is_err());
        assert!(serde_json::from_str::<OptimizerConfig>("1").is_err());
    }
}
