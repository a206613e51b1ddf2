//! Divergences from a teacher, with one or K targets for each position.

use ndarray::Array1;

use super::checks::{check, weights};
use crate::error::{Error, Result};
use crate::training::CustomLoss;
use crate::types::{Datum, TensorData};

/// Off-policy distillation: KL(teacher ‖ student) over the targets of each position, summed over all positions.
///
/// `teacher` has one array for each datum, with the teacher's log-probability of each of its N · K targets in nats, in the order of the
/// student's. At a position, with *p* = exp(teacher's), divided by its sum over the K targets, and *x* = the student's, which is not
/// divided: the loss is Σ weight · *p* · (log *p* − *x*), and its derivative −weight · *p*. This is the cross-entropy of
/// [`soft_targets`](super::soft_targets()) less the teacher's entropy, so a value of 0 is out of reach if K is less than the vocabulary.
/// −∞ is a probability of 0. The metric is `forward_kl`.
///
/// # Errors
///
/// `forward_kl` itself does not fail. The returned function fails with
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for a teacher or weights whose shape differs from that of the
/// log-probabilities, weights that are not float32, a teacher's number that is NaN or +∞, and a position where all are −∞.
///
/// # Examples
///
/// ```
/// use tinkex::losses;
/// use tinkex::ndarray::array;
/// use tinkex::types::{Datum, TensorData};
///
/// // One position with two candidates. The teacher gives them 0.6 and 0.2: divided by the sum, 0.75 and 0.25.
/// let candidates = TensorData::new(vec![7_i64, 8])?.with_shape([1, 2])?;
/// let data = [Datum::new([1]).input("target_tokens", candidates)?];
/// let teacher = [array![0.6_f32.ln(), 0.2_f32.ln()]];
/// let loss = losses::forward_kl(&teacher)(&data, &[array![-1.0, -2.0]])?;
/// assert!((loss.gradients[0][0] + 0.75).abs() < 1e-6 && (loss.gradients[0][1] + 0.25).abs() < 1e-6);
/// # Ok::<(), tinkex::Error>(())
/// ```
pub fn forward_kl(teacher: &[Array1<f32>]) -> impl Fn(&[Datum], &[Array1<f32>]) -> Result<CustomLoss> + '_ {
    move |data, logprobs| {
        divergence("forward_kl", data, logprobs, teacher, |row, index| {
            let counted = row.iter().filter(|target| target.weight != 0.0).map(|target| target.teacher);
            let largest = counted.clone().fold(f64::NEG_INFINITY, f64::max);
            if counted.clone().any(|teacher| teacher.is_nan()) || !largest.is_finite() {
                return Err(Error::invalid_input(format!(
                    "the teacher's log-probabilities of a position of datum {index} are no probabilities"
                ))
                .with_hint("give each position at least one finite number, and no NaN, or the weight 0"));
            }
            let total = largest + counted.map(|teacher| (teacher - largest).exp()).sum::<f64>().ln();
            Ok(move |target: Target| {
                let log = target.teacher - total;
                match log.exp() {
                    // 0 · −∞
                    0.0 => (0.0, 0.0),
                    share => (share * (log - target.student), -share),
                }
            })
        })
    }
}

