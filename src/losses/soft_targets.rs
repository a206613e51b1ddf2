//! Off-policy distillation with the most likely tokens of a teacher.

use crate::error::{Error, Result};
use crate::types::{Datum, TensorData, TokenLogprob};

/// Off-policy distillation: the datum with K targets for each position, the teacher's most likely tokens, in place of one. For
/// [`LossFn::CrossEntropy`](crate::types::LossFn::CrossEntropy), whose loss is then KL(teacher ‖ student) plus the teacher's entropy.
///
/// The datum has N targets, and `weights` or none, which are ones. `teacher` has the most likely tokens at each of the N + 1 tokens of
/// the whole text, most likely first, as
/// [`topk_prompt_logprobs`](crate::types::SampleResponse::topk_prompt_logprobs) of a sample has them whose prompt is that text. The first
/// `k` of a position become its targets, and their weights are the position's weight times their probabilities, divided by the sum of
/// these. Where the teacher has fewer, the rest has weight 0. The result has `target_tokens` and `weights` of the shape `[N, k]`, the
/// model input, and no other loss input.
///
/// # Errors
///
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a `k` of 0, a datum without one dense target and float32 weight for each
/// position, another number of the teacher's positions, and a position with a weight for which the teacher has no token or a
/// log-probability that is NaN or infinite.
///
/// ```no_run
/// # fn f(teacher: tinkex::SamplingClient, student: tinkex::TrainingClient) -> tinkex::Result<()> {
/// use tinkex::SampleOptions;
/// use tinkex::losses::soft_targets;
/// use tinkex::toolkit::WeightedTokens;
/// use tinkex::types::{LossFn, ModelInput, SamplingParams};
///
/// let text = WeightedTokens::new().context([10, 11]).trained([12, 13]);
/// let prompt = ModelInput::from_tokens(text.tokens());
/// let one = SamplingParams::new().max_tokens(1);
/// let scored = teacher.sample_with(SampleOptions::new(&prompt).sampling_params(one).topk_prompt_logprobs(20))?;
/// let datum = soft_targets(&text.datum()?, &scored.topk_prompt_logprobs.unwrap_or_default(), 20)?;
/// student.forward_backward(datum, LossFn::CrossEntropy)?;
/// # Ok(())
/// # }
/// ```
pub fn soft_targets(datum: &Datum, teacher: &[Option<Vec<TokenLogprob>>], k: usize) -> Result<Datum> {
    let refuse = |message: String, hint: &'static str| Err(Error::invalid_input(message).with_hint(hint));
    if k == 0 {
        return refuse("the number of targets for each position is 0".to_owned(), "20 is common");
    }
    let Some(targets) = datum.loss_fn_inputs.get("target_tokens").and_then(TensorData::as_i64) else {
        return refuse("the datum has no dense target_tokens".to_owned(), "make it with toolkit::WeightedTokens");
    };
    let count = datum.model_input.len();
    let ones = vec![1.0; count];
    let weights = match datum.loss_fn_inputs.get("weights") {
        None => Some(ones.as_slice()),
        Some(weights) => weights.as_f32(),
    };
    let Some(weights) = weights.filter(|weights| weights.len() == count && targets.len() == count) else {
        let message = format!("the datum has not one target and float32 weight for each of {count} positions");
        return refuse(message, "make it with toolkit::WeightedTokens");
    };
    let Some((_, rows)) = teacher.split_first().filter(|(_, rows)| rows.len() == count) else {
        let message = format!("the teacher has {} positions for a text of {} tokens", teacher.len(), count + 1);
        return refuse(message, "sample with the whole text as the prompt, and topk_prompt_logprobs");
    };
    let (mut tokens, mut soft) = (Vec::with_capacity(count * k), Vec::with_capacity(count * k));
    for (position, row) in rows.iter().enumerate() {
        let (weight, row) = (weights[position], row.as_deref().unwrap_or_default());
        let row = &row[..row.len().min(k)];
        let shares = shares(row);
        if weight != 0.0 && shares.is_none() {
            let message = format!("the teacher has no usable token for target {position}");
            return refuse(message, "ask for topk_prompt_logprobs of at least 1, or give the position the weight 0");
        }
        let shares = shares.filter(|_| weight != 0.0).unwrap_or_default();
        for column in 0..k {
            tokens.push(row.get(column).or(row.first()).map_or(targets[position], |top| i64::from(top.token)));
            soft.push(shares.get(column).map_or(0.0, |share| (f64::from(weight) * share) as f32));
        }
    }
    let datum = Datum::new(&datum.model_input)
        .input("target_tokens", TensorData::new(tokens)?.with_shape([count, k])?)?
        .input("weights", TensorData::new(soft)?.with_shape([count, k])?)?
        .with_provenance(datum.model_input_spans.iter().cloned(), []);
    datum.validate()?;
    Ok(datum)
}

