//! The price of a model's tokens.

use serde::{Deserialize, Serialize};

use super::{Dollars, Usage};
use crate::error::{Error, Result};

/// The tokens that a price is given for.
const MILLION: u128 = 1_000_000;

/// What part of the prefill's price a cached token costs, if nothing else is said: a fifth, as on Tinker.
const CACHED_DIVISOR: u128 = 5;

/// What the tokens of a model cost, in dollars for a million of them.
///
/// As JSON it has the fields `prefill`, `cached_prefill` (a fifth of `prefill` if it is missing), `sample` and `train`.
///
/// ```
/// use tinkex::cost::{Price, Usage};
///
/// let price = Price::new("0.195".parse()?, "0.60".parse()?, "0.44".parse()?)?;
/// assert_eq!(price.cached_prefill().to_string(), "$0.039");
/// let usage = Usage::new().prefill(10_000).cached(90_000).sampled(2000).trained(50_000);
/// assert_eq!(price.cost(&usage).to_string(), "$0.02866");
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Columns", into = "Columns")]
pub struct Price {
    prefill: Rate,
    cached: Rate,
    sample: Rate,
    train: Rate,
}

/// 10⁻¹² dollars for a token: a millionth of a dollar for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate(u128);

impl Rate {
    fn of(what: &str, million: Dollars) -> Result<Self> {
        match million.picodollars() {
            amount if amount % MILLION == 0 => Ok(Rate(amount / MILLION)),
            _ => Err(Error::invalid_input(format!(
                "the price of {what}, {million} for a million tokens, has too many decimals"
            ))
            .with_hint("give it with at most 6 decimals")),
        }
    }

    fn million(self) -> Dollars {
        Dollars::from_picodollars(self.0.saturating_mul(MILLION))
    }
}

impl Price {
    /// The price of a million tokens of prompts, of a million sampled ones, and of a million in training passes. Cached tokens of prompts
    /// cost a fifth of the others.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a price with more than 6 decimals, so that the cost of each token is exact.
    pub fn new(prefill: Dollars, sample: Dollars, train: Dollars) -> Result<Self> {
        let prefill = Rate::of("prefill", prefill)?;
        let cached = Rate(prefill.0.div_ceil(CACHED_DIVISOR));
        Ok(Price { prefill, cached, sample: Rate::of("samples", sample)?, train: Rate::of("training", train)? })
    }

    /// With another price of a million cached tokens of prompts.
    ///
    /// # Errors
    ///
    /// As [`new`](Price::new).
    pub fn with_cached_prefill(mut self, cached: Dollars) -> Result<Self> {
        self.cached = Rate::of("cached prefill", cached)?;
        Ok(self)
    }

    /// The price of a million tokens of prompts.
    #[must_use]
    pub fn prefill(&self) -> Dollars {
        self.prefill.million()
    }

    /// The price of a million tokens of prompts that are in the service's cache.
    #[must_use]
    pub fn cached_prefill(&self) -> Dollars {
        self.cached.million()
    }

    /// The price of a million sampled tokens.
    #[must_use]
    pub fn sample(&self) -> Dollars {
        self.sample.million()
    }

    /// The price of a million tokens of training passes.
    #[must_use]
    pub fn train(&self) -> Dollars {
        self.train.million()
    }

    /// What these tokens cost, exactly: the cost of a sum is the sum of the costs.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> Dollars {
        let parts = [
            (self.prefill, usage.prefill),
            (self.cached, usage.cached),
            (self.sample, usage.sampled),
            (self.train, usage.trained),
        ];
        parts.into_iter().map(|(rate, tokens)| Dollars::from_picodollars(rate.0) * tokens).sum()
    }
}

/// A price as it is written.
#[derive(Serialize, Deserialize)]
pub(super) struct Columns {
    pub(super) prefill: Dollars,
    #[serde(default)]
    pub(super) cached_prefill: Option<Dollars>,
    pub(super) sample: Dollars,
    pub(super) train: Dollars,
}

impl TryFrom<Columns> for Price {
    type Error = Error;

    fn try_from(columns: Columns) -> Result<Self> {
        let price = Price::new(columns.prefill, columns.sample, columns.train)?;
        columns.cached_prefill.map_or(Ok(price), |cached| price.with_cached_prefill(cached))
    }
}

impl From<Price> for Columns {
    fn from(price: Price) -> Self {
        Columns {
            prefill: price.prefill(),
            cached_prefill: Some(price.cached_prefill()),
            sample: price.sample(),
            train: price.train(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use quickcheck::quickcheck;
    use serde_json::json;

    use super::*;
    use crate::cost::usage::tests::usage;

    /// A price of up to 4000 dollars for a million tokens.
    pub(in crate::cost) fn price(rates: (u32, u32, u32, u32)) -> Price {
        let [prefill, cached, sample, train] = [rates.0, rates.1, rates.2, rates.3].map(|rate| Rate(rate.into()));
        Price { prefill, cached, sample, train }
    }

    #[test]
    fn prices_with_too_many_decimals_are_refused() {
        let amount = |text: &str| text.parse::<Dollars>().unwrap();
        let one = amount("1");
        assert!(Price::new(amount("0.000001"), one, one).is_ok());
        for (price, what) in [
            (Price::new(amount("0.0000001"), one, one), "the price of prefill, $0.0000001 for a million tokens"),
            (Price::new(one, amount("0.1234567"), one), "the price of samples"),
            (Price::new(one, one, amount("0.1234567")), "the price of training"),
            (
                Price::new(one, one, one).unwrap().with_cached_prefill(amount("0.1234567")),
                "the price of cached prefill",
            ),
        ] {
            let error = price.unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("too many decimals"), "{error}");
        }
    }

    #[test]
    fn a_price_is_written_by_its_columns() {
        let read = |json| serde_json::from_value::<Price>(json);
        let price = read(json!({"prefill": "$1.00", "sample": 1.5, "train": 2})).unwrap();
        let written = json!({"prefill": "1.00", "cached_prefill": "0.20", "sample": "1.50", "train": "2.00"});
        assert_eq!(serde_json::to_value(price).unwrap(), written);
        assert_eq!(read(written).unwrap(), price);
        let own = read(json!({"prefill": 1, "cached_prefill": 0.5, "sample": 1, "train": 1})).unwrap();
        assert_eq!(own.cached_prefill(), "0.5".parse().unwrap());
        assert!(read(json!({"prefill": 1, "sample": 1})).unwrap_err().to_string().contains("train"));
    }

    quickcheck! {
        fn the_cost_of_a_sum_is_the_sum(rates: (u32, u32, u32, u32), one: (u64, u64, u64, u64), other: (u64, u64, u64, u64)) -> bool {
            let (price, one, other) = (price(rates), usage(one), usage(other));
            price.cost(&(one + other)) == price.cost(&one) + price.cost(&other)
        }

        fn the_cost_of_a_million_is_the_price(rates: (u32, u32, u32, u32)) -> bool {
            let (price, million) = (price(rates), 1_000_000);
            price.cost(&Usage::new().prefill(million)) == price.prefill()
                && price.cost(&Usage::new().cached(million)) == price.cached_prefill()
                && price.cost(&Usage::new().sampled(million)) == price.sample()
                && price.cost(&Usage::new().trained(million)) == price.train()
        }
    }
}