/// Distillation by the reverse divergence: KL(student ‖ teacher) over the targets of each position, summed over all positions. For K
/// candidates of the student's own samples, it replaces the single sampled token of
/// [`on_policy_distillation`](super::on_policy_distillation) and has less variance.
///
/// `teacher` has one array for each datum, with the teacher's log-probability *t* of each of its N · K targets in nats, in the order of
/// the student's *x*. With *q* = exp(*x*) and *p* = exp(*t*), neither of which is divided by a sum: the loss is
/// Σ weight · (*q* · (*x* − *t*) − *q* + *p*), and its derivative weight · *q* · (*x* − *t*). It is never negative, 0 where both agree,
/// and over the whole vocabulary it is the divergence itself. The metric is `reverse_kl`.
///
/// # Errors
///
/// `reverse_kl` itself does not fail. The returned function fails with
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for a teacher or weights whose shape differs from that of the
/// log-probabilities, weights that are not float32, and for a teacher's number that is not finite.
///
/// # Examples
///
/// ```
/// use tinkex::losses;
/// use tinkex::ndarray::array;
/// use tinkex::types::{Datum, TensorData};
///
/// let candidates = TensorData::new(vec![7_i64, 8])?.with_shape([1, 2])?;
/// let data = [Datum::new([1]).input("target_tokens", candidates)?];
/// let teacher = [array![-0.5_f32, -1.5]];
/// let agreed = losses::reverse_kl(&teacher)(&data, &teacher)?;
/// assert_eq!((agreed.loss, &agreed.gradients[0]), (0.0, &array![0.0, 0.0]));
/// // A candidate that is too likely gets less so.
/// let loss = losses::reverse_kl(&teacher)(&data, &[array![-0.25, -1.5]])?;
/// assert!(loss.loss > 0.0 && loss.gradients[0][0] > 0.0);
/// # Ok::<(), tinkex::Error>(())
/// ```
pub fn reverse_kl(teacher: &[Array1<f32>]) -> impl Fn(&[Datum], &[Array1<f32>]) -> Result<CustomLoss> + '_ {
    move |data, logprobs| {
        divergence("reverse_kl", data, logprobs, teacher, |row, index| {
            if row.iter().any(|target| target.weight != 0.0 && !target.teacher.is_finite()) {
                return Err(Error::invalid_input(format!(
                    "a log-probability of the teacher for datum {index} is not finite"
                ))
                .with_hint("give candidates that the teacher can produce, or the weight 0"));
            }
            Ok(|Target { student, teacher, .. }| {
                let (q, p): (f64, f64) = (student.exp(), teacher.exp());
                // A student's probability of 0 costs what the teacher's is.
                let excess = if q == 0.0 { 0.0 } else { q * (student - teacher) };
                (excess - q + p, excess)
            })
        })
    }
}

/// One target of a position.
#[derive(Clone, Copy)]
struct Target {
    student: f64,
    teacher: f64,
    weight: f64,
}

/// The sum over all targets. `term` gets the targets of a position and the index of the datum, and returns what each of them adds to
/// the loss, and its derivative, both before the weight.
fn divergence<Term: Fn(Target) -> (f64, f64)>(
    metric: &str,
    data: &[Datum],
    logprobs: &[Array1<f32>],
    teacher: &[Array1<f32>],
    term: impl Fn(&[Target], usize) -> Result<Term>,
) -> Result<CustomLoss> {
    check(data, logprobs, teacher, "teacher's log-probabilities")?;
    let mut loss = 0.0;
    let mut gradients = Vec::with_capacity(data.len());
    for (index, ((datum, logprobs), teacher)) in data.iter().zip(logprobs).zip(teacher).enumerate() {
        let weights = weights(datum, logprobs.len())?;
        let numbers = logprobs.iter().zip(teacher).zip(&weights);
        let targets: Vec<Target> = numbers
            .map(|((student, teacher), weight)| Target {
                student: f64::from(*student),
                teacher: f64::from(*teacher),
                weight: f64::from(*weight),
            })
            .collect();
        let mut gradient = Vec::with_capacity(targets.len());
        for row in targets.chunks(targets_per_position(datum)) {
            // What has no weight does not count, also if it is infinite or NaN.
            let counts = row.iter().any(|target| target.weight != 0.0);
            let term = if counts { Some(term(row, index)?) } else { None };
            for target in row {
                let (value, slope) = match &term {
                    Some(term) if target.weight != 0.0 => term(*target),
                    _ => (0.0, 0.0),
                };
                loss += target.weight * value;
                gradient.push((target.weight * slope) as f32);
            }
        }
        gradients.push(gradient.into());
    }
    Ok(CustomLoss::new(loss, gradients).metric(metric, loss))
}