/// The probabilities of these tokens, divided by their sum. None without a token, and for a log-probability that is not finite.
fn shares(row: &[TokenLogprob]) -> Option<Vec<f64>> {
    let largest = row.iter().map(|top| f64::from(top.logprob)).fold(f64::NEG_INFINITY, f64::max);
    if row.is_empty() || !row.iter().all(|top| top.logprob.is_finite()) {
        return None;
    }
    let powers: Vec<f64> = row.iter().map(|top| (f64::from(top.logprob) - largest).exp()).collect();
    let total: f64 = powers.iter().sum();
    Some(powers.into_iter().map(|power| power / total).collect())
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;
    use crate::toolkit::WeightedTokens;

    fn row(tops: &[(u32, f32)]) -> Option<Vec<TokenLogprob>> {
        Some(tops.iter().map(|(token, probability)| TokenLogprob::new(*token, probability.ln())).collect())
    }

    fn numbers(datum: &Datum) -> (Vec<i64>, Vec<f32>) {
        let (targets, weights) = (&datum.loss_fn_inputs["target_tokens"], &datum.loss_fn_inputs["weights"]);
        assert_eq!(targets.shape(), weights.shape());
        (targets.as_i64().unwrap().to_vec(), weights.as_f32().unwrap().to_vec())
    }

    #[test]
    fn targets_by_hand() {
        let datum = WeightedTokens::new().context([1, 2]).trained([3]).weighted([4], 0.5).datum().unwrap();
        // Nothing is known where nothing is learned, and only one token at the end.
        let teacher = [None, None, row(&[(7, 0.6), (3, 0.2), (8, 0.1)]), row(&[(9, 0.3)])];
        let soft = soft_targets(&datum, &teacher, 2).unwrap();
        assert_eq!(soft.loss_fn_inputs["target_tokens"].shape(), Some(&[3, 2][..]));
        let (tokens, weights) = numbers(&soft);
        assert_eq!(tokens, [2, 2, 7, 3, 9, 9]);
        let expected = [0.0, 0.0, 0.75, 0.25, 0.5, 0.0];
        assert!(weights.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6), "{weights:?}");
    }

    #[test]
    fn unusable_teachers_are_refused() {
        let datum = WeightedTokens::new().context([1]).trained([2]).datum().unwrap();
        let nan = Some(vec![TokenLogprob::new(7, f32::NAN)]);
        for (teacher, k, why) in [
            (vec![None, row(&[(7, 0.5)])], 0, "the number of targets for each position is 0"),
            (vec![None], 1, "the teacher has 1 positions for a text of 2 tokens"),
            (vec![None, None], 1, "no usable token for target 0"),
            (vec![None, nan], 1, "no usable token for target 0"),
        ] {
            let error = soft_targets(&datum, &teacher, k).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let error = soft_targets(&Datum::new([1]), &[None, None], 1).unwrap_err().to_string();
        assert!(error.contains("no dense target_tokens"), "{error}");
    }

    quickcheck! {
        fn weights_of_a_position_add_up(tops: Vec<Vec<(u32, u8)>>, k: u8) -> bool {
            let k = usize::from(k % 5) + 1;
            let rows: Vec<_> = tops.into_iter().map(|mut row| { row.push((0, 0)); row }).collect();
            let tokens: Vec<u32> = (0..=rows.len() as u32).collect();
            let Ok(datum) = WeightedTokens::new().trained(tokens).datum() else { return rows.is_empty() };
            let tops = |row: Vec<(u32, u8)>| {
                Some(row.into_iter().map(|(token, nats)| TokenLogprob::new(token, -f32::from(nats) / 16.0)).collect())
            };
            let teacher: Vec<_> = std::iter::once(None).chain(rows.into_iter().map(tops)).collect();
            let (_, weights) = numbers(&soft_targets(&datum, &teacher, k).unwrap());
            weights.chunks(k).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5)
        }
    }
}
