//! The settings of an optimizer step.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The settings of one optimizer step with Adam. The defaults are those of the Python client.
///
/// ```
/// use tinkex::types::AdamParams;
///
/// let params = AdamParams::new().learning_rate(3e-4).weight_decay(0.01).grad_clip_norm(1.0);
/// params.validate()?;
/// assert_eq!((params.learning_rate, params.eps), (3e-4, 1e-12));
/// assert!(params.learning_rate(f64::NAN).validate().is_err());
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct AdamParams {
    /// The learning rate. Defaults to 1e-4.
    pub learning_rate: f64,
    /// The decay rate of the running mean of the gradients, per step. Defaults to 0.9.
    pub beta1: f64,
    /// The decay rate of the running mean of the squared gradients, per step. Defaults to 0.95.
    pub beta2: f64,
    /// Added to the denominator for numerical stability. Defaults to 1e-12.
    pub eps: f64,
    /// The decoupled weight decay (AdamW): each step multiplies every weight by 1 − `learning_rate` · `weight_decay`.
    /// Defaults to 0, no decay. 0 is not sent: servers of 0.4.1 refuse the field, and all others have this default.
    #[serde(skip_serializing_if = "is_zero")]
    pub weight_decay: f64,
    /// The maximum L2 norm of the gradient over all weights together; a longer gradient is scaled down to it. Defaults
    /// to 0, no clipping. 0 is not sent, as for the weight decay.
    #[serde(skip_serializing_if = "is_zero")]
    pub grad_clip_norm: f64,
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

impl Default for AdamParams {
    fn default() -> Self {
        AdamParams { learning_rate: 1e-4, beta1: 0.9, beta2: 0.95, eps: 1e-12, weight_decay: 0.0, grad_clip_norm: 0.0 }
    }
}

impl AdamParams {
    /// The defaults: learning rate 1e-4, betas 0.9 and 0.95, eps 1e-12, no weight decay, no gradient clipping.
    #[must_use]
    pub fn new() -> Self {
        AdamParams::default()
    }

    /// Sets the learning rate. Defaults to 1e-4.
    #[must_use]
    pub fn learning_rate(mut self, learning_rate: f64) -> Self {
        self.learning_rate = learning_rate;
        self
    }

    /// Sets the decay rate of the running mean of the gradients. Defaults to 0.9.
    #[must_use]
    pub fn beta1(mut self, beta1: f64) -> Self {
        self.beta1 = beta1;
        self
    }

    /// Sets the decay rate of the running mean of the squared gradients. Defaults to 0.95.
    #[must_use]
    pub fn beta2(mut self, beta2: f64) -> Self {
        self.beta2 = beta2;
        self
    }

    /// Sets the number added to the denominator for numerical stability. Defaults to 1e-12.
    #[must_use]
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Sets the decoupled weight decay (AdamW). Defaults to 0, no decay.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Sets the maximum L2 norm of the gradient over all weights together. Defaults to 0, no clipping.
    #[must_use]
    pub fn grad_clip_norm(mut self, grad_clip_norm: f64) -> Self {
        self.grad_clip_norm = grad_clip_norm;
        self
    }

    /// Checks that a server can take every setting.
    ///
    /// # Errors
    ///
    /// A setting that is NaN or infinite; a `beta1` or `beta2` that is negative, or 1 or more; a negative `eps`,
    /// `weight_decay` or `grad_clip_norm`.
    pub fn validate(&self) -> Result<()> {
        let AdamParams { learning_rate, beta1, beta2, eps, weight_decay, grad_clip_norm } = *self;
        let settings = [
            ("learning_rate", learning_rate),
            ("beta1", beta1),
            ("beta2", beta2),
            ("eps", eps),
            ("weight_decay", weight_decay),
            ("grad_clip_norm", grad_clip_norm),
        ];
        if let Some((name, value)) = settings.into_iter().find(|(_, value)| !value.is_finite()) {
            return Err(Error::invalid_input(format!("{name} must be finite, but is {value}")));
        }
        // A negative learning rate climbs: some programs want that.
        if let Some((name, value)) = settings[1..].iter().find(|(_, value)| *value < 0.0) {
            return Err(Error::invalid_input(format!("{name} must be at least 0, but is {value}")));
        }
        match settings[1..3].iter().find(|(_, value)| *value >= 1.0) {
            Some((name, value)) => Err(Error::invalid_input(format!("{name} must be less than 1, but is {value}"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unset_adam_settings_are_not_sent() {
        let json = serde_json::to_string(&AdamParams::new()).unwrap();
        assert_eq!(json, r#"{"learning_rate":0.0001,"beta1":0.9,"beta2":0.95,"eps":1e-12}"#);
        let json = serde_json::to_string(&AdamParams::new().weight_decay(0.1).grad_clip_norm(1.0)).unwrap();
        assert!(json.ends_with(r#""eps":1e-12,"weight_decay":0.1,"grad_clip_norm":1.0}"#), "{json}");
    }

    #[test]
    fn adam_settings_have_bounds() {
        let adam = AdamParams::new;
        for (params, is_ok) in [
            (adam().learning_rate(-1.0), true),
            (adam().beta1(0.0).beta2(0.0).eps(0.0), true),
            (adam().beta1(1.0), false),
            (adam().beta1(-0.1), false),
            (adam().beta2(1.0), false),
            (adam().eps(-1e-9), false),
            (adam().weight_decay(-0.1), false),
            (adam().weight_decay(10.0), true),
            (adam().grad_clip_norm(-1.0), false),
        ] {
            assert_eq!(params.validate().is_ok(), is_ok, "{params:?}");
        }
    }

    #[test]
    fn every_adam_setting_must_be_finite() {
        let setters = [
            AdamParams::learning_rate,
            AdamParams::beta1,
            AdamParams::beta2,
            AdamParams::eps,
            AdamParams::weight_decay,
            AdamParams::grad_clip_norm,
        ];
        for set in setters {
            assert!(set(AdamParams::new(), 0.5).validate().is_ok());
            for value in [f64::NAN, f64::INFINITY] {
                assert!(set(AdamParams::new(), value).validate().is_err());
            }
        }
    }
}
