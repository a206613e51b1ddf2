//! Rotary positions in a `config.json`.

use super::options::Options;
use crate::local::pretrained::refusal::Refusal::{self, Damaged, Unsupported};
use crate::local::transformer::llama3_divisors;

/// The base of the angles, and what the frequencies are divided by.
#[derive(Debug, PartialEq)]
pub(super) struct Rope {
    pub(super) theta: f64,
    pub(super) divisors: Option<Vec<f64>>,
}

/// Reads `rope_theta` and `rope_scaling`; or `rope_parameters`, which has both since transformers 5.
pub(super) fn read(config: &Options<'_>, head_size: usize) -> Result<Rope, Refusal> {
    let (parameters, scaling) = (config.object("rope_parameters")?, config.object("rope_scaling")?);
    for options in parameters.iter().chain(&scaling).chain([config]) {
        if options.positive("partial_rotary_factor")?.is_some_and(|factor| factor != 1.0) {
            return Err(Unsupported("it rotates a part of each head only (partial_rotary_factor)".to_owned()));
        }
    }
    let written = match &parameters {
        Some(parameters) => parameters.positive("rope_theta")?,
        None => None,
    };
    let theta = written.or(config.positive("rope_theta")?).unwrap_or(10_000.0);
    let rope = |name, part: Option<Options<'_>>| part.map(|part| read_part(name, &part, theta, head_size)).transpose();
    match (rope("rope_parameters", parameters)?, rope("rope_scaling", scaling)?) {
        // Which of them counts depends on the version of transformers.
        (Some(parameters), Some(scaling)) if parameters != scaling => {
            Err(Unsupported("its rope_parameters and rope_scaling differ".to_owned()))
        }
        (Some(rope), _) | (None, Some(rope)) => Ok(rope),
        (None, None) => Ok(Rope { theta, divisors: None }),
    }
}

/// Reads one of the two objects. The base of the angles is `theta`, unless it is there.
fn read_part(name: &str, scaling: &Options<'_>, theta: f64, head_size: usize) -> Result<Rope, Refusal> {
    let theta = scaling.positive("rope_theta")?.unwrap_or(theta);
    if scaling.0.values().any(|value| value.is_object()) {
        return Err(Unsupported(format!("its layers rotate in different ways ({name})")));
    }
    let kind = scaling.text("rope_type")?.or(scaling.text("type")?).unwrap_or("default");
    let divisors = match kind {
        "default" => None,
        "llama3" => {
            let needed = |key: &str| scaling.positive(key)?.ok_or_else(|| Damaged(format!("{name} has no {key}")));
            let ramp = [needed("low_freq_factor")?, needed("high_freq_factor")?];
            if ramp[0] >= ramp[1] {
                return Err(Damaged(format!("high_freq_factor of {name} is not above low_freq_factor")));
            }
            let (factor, original) = (needed("factor")?, needed("original_max_position_embeddings")?);
            Some(llama3_divisors(head_size, theta, factor, ramp, original))
        }
        other => return Err(Unsupported(format!("its positions are scaled by the method {other:?} ({name})"))),
    };
    Ok(Rope { theta, divisors })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(config: &Value) -> Result<Rope, Refusal> {
        read(&Options(config.as_object().unwrap()), 8)
    }

    #[test]
    fn theta_is_in_one_of_three_places() {
        for (config, theta) in [
            (json!({}), 10_000.0),
            (json!({"rope_theta": 5e5, "rope_scaling": null}), 5e5),
            (json!({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}, "rope_theta": 7.0}), 1e6),
            (json!({"rope_parameters": {"rope_type": "default"}, "rope_theta": 7.0}), 7.0),
        ] {
            assert_eq!(of(&config), Ok(Rope { theta, divisors: None }), "{config}");
        }
    }

    #[test]
    fn other_rotations_are_refused_by_name() {
        let llama3 = json!({"type": "llama3", "factor": 2.0, "low_freq_factor": 1, "high_freq_factor": 4,
            "original_max_position_embeddings": 64});
        let twice = of(&json!({"rope_parameters": llama3, "rope_scaling": llama3}));
        assert!(twice.is_ok_and(|rope| rope.divisors.is_some()));
        for (config, why) in [
            (json!({"rope_scaling": {"type": "linear", "factor": 2.0}}), "\"linear\""),
            (json!({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}), "\"yarn\""),
            (json!({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}), "no low_freq_factor"),
            (
                json!({"rope_scaling": {"rope_type": "llama3", "low_freq_factor": 4, "high_freq_factor": 4}}),
                "is not above",
            ),
            (json!({"rope_parameters": {"rope_type": "default"}, "rope_scaling": llama3}), "rope_scaling differ"),
            (
                json!({"rope_parameters": {"rope_theta": 1.0}, "rope_scaling": {"rope_theta": 2.0}}),
                "rope_scaling differ",
            ),
            (json!({"rope_parameters": {"full_attention": {}}}), "different ways"),
            (json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor"),
            (json!({"rope_theta": -1}), "rope_theta is -1"),
        ] {
            let error = of(&config).unwrap_err();
            assert!(error.why().contains(why), "{why}: {error:?}");
        }
    }
}
