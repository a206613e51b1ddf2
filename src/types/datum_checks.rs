//! What a loss function needs of a datum: which loss inputs, and how many numbers in each. Other names are left to the server.

use std::fmt::Display;

use super::{Datum, Dtype, LossFn, TensorData};
use crate::error::{Error, Result};

const TARGETS: &str = "target_tokens";

/// The loss inputs with a number for each target.
const PER_TARGET: [&str; 6] =
    ["weights", "logprobs", "advantages", "clip_low_threshold", "clip_high_threshold", "sequence_ratio_mask"];

const HINT: &str = "give each loss input one number for each token of the model input: a text of N + 1 tokens has N inputs and N \
                    targets, as toolkit::WeightedTokens makes them";

/// The loss inputs that a datum must have for this function. Those of a function that the server alone knows are not checked.
pub(super) fn required(function: &LossFn) -> &'static [&'static str] {
    match function {
        LossFn::CrossEntropy => &[TARGETS, "weights"],
        LossFn::ImportanceSampling | LossFn::Ppo | LossFn::Cispo | LossFn::Dro | LossFn::StableReinforce => {
            &[TARGETS, "logprobs", "advantages"]
        }
        LossFn::Gspo => &[TARGETS, "logprobs", "advantages", "sequence_ratio_mask"],
        _ => &[],
    }
}

/// Checks that the datum has the loss inputs of this function. `place` says which datum it is, such as ` of datum 3`.
pub(super) fn check_required(datum: &Datum, function: &LossFn, place: &dyn Display) -> Result<()> {
    match required(function).iter().find(|name| !datum.loss_fn_inputs.contains_key(**name)) {
        Some(name) => {
            let function = function.as_str();
            let message = format!("the loss input {name:?}{place} is missing, which {function} needs");
            Err(Error::invalid_input(message)
                .with_hint("add it with Datum::input; types::LossFn lists the inputs of each loss"))
        }
        None => check_columns(datum, function, place),
    }
}

/// Checks that only cross-entropy gets several targets for each token, of the functions that are known.
fn check_columns(datum: &Datum, function: &LossFn, place: &dyn Display) -> Result<()> {
    let columns = datum.loss_fn_inputs.get(TARGETS).and_then(TensorData::shape).and_then(|shape| shape.get(1)).copied();
    match columns.filter(|columns| *columns > 1) {
        Some(columns) if *function != LossFn::CrossEntropy && !required(function).is_empty() => {
            let function = function.as_str();
            let message = format!("the loss input {TARGETS:?}{place} has {columns} targets for each token");
            Err(Error::invalid_input(message)
                .with_hint(format!("{function} takes one; only cross_entropy takes several")))
        }
        _ => Ok(()),
    }
}

/// Checks that the model input, the targets and the other loss inputs have numbers for the same tokens.
pub(super) fn check_lengths(datum: &Datum, place: &dyn Display) -> Result<()> {
    let targets = datum.loss_fn_inputs.get(TARGETS);
    let columns = match targets.and_then(TensorData::shape) {
        Some(&[_, columns]) => Some(columns),
        _ => None,
    };
    let known = datum.model_input.known_len();
    let rows = known.or_else(|| targets.map(rows));
    if let Some(targets) = targets {
        if targets.dtype() != Dtype::Int64 {
            let message = format!("the loss input {TARGETS:?}{place} has the type {}", targets.dtype());
            return Err(Error::invalid_input(message).with_hint("tokens are int64"));
        }
        if columns == Some(0) {
            return Err(Error::invalid_input(format!("the loss input {TARGETS:?}{place} has no column")));
        }
    }
    let Some(rows) = rows else { return Ok(()) };
    let others = PER_TARGET.iter().filter_map(|name| Some((*name, datum.loss_fn_inputs.get(*name)?)));
    let unfit = targets.map(|targets| (TARGETS, targets)).into_iter().chain(others);
    match unfit.into_iter().find(|(_, tensor)| !fits(tensor, rows, columns)) {
        Some((name, tensor)) => {
            let message =
                format!("the loss input {name:?}{place} has {} for {}", values(tensor), tokens(rows, columns));
            Err(Error::invalid_input(message).with_hint(HINT))
        }
        None => Ok(()),
    }
}