/// K of a datum whose targets have the shape `[N, K]`, else 1.
fn targets_per_position(datum: &Datum) -> usize {
    let shape = datum.loss_fn_inputs.get("target_tokens").and_then(TensorData::shape);
    shape.and_then(|shape| shape.get(1)).copied().unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::losses::soft_targets;
    use crate::losses::testing::{assert_gradients_match, data, logprobs, others};
    use crate::toolkit::WeightedTokens;
    use crate::types::TokenLogprob;

    /// Two positions with three candidates each, and one with two of them.
    fn candidates() -> Vec<Datum> {
        let of = |n: usize, k: usize| TensorData::new(vec![1_i64; n * k]).unwrap().with_shape([n, k]).unwrap();
        let weights = TensorData::new(vec![1.0_f32, 1.0, 0.0, 0.5, 0.5, 0.5]).unwrap().with_shape([2, 3]).unwrap();
        let first = Datum::new([1, 2]).input("target_tokens", of(2, 3)).unwrap().input("weights", weights).unwrap();
        vec![first, Datum::new([1]).input("target_tokens", of(1, 2)).unwrap()]
    }

    fn student() -> Vec<Array1<f32>> {
        vec![array![-0.3, -1.7, -2.2, -0.9, -1.1, -3.0], array![-0.6, -2.4]]
    }

    fn teacher() -> Vec<Array1<f32>> {
        vec![array![-0.5, -1.2, -2.0, -1.4, -0.7, -2.5], array![-1.4, -0.4]]
    }

    #[test]
    fn gradients_match_finite_differences() {
        assert_gradients_match(&data(), &logprobs(), forward_kl(&others()));
        assert_gradients_match(&data(), &logprobs(), reverse_kl(&others()));
        assert_gradients_match(&candidates(), &student(), forward_kl(&teacher()));
        assert_gradients_match(&candidates(), &student(), reverse_kl(&teacher()));
    }

    #[test]
    fn whole_vocabularies_give_the_divergence() {
        let (p, q) = ([0.5_f32, 0.25, 0.25], [0.25_f32, 0.5, 0.25]);
        let log = |probabilities: [f32; 3]| vec![Array1::from(probabilities.map(f32::ln).to_vec())];
        let targets = TensorData::new(vec![1_i64, 2, 3]).unwrap().with_shape([1, 3]).unwrap();
        let data = [Datum::new([1]).input("target_tokens", targets).unwrap()];
        // Each is ½ log 2 − ¼ log 2.
        let expected = 2.0_f64.ln() / 4.0;
        let (forward, reverse) =
            (forward_kl(&log(p))(&data, &log(q)).unwrap(), reverse_kl(&log(p))(&data, &log(q)).unwrap());
        assert!((forward.loss - expected).abs() < 1e-6 && (forward.metrics["forward_kl"] - expected).abs() < 1e-6);
        assert!((reverse.loss - expected).abs() < 1e-6 && (reverse.metrics["reverse_kl"] - expected).abs() < 1e-6);
    }

    #[test]
    fn soft_targets_have_the_same_gradient() {
        let datum = WeightedTokens::new().context([1]).trained([2]).weighted([3], 0.5).datum().unwrap();
        let row = |numbers: [f32; 2]| Some(vec![TokenLogprob::new(7, numbers[0]), TokenLogprob::new(8, numbers[1])]);
        let soft = soft_targets(&datum, &[None, row([-0.5, -1.5]), row([-0.25, -3.0])], 2).unwrap();
        let weights = TensorData::new(vec![1.0_f32, 1.0, 0.5, 0.5]).unwrap().with_shape([2, 2]).unwrap();
        let custom = [soft.clone().input("weights", weights).unwrap()];
        let teacher = [array![-0.5, -1.5, -0.25, -3.0]];
        let gradient = forward_kl(&teacher)(&custom, &[array![-1.0, -1.0, -1.0, -1.0]]).unwrap().gradients.remove(0);
        // The derivative of cross-entropy is minus the weight.
        assert_eq!(soft.loss_fn_inputs["weights"].as_f32().unwrap(), (-gradient).to_vec());
    }

    #[test]
    fn unusable_teachers_are_refused() {
        let changed = |place: usize, value: f32| {
            let mut teacher = teacher();
            teacher[0][place] = value;
            teacher
        };
        for (teacher, forward, reverse) in [
            // Without weight.
            (changed(2, f32::NAN), true, true),
            (changed(0, f32::NAN), false, false),
            (changed(0, f32::INFINITY), false, false),
            (changed(0, f32::NEG_INFINITY), true, false),
            (teacher()[..1].to_vec(), false, false),
        ] {
            let results =
                (forward_kl(&teacher)(&candidates(), &student()), reverse_kl(&teacher)(&candidates(), &student()));
            assert_eq!((results.0.is_ok(), results.1.is_ok()), (forward, reverse), "{teacher:?}");
            for computed in [results.0, results.1].into_iter().flatten() {
                assert!(
                    computed.loss.is_finite() && computed.gradients.iter().flatten().all(|slope| slope.is_finite())
                );
            }
        }
    }
}
