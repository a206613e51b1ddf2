//! Tests of the objectives: values by hand, and gradients against finite differences.

use super::*;

const LOGPROBS: [f64; 4] = [-1.1, -1.2, -1.0, -0.3];

/// Objectives over four tokens: advantages of either sign, ratios inside, below and above the bounds.
fn objectives() -> Vec<Objective> {
    let (logprobs, advantages) = (vec![-1.0, -0.5, -2.0, -1.5], vec![1.0, -2.0, 0.5, -0.25]);
    let mut objectives = vec![Objective::cross_entropy(vec![0.0, 1.0, 2.0, -0.5])];
    objectives.extend(policy_objectives(&logprobs, &advantages));
    // The ratio of the last three tokens is e^0.5: outside the bounds by default, inside these.
    let gspo = Objective::gspo(logprobs, advantages, vec![false, true, true, true]);
    objectives.push(gspo.clip_low(vec![0.5; 4]).clip_high(vec![2.0; 4]));
    objectives
}

/// Every objective that has logprobs and advantages, with its default settings.
fn policy_objectives(logprobs: &[f32], advantages: &[f32]) -> [Objective; 6] {
    let (old, advantages) = (|| logprobs.to_vec(), || advantages.to_vec());
    [
        Objective::importance_sampling(old(), advantages()),
        Objective::ppo(old(), advantages()),
        Objective::cispo(old(), advantages()),
        Objective::dro(old(), advantages()),
        Objective::gspo(old(), advantages(), vec![true; logprobs.len()]),
        Objective::stable_reinforce(old(), advantages(), vec![true; logprobs.len()]),
    ]
}

#[test]
fn cross_entropy_is_a_weighted_sum() {
    let objective = Objective::cross_entropy(vec![0.0, 1.0, 2.0]);
    assert_eq!(objective.loss(&[-9.0_f32, -1.0, -0.5]), 2.0);
    assert_eq!(objective.token_losses(&[-9.0, -1.0, -0.5]), [0.0, 1.0, 1.0]);
    assert_eq!(objective.gradient(&[-9.0_f32, -1.0, -0.5]), [0.0, -1.0, -2.0]);
}

#[test]
fn importance_sampling_weighs_advantages_by_ratio() {
    let (half, third) = (0.5_f32.ln(), (1.0_f32 / 3.0).ln());
    let objective = Objective::importance_sampling(vec![half, third], vec![1.0, -2.0]);
    // Ratios 1/2 and 3/2: −(1/2 · 1 + 3/2 · −2)
    assert!((objective.loss(&[0.25_f32.ln(), half]) - 2.5).abs() < 1e-6);
}

#[test]
fn ppo_clips_gains_but_not_losses() {
    let at = |ratio: f64, advantage: f32| {
        let objective = Objective::ppo(vec![-1.0], vec![advantage]);
        let logprobs = [ratio.ln() - 1.0];
        let round = |value: f64| (value * 1e6).round() / 1e6;
        (round(objective.loss(&logprobs)), round(objective.gradient(&logprobs)[0]))
    };
    assert_eq!(at(1.1, 1.0), (-1.1, -1.1));
    assert_eq!(at(1.5, 1.0), (-1.2, 0.0));
    assert_eq!(at(0.5, 1.0), (-0.5, -0.5));
    assert_eq!(at(0.5, -1.0), (0.8, 0.0));
    assert_eq!(at(1.5, -1.0), (1.5, 1.5));
}

#[test]
fn ppo_bounds_can_be_set() {
    let (logprobs, advantages) = (vec![-1.0; 2], vec![1.0, -1.0]);
    let (clip_low, clip_high) = (vec![0.9, 0.7], vec![1.1, 1.3]);
    assert_eq!(
        Objective::ppo(logprobs.clone(), advantages.clone()).clip_low(clip_low.clone()).clip_high(clip_high.clone()),
        Objective::Ppo { logprobs, advantages, clip_low, clip_high }
    );
    let entropy = Objective::cross_entropy(vec![1.0]);
    assert_eq!(entropy.clone().clip_low(vec![0.9]).clip_high(vec![1.1]), entropy);
}

