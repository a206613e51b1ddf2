//! Which examples are held out for evaluation, which are in which batch, and the learning rate of a step. Everything is a
//! function of the seed and the number of the step, so that a run can be resumed from any step.

use clap::ValueEnum;
use tinkex::hyperparams::Decay;

/// Splits examples into those to train on and those held out for evaluation, as indices. `held_out` marks examples that the data
/// file holds out. Of the others, `fraction` is held out at random, but never all.
pub(crate) fn split(held_out: &[bool], fraction: f64, seed: u64) -> (Vec<u32>, Vec<u32>) {
    let (mut evaluation, mut training) = (Vec::new(), Vec::new());
    for (index, is_held_out) in (0_u32..).zip(held_out) {
        if *is_held_out { evaluation.push(index) } else { training.push(index) }
    }
    let wanted = (training.len() as f64 * fraction).round() as usize;
    let more = wanted.min(training.len().saturating_sub(1));
    if more > 0 {
        let mut shuffled = training.clone();
        fastrand::Rng::with_seed(mixed(seed, u64::MAX)).shuffle(&mut shuffled);
        evaluation.extend(&shuffled[..more]);
        evaluation.sort_unstable();
        training.retain(|index| evaluation.binary_search(index).is_err());
    }
    (training, evaluation)
}

/// The order of the examples: each epoch has all of them once, in a new random order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchOrder {
    pub(crate) examples: u32,
    pub(crate) batch_size: usize,
    pub(crate) seed: u64,
}

impl BatchOrder {
    /// The positions of a step's examples in their list. Steps count from 1. A batch can extend into the next epoch. `shuffled` is
    /// kept from step to step, since shuffling a long list takes time.
    pub(crate) fn batch(&self, step: u64, shuffled: &mut Epoch) -> Vec<u32> {
        let examples = u64::from(self.examples);
        let first = step.saturating_sub(1) * self.batch_size as u64;
        let positions = first..first + self.batch_size as u64;
        positions.map(|position| shuffled.get(self, position / examples)[(position % examples) as usize]).collect()
    }

    /// The number of steps in `epochs` epochs.
    pub(crate) fn steps(&self, epochs: u64) -> u64 {
        (epochs * u64::from(self.examples)).div_ceil(self.batch_size as u64)
    }
}

/// The order of the examples in one epoch; that of none at first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Epoch(Option<(u64, Vec<u32>)>);

impl Epoch {
    fn get(&mut self, order: &BatchOrder, epoch: u64) -> &[u32] {
        if self.0.as_ref().is_none_or(|(shuffled, _)| *shuffled != epoch) {
            let mut positions: Vec<u32> = (0..order.examples).collect();
            fastrand::Rng::with_seed(mixed(order.seed, epoch)).shuffle(&mut positions);
            self.0 = Some((epoch, positions));
        }
        self.0.as_ref().map_or(&[], |(_, positions)| positions)
    }
}

/// The seed of an epoch. The finalizer of SplitMix64 mixes the bits, since adjacent seeds must not give similar orders.
fn mixed(seed: u64, epoch: u64) -> u64 {
    let mut bits = seed ^ epoch.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// How the learning rate changes after the warmup: a [`Decay`] by its name on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Schedule {
    /// Stays at the peak.
    #[default]
    Constant,
    /// Decays linearly, to 0 after the last step.
    Linear,
    /// Cosine decay, to 0 after the last step.
    Cosine,
}

impl From<Schedule> for Decay {
    fn from(schedule: Schedule) -> Self {
        match schedule {
            Schedule::Constant => Decay::Constant,
            Schedule::Linear => Decay::Linear,
            Schedule::Cosine => Decay::Cosine,
        }
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    quickcheck! {
        fn every_epoch_has_every_example_once(examples: u8, batch_size: u8, seed: u64) -> bool {
            let order = BatchOrder { examples: u32::from(examples) + 1, batch_size: batch_size as usize % 9 + 1, seed };
            let steps = order.steps(3) + 1;
            let mut epoch = Epoch::default();
            let all: Vec<u32> = (1..=steps).flat_map(|step| order.batch(step, &mut epoch)).collect();
            all.chunks_exact(order.examples as usize).take(3).count() == 3
                && all.chunks_exact(order.examples as usize).take(3).all(|epoch| {
                    let mut sorted = epoch.to_vec();
                    sorted.sort_unstable();
                    sorted.into_iter().eq(0..order.examples)
                })
        }

        fn seed_and_step_determine_a_batch(examples: u8, step: u16, seed: u64) -> bool {
            let order = BatchOrder { examples: u32::from(examples) + 1, batch_size: 4, seed };
            let mut kept = Epoch::default();
            order.batch(step.wrapping_add(1).into(), &mut kept);
            order.batch(step.into(), &mut kept) == order.batch(step.into(), &mut Epoch::default())
        }

        fn a_split_loses_nothing(held_out: Vec<bool>, percent: u8, seed: u64) -> bool {
            let (training, evaluation) = split(&held_out, f64::from(percent % 101) / 100.0, seed);
            let mut all = [training.clone(), evaluation.clone()].concat();
            all.sort_unstable();
            all.into_iter().eq(0..u32::try_from(held_out.len()).unwrap())
                && (0..).zip(&held_out).filter(|(_, held_out)| **held_out).map(|(index, _)| index).all(|index: u32| evaluation.contains(&index))
                && (training.is_empty() == held_out.iter().all(|held_out| *held_out))
        }
    }

    #[test]
    fn epochs_and_seeds_change_the_order() {
        let order = BatchOrder { examples: 100, batch_size: 100, seed: 1 };
        let batch = |order: BatchOrder, step| order.batch(step, &mut Epoch::default());
        assert_ne!(batch(order, 1), batch(order, 2));
        assert_ne!(batch(order, 1), batch(BatchOrder { seed: 2, ..order }, 1));
    }

    #[test]
    fn a_fraction_is_held_out() {
        let (training, evaluation) = split(&[false; 10], 0.2, 3);
        assert_eq!((training.len(), evaluation.len()), (8, 2));
        assert_eq!(split(&[false, true], 1.0, 3), (vec![0], vec![1]));
        assert_eq!(split(&[false; 10], 0.0, 3).1, Vec::<u32>::new());
    }
}
