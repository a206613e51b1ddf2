//! Loss functions, and their settings: which each has, and what they may be.

use std::collections::BTreeMap;

use super::loss_inputs::{LossInputs, SEQUENCE_RATIO_MASK};
use crate::local::server::api::body::bad_request;
use crate::local::server::http1::Response;
use crate::types::{LossFn, LossSetting};

pub(super) const CLIP_LOW: &str = "clip_low_threshold";
pub(super) const CLIP_HIGH: &str = "clip_high_threshold";
pub(super) const BETA: &str = "beta";
pub(super) const KL_COEFF: &str = "kl_coeff";
/// What programs for reinforcement learning keep beside their datums, and must take out before they send them.
const MASK: &str = "mask";

/// The loss functions of the server, with their settings and the loss inputs that only some of them read.
const LOSSES: [(LossFn, &[&str], &[&str]); 7] = [
    (LossFn::CrossEntropy, &[], &[]),
    (LossFn::ImportanceSampling, &[], &[]),
    (LossFn::Ppo, &[CLIP_LOW, CLIP_HIGH], &[CLIP_LOW, CLIP_HIGH]),
    (LossFn::Cispo, &[CLIP_LOW, CLIP_HIGH], &[CLIP_LOW, CLIP_HIGH]),
    (LossFn::Dro, &[BETA], &[]),
    (LossFn::Gspo, &[CLIP_LOW, CLIP_HIGH], &[CLIP_LOW, CLIP_HIGH, SEQUENCE_RATIO_MASK]),
    (LossFn::StableReinforce, &[KL_COEFF], &[]),
];

/// A loss function with those of its settings that the request has.
#[derive(Debug)]
pub(super) struct LossSettings {
    pub(super) function: LossFn,
    values: BTreeMap<&'static str, f32>,
    /// Those of the loss inputs that only some losses read.
    read_inputs: &'static [&'static str],
}

impl LossSettings {
    pub(super) fn new(function: &LossFn, config: &BTreeMap<String, LossSetting>) -> Result<Self, Response> {
        let Some((function, names, read_inputs)) = LOSSES.into_iter().find(|(known, ..)| known == function) else {
            return Err(unknown(function));
        };
        let value = |(name, setting): (&String, &LossSetting)| {
            let name = *names.iter().find(|known| *known == name).ok_or_else(|| foreign(&function, name, names))?;
            let number = setting.as_number().ok_or_else(|| format!("the loss setting {name} is not a number"))?;
            match number as f32 {
                value if value.is_finite() && value >= 0.0 => Ok((name, value)),
                _ => Err(format!(
                    "the loss setting {name} must be at least 0 and finite in single precision, but is {number}"
                )),
            }
        };
        // Forward passes for the log-probabilities may have the settings of the loss that they are for.
        let config = config.iter().filter(|_| function != LossFn::CrossEntropy);
        let values = config.map(value).collect::<Result<_, String>>().map_err(bad_request)?;
        Ok(LossSettings { function, values, read_inputs })
    }

    /// A setting, if the request has it.
    pub(super) fn value(&self, name: &str) -> Option<f32> {
        self.values.get(name).copied()
    }

    /// Refuses the loss inputs that other losses read, and that would change this one if it did, and a mask, which none reads. All
    /// else is ignored: one datum may be for several losses.
    pub(super) fn check_inputs(&self, inputs: &LossInputs<'_>) -> Result<(), String> {
        let foreign = |name: &&&str| inputs.has(name) && !self.read_inputs.contains(*name);
        match [CLIP_LOW, CLIP_HIGH, SEQUENCE_RATIO_MASK, MASK].iter().find(foreign) {
            Some(name) => {
                Err(format!("the loss function {} has no input {name}: leave it out", self.function.as_str()))
            }
            None => Ok(()),
        }
    }
}

fn unknown(function: &LossFn) -> Response {
    let names: Vec<_> = LOSSES.iter().map(|(known, ..)| known.as_str()).collect();
    bad_request(format!("unknown loss function {:?}: expected one of {}", function.as_str(), names.join(", ")))
}

fn foreign(function: &LossFn, name: &str, names: &[&str]) -> String {
    let known = match names {
        [] => "it has none".to_owned(),
        names => format!("it has {}", names.join(" and ")),
    };
    format!("the loss function {} has no setting {name:?}: {known}", function.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loss_has_its_own_settings() {
        let every = [CLIP_LOW, CLIP_HIGH, BETA, KL_COEFF];
        for (function, names, _) in LOSSES.into_iter().filter(|(function, ..)| *function != LossFn::CrossEntropy) {
            for name in every {
                let config = BTreeMap::from([(name.to_owned(), LossSetting::from(0.5))]);
                let settings = LossSettings::new(&function, &config);
                assert_eq!(settings.is_ok(), names.contains(&name), "{function:?} {name}");
                if let Ok(settings) = settings {
                    assert_eq!(settings.value(name), Some(0.5));
                }
            }
        }
    }

    #[test]
    fn settings_that_no_loss_can_have_are_refused() {
        for value in [LossSetting::from("0.5"), LossSetting::from(-0.5), LossSetting::from(1e39)] {
            let config = BTreeMap::from([(BETA.to_owned(), value.clone())]);
            let error = LossSettings::new(&LossFn::Dro, &config).unwrap_err();
            assert_eq!(error.status, 400, "{value:?}");
            assert!(error.detail().contains("beta"), "{}", error.detail());
        }
    }
}