#[test]
fn cispo_bounds_the_weight_of_every_token() {
    let at = |ratio: f64, advantage: f32| {
        let objective = Objective::cispo(vec![-1.0], vec![advantage]);
        let logprobs = [ratio.ln() - 1.0];
        assert!((objective.loss(&logprobs) - objective.gradient(&logprobs)[0] * logprobs[0]).abs() < 1e-12);
        (objective.gradient(&logprobs)[0] * 1e6).round() / 1e6
    };
    assert_eq!(
        [at(0.1, 1.0), at(1.0, 1.0), at(3.9, 1.0), at(20.0, 1.0), at(20.0, -0.5)],
        [-0.1, -1.0, -3.9, -4.0, 2.0]
    );
}

#[test]
fn gspo_keeps_or_drops_whole_sequences() {
    let gradient = |mean: f64, advantages: [f32; 3], mask: [bool; 3]| {
        let objective = Objective::gspo(vec![-1.0; 3], advantages.to_vec(), mask.to_vec());
        // Far apart, with this mean.
        objective.gradient(&[-1.0 + mean - 2.0, -1.0 + mean + 2.0, -1.0 + mean])
    };
    assert_eq!(gradient(0.0, [1.0, 1.0, -2.0], [true; 3]), [-1.0, -1.0, 2.0]);
    assert_eq!(gradient(0.001, [1.0; 3], [true; 3]), [0.0; 3]);
    assert_eq!(gradient(-0.001, [-1.0; 3], [true; 3]), [0.0; 3]);
    assert!(
        gradient(0.001, [-1.0; 3], [true; 3]).iter().all(|derivative| (derivative - 0.001_f64.exp()).abs() < 1e-12)
    );
    // Only the marked tokens make the ratio, but all have a gradient.
    assert_eq!(gradient(0.0, [1.0; 3], [false, false, true]), [-1.0; 3]);
    assert_eq!(gradient(0.0, [1.0; 3], [false, true, false]), [0.0; 3]);
    assert_eq!(gradient(0.0, [1.0; 3], [false; 3]), [-1.0; 3]);
}

#[test]
fn stable_reinforce_truncates_weights_and_leaves_prompts() {
    let gradient = |ratio: f64, kl_coeff| {
        let objective = Objective::stable_reinforce(vec![0.0, -1.0], vec![0.0, 2.0], vec![false, true]);
        let gradient = objective.kl_coeff(kl_coeff).gradient(&[-7.0, ratio.ln() - 1.0]);
        assert_eq!(gradient[0], 0.0);
        (gradient[1] * 1e6).round() / 1e6
    };
    assert_eq!([gradient(0.25, 0.0), gradient(1.0, 0.0), gradient(100.0, 0.0)], [-0.5, -2.0, -2.0]);
    assert_eq!(gradient(100.0, 1.0), -2.0 + (100_f64.ln() * 1e6).round() / 1e6);
}

#[test]
fn settings_do_not_change_other_objectives() {
    for objective in objectives() {
        let dro = matches!(objective, Objective::Dro { .. });
        let stable = matches!(objective, Objective::StableReinforce { .. });
        assert_eq!(objective.clone().beta(9.0) != objective, dro);
        assert_eq!(objective.clone().kl_coeff(9.0) != objective, stable);
        let bounded = objective.clone().clip_low(vec![0.1; 4]).clip_high(vec![9.0; 4]);
        let clipped = matches!(objective, Objective::Ppo { .. } | Objective::Cispo { .. } | Objective::Gspo { .. });
        assert_eq!(bounded != objective, clipped, "{objective:?}");
    }
}

