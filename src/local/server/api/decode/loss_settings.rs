//! Loss functions, and their settings: which each has, and what they may be.

use std::collections::BTreeMap;

use super::loss_inputs::{LossInputs, SEQUENCE_RATIO_MASK, TARGET_TOKENS};
use crate::local::server::api::body::bad_request;
use crate::local::server::http1::Response;
use crate::types::{LossFn, LossSetting};

pub(super) const CLIP_LOW: &str = "clip_low_threshold";
pub(super) const CLIP_HIGH: &str = "clip_high_threshold";
pub(super) const BETA: &str = "beta";
pub(super) const KL_COEFF: &str = "kl_coeff";
/// The loss inputs that several functions read. A datum may have those of others: it may be for several functions.
const SHARED_INPUTS: [&str; 4] = [TARGET_TOKENS, "weights", "logprobs", "advantages"];

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
    /// Whether settings and inputs of other losses are ignored, and inputs of none: in a forward pass for the log-probabilities.
    ignores_others: bool,
}

impl LossSettings {
    pub(super) fn new(
        function: &LossFn,
        config: &BTreeMap<String, LossSetting>,
        forward_only: bool,
    ) -> Result<Self, Response> {
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
        let is_for_other = |name: &str| LOSSES.iter().any(|(_, settings, _)| settings.contains(&name));
        let ignores_others = forward_only && function == LossFn::CrossEntropy;
        let config = config.iter().filter(|(name, _)| !(ignores_others && is_for_other(name)));
        let values = config.map(value).collect::<Result<_, String>>().map_err(bad_request)?;
        Ok(LossSettings { function, values, read_inputs, ignores_others })
    }

    /// A setting, if the request has it.
    pub(super) fn value(&self, name: &str) -> Option<f32> {
        self.values.get(name).copied()
    }

    /// Refuses the loss inputs that no loss reads, as one with a misspelled name, and those that only others read and that would
    /// change this one if it did. The first pass of a custom loss may have inputs of its own.
    pub(super) fn check_inputs(&self, inputs: &LossInputs<'_>) -> Result<(), String> {
        let is_read = |name: &&str| SHARED_INPUTS.contains(name) || self.read_inputs.contains(name);
        match inputs.names().find(|name| !self.ignores_others && !is_read(name)) {
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
        for (function, names, _) in LOSSES {
            for (name, forward_only) in every.into_iter().flat_map(|name| [(name, false), (name, true)]) {
                let config = BTreeMap::from([(name.to_owned(), LossSetting::from(0.5))]);
                let settings = LossSettings::new(&function, &config, forward_only);
                let is_ignored = forward_only && function == LossFn::CrossEntropy;
                assert_eq!(settings.is_ok(), is_ignored || names.contains(&name), "{function:?} {name}");
                let settings = settings.ok().filter(|_| !is_ignored);
                if let Some(settings) = settings {
                    assert_eq!(settings.value(name), Some(0.5));
                }
            }
        }
    }

    #[test]
    fn settings_that_no_loss_can_have_are_refused() {
        for forward_only in [false, true] {
            let config = BTreeMap::from([("clip_low_treshold".to_owned(), LossSetting::from(0.5))]);
            let error = LossSettings::new(&LossFn::CrossEntropy, &config, forward_only).unwrap_err();
            assert!(error.detail().contains("clip_low_treshold"), "{}", error.detail());
        }
        for value in [LossSetting::from("0.5"), LossSetting::from(-0.5), LossSetting::from(1e39)] {
            let config = BTreeMap::from([(BETA.to_owned(), value.clone())]);
            let error = LossSettings::new(&LossFn::Dro, &config, false).unwrap_err();
            assert_eq!(error.status, 400, "{value:?}");
            assert!(error.detail().contains("beta"), "{}", error.detail());
        }
    }
}
