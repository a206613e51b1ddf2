//! Prices by model.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::price::Columns;
use super::{Dollars, Price, built_in};
use crate::error::{Error, ErrorKind, Result};

/// Where Tinker publishes its prices in this form.
const PUBLISHED: &str = "https://tinker-docs.thinkingmachines.ai/tinker/models.json";

/// The prices of models, by their names on the service. The same model with a longer context, such as
/// `openai/gpt-oss-120b:peft:131072`, has a price of its own.
///
/// Prices change. [`built_in`](PriceTable::built_in) has those of [`BUILT_IN_PRICES_AS_OF`](super::BUILT_IN_PRICES_AS_OF); the current
/// ones of Tinker are a file that [`open`](PriceTable::open) reads, `https://tinker-docs.thinkingmachines.ai/tinker/models.json`.
///
/// ```
/// use tinkex::cost::{Price, PriceTable};
///
/// let json = r#"[{"tinker_id": "Qwen/Qwen3-8B", "prefill": "$0.195", "cached_prefill": "$0.039", "sample": "$0.60", "train": "$0.44"}]"#;
/// let own = Price::new("1".parse()?, "2".parse()?, "3".parse()?)?;
/// let prices = PriceTable::from_json(json)?.with("acme/Nova-7B", own);
/// assert_eq!(prices.price("Qwen/Qwen3-8B")?.train().to_string(), "$0.44");
/// assert_eq!(prices.price("acme/Nova-7B")?, own);
///
/// let error = prices.price("acme/Nova-8B").unwrap_err();
/// assert_eq!(error.message(), "the price of the model \"acme/Nova-8B\" is not known");
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceTable(BTreeMap<String, Price>);

impl PriceTable {
    /// A table without prices, to add some to.
    #[must_use]
    pub fn new() -> Self {
        PriceTable::default()
    }

    /// The prices of Tinker that this crate knows, of [`BUILT_IN_PRICES_AS_OF`](super::BUILT_IN_PRICES_AS_OF).
    ///
    /// ```
    /// use tinkex::cost::PriceTable;
    ///
    /// let prices = PriceTable::built_in();
    /// assert_eq!(prices.price("openai/gpt-oss-120b")?.prefill().to_string(), "$0.33");
    /// assert_eq!(prices.price("openai/gpt-oss-120b:peft:131072")?.prefill().to_string(), "$0.78");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn built_in() -> Self {
        PriceTable(built_in::prices().map(|(model, price)| (model.to_owned(), price)).collect())
    }

    /// Prices in the form in which Tinker publishes them: a list of objects with `tinker_id`, `prefill`, `sample` and `train`, and
    /// perhaps `cached_prefill`. The prices are dollars for a million tokens, as a text or a number. Other fields do not matter; a model
    /// without a price of training is left out.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for another form, which names the model, and for the same model twice.
    pub fn from_json(json: &str) -> Result<Self> {
        let hint = "give a list like [{\"tinker_id\": \"NAME\", \"prefill\": \"0.1\", \"sample\": \"0.2\", \"train\": \"0.3\"}]";
        let rows: Vec<Row> = serde_json::from_str(json)
            .map_err(|error| Error::invalid_input(format!("the price table is not valid: {error}")).with_hint(hint))?;
        let mut prices = BTreeMap::new();
        for row in rows {
            let refused = |why: String| {
                Error::invalid_input(format!("the price of the model {:?} {why}", row.tinker_id)).with_hint(hint)
            };
            let (Some(prefill), Some(sample)) = (row.prefill, row.sample) else {
                return Err(refused("lacks prefill or sample".to_owned()));
            };
            let Some(train) = row.train else { continue };
            let price = Price::try_from(Columns { prefill, cached_prefill: row.cached_prefill, sample, train })
                .map_err(|error| refused(format!("is not valid: {}", error.message())))?;
            if prices.insert(row.tinker_id.clone(), price).is_some() {
                return Err(refused("is there twice".to_owned()));
            }
        }
        Ok(PriceTable(prices))
    }

    /// [`from_json`](PriceTable::from_json) of a file.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) for a file that cannot be read, and those of [`from_json`](PriceTable::from_json).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let json = fs::read_to_string(path).map_err(|error| {
            let message = format!("cannot read the price table {}: {error}", path.display());
            Error::new(ErrorKind::Io, message).with_hint(format!("Tinker's is {PUBLISHED}")).with_source(error)
        })?;
        PriceTable::from_json(&json)
    }

    /// Adds the price of a model, or replaces it.
    #[must_use]
    pub fn with(mut self, model: impl Into<String>, price: Price) -> Self {
        self.0.insert(model.into(), price);
        self
    }

    /// The price of a model.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a model that is not in the table. The error says how to give its price.
    pub fn price(&self, model: &str) -> Result<Price> {
        self.0.get(model).copied().ok_or_else(|| {
            Error::invalid_input(format!("the price of the model {model:?} is not known"))
                .with_hint(format!("add it with PriceTable::with, or open a file with it: Tinker's is {PUBLISHED}"))
        })
    }

    /// The models with their prices, in the order of their names.
    ///
    /// ```
    /// use tinkex::cost::PriceTable;
    ///
    /// for (model, price) in PriceTable::built_in().iter() {
    ///     println!("{model}: {} to train a million tokens", price.train());
    /// }
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Price)> {
        self.0.iter().map(|(model, price)| (model.as_str(), price))
    }
}

