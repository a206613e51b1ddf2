//! Whether the result of a pass has what belongs to each datum. A result that lacks one would shift the others to the wrong datums.

use std::ops::Range;

use crate::types::{Batch, Datum, Dtype, ForwardBackwardOutput, Loss, LossFn, LossFnOutput};

/// How many log-probabilities the outputs for a batch have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PassTargets {
    /// For each datum; none where only the service knows.
    each: Box<[Option<u32>]>,
    /// Whether the loss was not created on the server: what such a one returns is its own affair.
    pub(crate) is_known: bool,
    /// Whether an output may not be without them.
    pub(crate) are_required: bool,
    /// Whether the results seen so far had outputs.
    have_outputs: Option<bool>,
}

impl PassTargets {
    pub(crate) fn of(batch: &Batch, loss: &Loss) -> Self {
        let is_known = loss.function != LossFn::Custom;
        let targets = |datum: &Datum| {
            let targets =
                datum.loss_fn_inputs.get("target_tokens").filter(|targets| is_known && !targets.is_sparse())?;
            u32::try_from(targets.len()).ok()
        };
        PassTargets { each: batch.iter().map(targets).collect(), is_known, are_required: false, have_outputs: None }
    }

    /// The service has had outputs for such a batch before: one without them is wrong.
    pub(crate) fn expect_outputs(&mut self) {
        self.have_outputs = Some(true);
    }

    /// Checks the result for these datums, which were one request, the next of the batch.
    ///
    /// Some services have metrics, but no outputs for datums, and say so with an empty list or with tensors without any value. Then
    /// nothing is shifted: the outputs are removed, and the result of the batch has none, if that of each request has none.
    pub(crate) fn check(&mut self, datums: Range<usize>, result: &mut ForwardBackwardOutput) -> Result<(), String> {
        let outputs = &mut result.loss_fn_outputs;
        let fit = self.fit(datums, outputs);
        if fit.is_err() && !have_values(outputs) && !result.metrics.is_empty() && !self.are_required {
            outputs.clear();
            return match *self.have_outputs.get_or_insert(false) {
                true => fit,
                false => Ok(()),
            };
        }
        match *self.have_outputs.get_or_insert(true) {
            true => fit,
            false => fit.and(Err("the response has outputs, and the one for the datums before has none".to_owned())),
        }
    }

    fn fit(&self, datums: Range<usize>, outputs: &[LossFnOutput]) -> Result<(), String> {
        if outputs.len() != datums.len() {
            return Err(format!("the response has {} outputs for {} datums", outputs.len(), datums.len()));
        }
        datums.zip(outputs).try_for_each(|(index, output)| {
            let Some(targets) = self.each.get(index).copied().flatten() else { return Ok(()) };
            let Some(logprobs) = output.get("logprobs") else {
                let missing = || format!("the response has no logprobs for datum {index}");
                return if self.are_required { Err(missing()) } else { Ok(()) };
            };
            if logprobs.dtype() != Dtype::Float32 {
                return Err(format!("the response has logprobs of the type {} for datum {index}", logprobs.dtype()));
            }
            match logprobs.len() {
                found if found == targets as usize => Ok(()),
                found => Err(format!("the response has {found} logprobs for {targets} targets of datum {index}")),
            }
        })
    }
}

