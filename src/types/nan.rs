//! Numbers that may be `null` in a response, since JSON has no NaN or infinities. They are read as NaN.

use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer};

/// A float; `null` is read as NaN.
pub(super) struct Number<T>(pub(super) T);

impl<'de, T: Deserialize<'de> + From<f32>> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Number(Option::deserialize(deserializer)?.unwrap_or_else(|| T::from(f32::NAN))))
    }
}

/// Metrics; `null` is read as no metrics.
pub(super) fn metrics<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, f64>, D::Error> {
    optional_metrics(deserializer).map(Option::unwrap_or_default)
}

/// Metrics that may be absent.
pub(super) fn optional_metrics<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<String, f64>>, D::Error> {
    let metrics = Option::<BTreeMap<String, Number<f64>>>::deserialize(deserializer)?;
    Ok(metrics.map(|metrics| {
        // Extended, not collected, which would sort the names again.
        let mut all = BTreeMap::new();
        all.extend(metrics.into_iter().map(|(name, Number(value))| (name, value)));
        all
    }))
}

/// Log-probabilities that may be absent.
pub(super) fn optional_logprobs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<f32>>, D::Error> {
    let values = Option::<Vec<Number<f32>>>::deserialize(deserializer)?;
    Ok(values.map(|values| values.into_iter().map(|Number(value)| value).collect()))
}