/// The loss with everything that is a constant for the gradient as it is at `base`: what the gradient is the derivative of.
fn surrogate(objective: &Objective, base: &[f64; 4], logprobs: &[f64; 4]) -> f64 {
    let at = |inputs: &[f32], index: usize| f64::from(inputs[index]);
    let ratio = |old: &[f32], index: usize| (base[index] - at(old, index)).exp();
    let sum = |term: &dyn Fn(usize) -> f64| (0..4).map(term).sum::<f64>();
    match objective {
        Objective::Cispo { logprobs: old, advantages, clip_low, clip_high } => sum(&|index| {
            let weight = ratio(old, index).clamp(at(clip_low, index), at(clip_high, index));
            -weight * logprobs[index] * at(advantages, index)
        }),
        Objective::Gspo { logprobs: old, advantages, ratio_mask, clip_low, clip_high } => {
            let marked: Vec<_> = (0..4).filter(|&index| ratio_mask[index]).collect();
            let product: f64 = marked.iter().map(|&index| ratio(old, index)).product();
            let sequence = product.powf(1.0 / marked.len() as f64);
            sum(&|index| {
                let own = sequence * (logprobs[index] - base[index]).exp();
                let clipped = own.clamp(at(clip_low, index), at(clip_high, index));
                -(own * at(advantages, index)).min(clipped * at(advantages, index))
            })
        }
        Objective::StableReinforce { logprobs: old, advantages, sampled, kl_coeff } => sum(&|index| {
            let weight = ratio(old, index).min(1.0) * at(advantages, index);
            let distance = logprobs[index] - at(old, index);
            f64::from(u8::from(sampled[index]))
                * (0.5 * f64::from(*kl_coeff) * distance * distance - weight * logprobs[index])
        }),
        _ => objective.loss(logprobs),
    }
}

#[test]
fn gradients_match_finite_differences() {
    for objective in objectives() {
        assert!(
            (surrogate(&objective, &LOGPROBS, &LOGPROBS) - objective.loss(&LOGPROBS)).abs() < 1e-12,
            "{objective:?}"
        );
        for (at, derivative) in objective.gradient(&LOGPROBS).into_iter().enumerate() {
            let loss_at = |offset: f64| {
                let mut logprobs = LOGPROBS;
                logprobs[at] += offset;
                surrogate(&objective, &LOGPROBS, &logprobs)
            };
            let difference = (loss_at(1e-6) - loss_at(-1e-6)) / 2e-6;
            assert!((derivative - difference).abs() < 1e-8, "{objective:?} at {at}: {derivative} {difference}");
        }
    }
}

#[test]
fn gradients_on_policy_are_the_negative_advantages() {
    let holds = |tokens: Vec<(i16, i16)>| {
        let (old, advantages): (Vec<f32>, Vec<f32>) =
            tokens.into_iter().map(|(old, advantage)| (-f32::from(old).abs() / 999.0, f32::from(advantage))).unzip();
        let new: Vec<f64> = old.iter().map(|&old| f64::from(old)).collect();
        let expected: Vec<f64> = advantages.iter().map(|&advantage| -f64::from(advantage)).collect();
        policy_objectives(&old, &advantages).iter().all(|objective| objective.gradient(&new) == expected)
    };
    quickcheck::quickcheck(holds as fn(Vec<(i16, i16)>) -> bool);
}

#[test]
fn token_losses_add_up_and_are_finite() {
    let holds = |tokens: Vec<(i16, i16, i8)>| {
        let logprob = |value: i16| -f32::from(value).abs() / 3000.0;
        let old: Vec<f32> = tokens.iter().map(|token| logprob(token.0)).collect();
        let new: Vec<f32> = tokens.iter().map(|token| logprob(token.1)).collect();
        let advantages: Vec<f32> = tokens.iter().map(|token| f32::from(token.2)).collect();
        policy_objectives(&old, &advantages).iter().all(|objective| {
            let (whole, parts) = (objective.loss(&new), objective.token_losses(&new));
            let sum: f64 = parts.iter().map(|&part| f64::from(part)).sum();
            let size: f64 = parts.iter().map(|&part| f64::from(part.abs())).sum();
            (whole - sum).abs() <= 1e-6 * size
                && objective.gradient(&new).iter().all(|derivative| derivative.is_finite())
        })
    };
    quickcheck::quickcheck(holds as fn(Vec<(i16, i16, i8)>) -> bool);
}

#[test]
fn tokens_without_inputs_contribute_nothing() {
    for objective in objectives() {
        let long = [-1.0_f32; 6];
        assert_eq!(objective.loss(&long), objective.loss(&long[..4]));
        assert_eq!(objective.gradient(&long)[4..], [0.0, 0.0]);
    }
}