/// A model in a table.
#[derive(Deserialize)]
struct Row {
    tinker_id: String,
    #[serde(default)]
    prefill: Option<Dollars>,
    #[serde(default)]
    cached_prefill: Option<Dollars>,
    #[serde(default)]
    sample: Option<Dollars>,
    #[serde(default)]
    train: Option<Dollars>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row as Tinker publishes it, with fields that do not matter here.
    #[test]
    fn published_rows_are_read() {
        let json = r#"[
            {"name": "Qwen3.5-4B", "tinker_id": "Qwen/Qwen3.5-4B", "type": "Hybrid + Vision", "arch": "Dense", "size": "Compact",
             "context": "64K", "prefill": "$0.33", "sample": "$1.005", "train": "$0.737", "note": "Limited-time 50% discount"},
            {"tinker_id": "acme/only-samples", "prefill": 1, "sample": 2}
        ]"#;
        let prices = PriceTable::from_json(json).unwrap();
        assert_eq!(prices.price("Qwen/Qwen3.5-4B").unwrap(), PriceTable::built_in().price("Qwen/Qwen3.5-4B").unwrap());
        assert_eq!(prices.iter().count(), 1);
    }

    #[test]
    fn tables_of_another_form_are_refused() {
        let with = |fields: &str| format!(r#"[{{"tinker_id": "m", {fields}}}]"#);
        for (json, why) in [
            ("{}".to_owned(), "the price table is not valid: invalid type: map"),
            (with(r#""prefill": 1, "sample": "free", "train": 1"#), "an amount of dollars"),
            (with(r#""prefill": 1, "train": 1"#), "the price of the model \"m\" lacks prefill or sample"),
            (with(r#""prefill": 1, "sample": 0.1234567, "train": 1"#), "the price of the model \"m\" is not valid"),
            (r#"[{"prefill": 1, "sample": 1, "train": 1}]"#.to_owned(), "tinker_id"),
            (
                r#"[{"tinker_id": "m", "prefill": 1, "sample": 1, "train": 1}, {"tinker_id": "m", "prefill": 2, "sample": 1, "train": 1}]"#
                    .to_owned(),
                "the price of the model \"m\" is there twice",
            ),
        ] {
            let error = PriceTable::from_json(&json).unwrap_err();
            assert!(error.message().contains(why) && error.hint().is_some(), "{json}: {error}");
        }
    }

    #[test]
    fn files_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("models.json");
        let error = PriceTable::open(&path).unwrap_err();
        assert!(error.kind() == ErrorKind::Io && error.hint().unwrap().contains(PUBLISHED), "{error}");
        fs::write(&path, r#"[{"tinker_id": "m", "prefill": 1, "sample": 2, "train": 3}]"#).unwrap();
        assert_eq!(PriceTable::open(&path).unwrap().price("m").unwrap().cached_prefill().to_string(), "$0.20");
    }

    /// A longer context costs more, so its price is never taken from the model without it.
    #[test]
    fn contexts_have_prices_of_their_own() {
        let prices = PriceTable::built_in();
        assert!(prices.price("Qwen/Qwen3-8B").is_ok());
        let error = prices.price("Qwen/Qwen3-8B:peft:131072").unwrap_err();
        assert!(error.hint().unwrap().contains("PriceTable::with"), "{error}");
    }
}
