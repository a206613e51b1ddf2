//! What a client has used.

use serde::{Deserialize, Serialize};

use super::{Dollars, Price, Usage};

/// What a client has used and cost so far, in all and in the current step.
///
/// It counts what it is told: after each call, tell it the [`Usage`]. Written to a file, it goes on after a restart.
///
/// ```
/// use tinkex::cost::{Meter, PriceTable, Usage};
///
/// let mut meter = Meter::new(PriceTable::built_in().price("Qwen/Qwen3-8B")?);
/// meter.count(Usage::new().trained(500_000));
/// assert_eq!(meter.end_step().to_string(), "$0.22");
/// meter.count(Usage::new().trained(250_000));
/// assert_eq!(meter.step_cost().to_string(), "$0.11");
/// assert_eq!((meter.cost().to_string(), meter.steps()), ("$0.33".to_owned(), 1));
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    price: Price,
    /// What the steps that have ended used.
    ended: Usage,
    step: Usage,
    steps: u64,
}

impl Meter {
    /// A meter of a client whose model has this price.
    #[must_use]
    pub fn new(price: Price) -> Self {
        Meter { price, ended: Usage::new(), step: Usage::new(), steps: 0 }
    }

    /// Adds what a call used to the current step.
    pub fn count(&mut self, usage: Usage) {
        self.step += usage;
    }

    /// Ends the current step, and returns what it cost.
    pub fn end_step(&mut self) -> Dollars {
        let cost = self.step_cost();
        self.ended += std::mem::take(&mut self.step);
        self.steps += 1;
        cost
    }

    /// What was used so far, including the current step.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.ended + self.step
    }

    /// What it cost so far, including the current step.
    #[must_use]
    pub fn cost(&self) -> Dollars {
        self.price.cost(&self.usage())
    }

    /// What the current step used so far.
    #[must_use]
    pub fn step_usage(&self) -> Usage {
        self.step
    }

    /// What the current step cost so far.
    #[must_use]
    pub fn step_cost(&self) -> Dollars {
        self.price.cost(&self.step)
    }

    /// The number of steps that have ended.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The price of the model's tokens.
    #[must_use]
    pub fn price(&self) -> Price {
        self.price
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;
    use crate::cost::price::tests::price;
    use crate::cost::usage::tests::usage;

    quickcheck! {
        fn steps_add_up_to_the_total(rates: (u32, u32, u32, u32), calls: Vec<((u64, u64, u64, u64), bool)>) -> bool {
            let mut meter = Meter::new(price(rates));
            let (mut ended, mut steps) = (Dollars::ZERO, 0);
            for (counts, is_last) in &calls {
                meter.count(usage(*counts));
                if *is_last {
                    ended += meter.end_step();
                    steps += 1;
                }
            }
            let all: Usage = calls.iter().map(|(counts, _)| usage(*counts)).sum();
            meter.usage() == all && meter.cost() == ended + meter.step_cost() && meter.steps() == steps
        }

        fn a_meter_survives_a_file(rates: (u32, u32, u32, u32), one: (u64, u64, u64, u64), other: (u64, u64, u64, u64)) -> bool {
            let mut meter = Meter::new(price(rates));
            meter.count(usage(one));
            meter.end_step();
            meter.count(usage(other));
            let written = serde_json::to_string(&meter).unwrap();
            serde_json::from_str::<Meter>(&written).is_ok_and(|read| read == meter)
        }
    }
}