/// Whether outputs for datums have any value.
pub(crate) fn have_values(outputs: &[LossFnOutput]) -> bool {
    outputs.iter().flatten().any(|(_, tensor)| !tensor.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TensorData;

    /// Datums of one, two and three targets, and one of 2 times 2.
    fn batch() -> Batch {
        let grid = TensorData::from(vec![1_i64; 4]).with_shape([2, 2]).unwrap();
        let lists = (1..4).map(|count| TensorData::from(vec![1_i64; count]));
        let datum = |targets| Datum::new([1]).input("target_tokens", targets).unwrap();
        lists.chain([grid]).map(datum).collect()
    }

    fn result(outputs: Vec<LossFnOutput>) -> ForwardBackwardOutput {
        let metrics = [("loss:sum".to_owned(), 1.0)].into();
        ForwardBackwardOutput { loss_fn_outputs: outputs, metrics, ..ForwardBackwardOutput::default() }
    }

    fn with_logprobs(lengths: &[usize]) -> ForwardBackwardOutput {
        let output = |&length: &usize| [("logprobs", TensorData::from(vec![-0.5_f32; length]))].into_iter().collect();
        result(lengths.iter().map(output).collect())
    }

    #[test]
    fn each_datum_has_its_output_and_logprobs() {
        for (datums, lengths, expected) in [
            (0..4, &[1, 2, 3, 4][..], None),
            (1..3, &[2, 3], None),
            (0..0, &[], None),
            (0..4, &[1, 2, 3], Some("the response has 3 outputs for 4 datums")),
            (0..2, &[1, 2, 3], Some("the response has 3 outputs for 2 datums")),
            (0..4, &[1, 2, 2, 4], Some("the response has 2 logprobs for 3 targets of datum 2")),
            (2..4, &[3, 2], Some("the response has 2 logprobs for 4 targets of datum 3")),
            (1..2, &[1], Some("the response has 1 logprobs for 2 targets of datum 1")),
        ] {
            let mut targets = PassTargets::of(&batch(), &LossFn::Ppo.into());
            let found = targets.check(datums.clone(), &mut with_logprobs(lengths)).err();
            assert_eq!(found.as_deref(), expected, "{datums:?} {lengths:?}");
        }
    }

    #[test]
    fn no_outputs_at_all_are_tolerated() {
        let (none, empty, whole) = (&[][..], &[0][..], &[1, 2][..]);
        let missing = "the response has 0 outputs for 2 datums";
        let late = "the response has outputs, and the one for the datums before has none";
        for (are_required, first, second, expected) in [
            (false, none, none, Ok(0)),
            (false, empty, none, Ok(0)),
            (false, &[0, 0], empty, Ok(0)),
            (false, whole, &[3, 4], Ok(2)),
            (false, whole, none, Err(missing)),
            (false, none, &[3, 4], Err(late)),
            (false, none, &[3], Err("the response has 1 outputs for 2 datums")),
            (true, none, none, Err(missing)),
            (true, empty, none, Err("the response has 1 outputs for 2 datums")),
        ] {
            let mut targets = PassTargets { are_required, ..PassTargets::of(&batch(), &LossFn::Ppo.into()) };
            let mut results = [with_logprobs(first), with_logprobs(second)];
            let [before, after] = &mut results;
            let found = targets.check(0..2, before).and_then(|()| targets.check(2..4, after));
            let found = found.map(|()| after.loss_fn_outputs.len());
            assert_eq!(found.as_ref().copied().map_err(|why| &**why), expected, "{are_required} {first:?} {second:?}");
        }
        for lengths in [none, empty] {
            let mut targets = PassTargets::of(&batch(), &LossFn::Ppo.into());
            targets.expect_outputs();
            targets.check(0..2, &mut with_logprobs(lengths)).unwrap_err();
            assert_eq!(targets.check(0..2, &mut with_logprobs(whole)), Ok(()));
        }
        let without_metrics = PassTargets::of(&batch(), &LossFn::Ppo.into()).check(0..2, &mut Default::default());
        assert_eq!(without_metrics.unwrap_err(), missing);
    }

    #[test]
    fn other_outputs_may_be_any() {
        let integers: LossFnOutput = [("logprobs", TensorData::from(vec![1_i64]))].into_iter().collect();
        let others: LossFnOutput = [("entropy", TensorData::from(vec![0.5_f32; 9]))].into_iter().collect();
        let check = |loss: Loss, output: &LossFnOutput| {
            PassTargets::of(&batch(), &loss).check(0..1, &mut result(vec![output.clone()]))
        };
        let wrong = check(LossFn::CrossEntropy.into(), &integers).unwrap_err();
        assert_eq!(wrong, "the response has logprobs of the type int64 for datum 0");
        assert_eq!(check(LossFn::CrossEntropy.into(), &others), Ok(()));
        let mut required =
            PassTargets { are_required: true, ..PassTargets::of(&batch(), &LossFn::CrossEntropy.into()) };
        assert_eq!(
            required.check(0..1, &mut result(vec![others])).unwrap_err(),
            "the response has no logprobs for datum 0"
        );
        assert_eq!(check(LossFn::Custom.into(), &integers), Ok(()));
        let bare = Batch::from(Datum::new([1, 2]));
        assert_eq!(
            PassTargets::of(&bare, &LossFn::CrossEntropy.into()).check(0..1, &mut result(vec![integers])),
            Ok(())
        );
    }
}