/// The number of tokens that a tensor has numbers for.
pub(super) fn rows(tensor: &TensorData) -> usize {
    tensor.shape().and_then(<[usize]>::first).copied().unwrap_or(tensor.len())
}

/// Whether a tensor has a number for each target: `rows` ones, or `rows` × `columns`.
fn fits(tensor: &TensorData, rows: usize, columns: Option<usize>) -> bool {
    match tensor.shape() {
        None => Some(tensor.len()) == rows.checked_mul(columns.unwrap_or(1)),
        Some(&[length]) => columns.is_none_or(|columns| columns == 1) && length == rows,
        Some(shape) => shape == [rows, columns.unwrap_or(1)],
    }
}

fn values(tensor: &TensorData) -> String {
    match tensor.shape() {
        Some(shape) if shape.len() != 1 => format!("the shape {shape:?}"),
        _ => format!("{} values", tensor.len()),
    }
}

fn tokens(rows: usize, columns: Option<usize>) -> String {
    match columns {
        Some(columns) => format!("a model input of {rows} tokens with {columns} targets each"),
        None => format!("a model input of {rows} tokens"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ImageChunk, ImageFormat, ModelInput};

    fn integers(shape: &[usize]) -> TensorData {
        TensorData::from(vec![1_i64; shape.iter().product()]).with_shape(shape).unwrap()
    }

    fn floats(shape: &[usize]) -> TensorData {
        TensorData::from(vec![0.5_f32; shape.iter().product()]).with_shape(shape).unwrap()
    }

    fn check(input: impl Into<ModelInput>, inputs: &[(&str, &TensorData)]) -> String {
        let datum = inputs.iter().fold(Datum::new(input), |datum, (name, tensor)| datum.input(*name, *tensor).unwrap());
        datum.validate().err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn loss_inputs_fit_the_targets() {
        let sparse = TensorData::sparse_csr([7_i64, 8, 9], [0, 1, 3], [2, 0, 1], [2, 3]).unwrap();
        let sparse_weights = TensorData::sparse_csr([0.5_f32], [0, 0, 1], [1], [2, 3]).unwrap();
        for (targets, weights, found) in [
            (integers(&[2]), floats(&[2]), ""),
            (integers(&[2]).without_shape(), floats(&[2]).without_shape(), ""),
            (integers(&[2]), floats(&[2, 1]), ""),
            (integers(&[2, 1]), floats(&[2]), ""),
            (integers(&[2, 3]), floats(&[2, 3]), ""),
            (integers(&[2, 3]), floats(&[6]).without_shape(), ""),
            (sparse.clone(), sparse_weights.clone(), ""),
            (sparse.clone(), floats(&[2, 3]), ""),
            (integers(&[2]), sparse_weights, "\"weights\" has the shape [2, 3] for a model input of 2 tokens"),
            (sparse, floats(&[2]), "\"weights\" has 2 values for a model input of 2 tokens with 3 targets each"),
            (integers(&[3]), floats(&[3]), "\"target_tokens\" has 3 values for a model input of 2 tokens"),
            (integers(&[2]), floats(&[3]), "\"weights\" has 3 values for a model input of 2 tokens"),
            (integers(&[2]), floats(&[1, 2]), "\"weights\" has the shape [1, 2]"),
            (integers(&[2, 3]), floats(&[6]), "\"weights\" has 6 values for a model input of 2 tokens with 3 targets"),
            (integers(&[3, 2]), floats(&[3, 2]), "\"target_tokens\" has the shape [3, 2]"),
            (integers(&[2, 1, 1]), floats(&[2]), "\"target_tokens\" has the shape [2, 1, 1]"),
            (integers(&[2, 0]), floats(&[2, 0]), "\"target_tokens\" has no column"),
            (floats(&[2]), floats(&[2]), "\"target_tokens\" has the type float32; tokens are int64"),
        ] {
            let error = check([1, 2], &[("target_tokens", &targets), ("weights", &weights)]);
            assert!(error.contains(found) && error.is_empty() == found.is_empty(), "{targets:?} {weights:?}: {error}");
        }
    }

    #[test]
    fn every_input_per_target_is_checked() {
        for name in PER_TARGET {
            let error = check([1, 2, 3], &[("target_tokens", &integers(&[3])), (name, &floats(&[2]))]);
            assert!(error.contains(&format!("{name:?} has 2 values for a model input of 3 tokens")), "{error}");
            let error = check([1, 2, 3], &[(name, &floats(&[2]))]);
            assert!(error.contains("2 values"), "without targets: {error}");
        }
        assert_eq!(check([1, 2, 3], &[("target_tokens", &integers(&[3])), ("mine", &floats(&[7]))]), "");
    }

    #[test]
    fn an_image_of_unknown_length_is_left_out() {
        let image = |tokens: Option<u32>| ImageChunk::from_parts([1], ImageFormat::Png, None, None, tokens);
        let input = |tokens: Option<u32>| ModelInput::from_tokens([1, 2]).append(image(tokens));
        assert_eq!(check(input(None), &[("target_tokens", &integers(&[9])), ("weights", &floats(&[9]))]), "");
        assert!(
            check(input(None), &[("target_tokens", &integers(&[9])), ("weights", &floats(&[8]))]).contains("8 values")
        );
        assert!(check(input(Some(3)), &[("target_tokens", &integers(&[9]))]).contains("model input of 5 tokens"));
        assert_eq!(check(input(None), &[("weights", &floats(&[8]))]), "");
    }

    #[test]
    fn several_targets_are_for_cross_entropy() {
        let names = ["weights", "logprobs", "advantages", "sequence_ratio_mask"];
        let datum = Datum::new([1, 2]).input("target_tokens", integers(&[2, 3])).unwrap();
        let datum = names.iter().fold(datum, |datum, name| datum.input(*name, floats(&[2, 3])).unwrap());
        for function in ["cross_entropy", "of_the_server"] {
            datum.validate_for(&LossFn::from(function)).unwrap();
        }
        for function in ["importance_sampling", "ppo", "cispo", "dro", "gspo", "stable_reinforce"] {
            let error = datum.validate_for(&LossFn::from(function)).unwrap_err().to_string();
            let expected = format!("\"target_tokens\" has 3 targets for each token; {function} takes one");
            assert!(error.contains(&expected), "{error}");
        }
    }

    #[test]
    fn each_function_needs_its_inputs() {
        let all = ["target_tokens", "weights", "logprobs", "advantages", "sequence_ratio_mask"];
        let values = |name: &str| if name == TARGETS { integers(&[1]) } else { floats(&[1]) };
        for function in ["cross_entropy", "importance_sampling", "ppo", "cispo", "dro", "gspo", "stable_reinforce"] {
            let function = LossFn::from(function);
            let full = all.iter().fold(Datum::new([1]), |datum, name| datum.input(*name, values(name)).unwrap());
            full.validate_for(&function).unwrap();
            for name in all {
                let mut datum = full.clone();
                datum.loss_fn_inputs.remove(name);
                let error = datum.validate_for(&function).err().map(|error| error.to_string());
                let is_required = required(&function).contains(&name);
                let expected = format!("the loss input {name:?} is missing, which {} needs", function.as_str());
                assert_eq!(error.is_some_and(|error| error.starts_with(&expected)), is_required, "{function:?} {name}");
            }
        }
        for function in [LossFn::Custom, LossFn::from("of_the_server")] {
            Datum::new([1]).validate_for(&function).unwrap();
        }
    }
}
