//! The learning rate of each step.

/// How the learning rate decays after the warmup.
///
/// ```
/// use tinkex::hyperparams::{Decay, Schedule};
///
/// let decay: Decay = Decay::Cosine;
/// assert_eq!(Schedule::new(decay, 1e-4, 100), Schedule::cosine(1e-4, 100));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decay {
    /// Stays at the peak.
    #[default]
    Constant,
    /// Decays linearly, to 0 after the last step.
    Linear,
    /// Decays like a cosine, to 0 after the last step.
    Cosine,
}

/// The learning rate of each step: a linear warmup to the peak, then a decay.
///
/// ```
/// use tinkex::hyperparams::Schedule;
/// use tinkex::types::AdamParams;
///
/// let schedule = Schedule::linear(1e-4, 100).warmup(10);
/// let rates = [1, 10, 11, 56, 100].map(|step| (schedule.rate(step) * 1e6).round());
/// assert_eq!(rates, [10.0, 100.0, 100.0, 50.0, 1.0]);
/// let adam = AdamParams::new().learning_rate(schedule.rate(1));
/// # assert!(adam.learning_rate > 0.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Schedule {
    decay: Decay,
    peak: f64,
    steps: u64,
    warmup: u64,
}

impl Schedule {
    /// A schedule with this decay for a run of `steps` steps, without a warmup.
    pub fn new(decay: Decay, peak: f64, steps: u64) -> Self {
        Schedule { decay, peak, steps, warmup: 0 }
    }

    /// [`Decay::Constant`]: the peak at every step after the warmup.
    pub fn constant(peak: f64) -> Self {
        Schedule::new(Decay::Constant, peak, u64::MAX)
    }

    /// [`Decay::Linear`] for a run of `steps` steps.
    pub fn linear(peak: f64, steps: u64) -> Self {
        Schedule::new(Decay::Linear, peak, steps)
    }

    /// [`Decay::Cosine`] for a run of `steps` steps.
    pub fn cosine(peak: f64, steps: u64) -> Self {
        Schedule::new(Decay::Cosine, peak, steps)
    }

    /// Sets over how many steps the rate rises linearly to the peak. Defaults to 0.
    pub fn warmup(mut self, steps: u64) -> Self {
        self.warmup = steps;
        self
    }

    /// The learning rate of a step. Steps count from 1, and 0 is taken for 1; those after the last step have the rate that the decay
    /// ends with.
    #[must_use]
    pub fn rate(&self, step: u64) -> f64 {
        let Schedule { decay, peak, steps, warmup } = *self;
        let step = step.max(1);
        if step <= warmup {
            return peak * step as f64 / warmup as f64;
        }
        let done = step - 1 - warmup;
        let progress = (done as f64 / steps.saturating_sub(warmup).max(1) as f64).min(1.0);
        peak * match decay {
            Decay::Constant => 1.0,
            Decay::Linear => 1.0 - progress,
            Decay::Cosine => (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    #[test]
    fn schedules_warm_up_and_decay() {
        let rates = |schedule: Schedule| -> Vec<f64> {
            (1..=5).map(|step| (schedule.rate(step) * 1000.0).round() / 1000.0).collect()
        };
        assert_eq!(rates(Schedule::constant(1.0)), [1.0; 5]);
        assert_eq!(rates(Schedule::constant(1.0).warmup(2)), [0.5, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(rates(Schedule::linear(1.0, 4)), [1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(rates(Schedule::linear(1.0, 4).warmup(2)), [0.5, 1.0, 1.0, 0.5, 0.0]);
        assert_eq!(rates(Schedule::cosine(1.0, 4)), [1.0, 0.854, 0.5, 0.146, 0.0]);
    }

    quickcheck! {
        fn rates_stay_between_zero_and_peak(decay: u8, steps: u64, warmup: u64, step: u64) -> bool {
            let decay = [Decay::Constant, Decay::Linear, Decay::Cosine][usize::from(decay % 3)];
            let rate = Schedule::new(decay, 2.0, steps).warmup(warmup).rate(step);
            (0.0..=2.0).contains(&rate)
        }
    }
}
