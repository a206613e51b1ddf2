//! Typed access to the options of a `config.json`.

use serde_json::{Map, Value};

use crate::local::pretrained::refusal::Refusal;

/// The options of a configuration, or of a part of it. An option that is `null` is one that is not there.
pub(super) struct Options<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Options<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Whether the option is written, be it as `null`.
    pub(super) fn is_written(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn typed<T>(
        &self,
        name: &str,
        kind: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let Some(value) = self.get(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| Refusal::Damaged(format!("{name} is {value}, and not {kind}")))
    }

    /// A number of things: at least one.
    pub(super) fn count(&self, name: &str) -> Result<Option<usize>, Refusal> {
        let read =
            |value: &Value| value.as_u64().and_then(|count| usize::try_from(count).ok()).filter(|&count| count > 0);
        self.typed(name, "a number from 1", read)
    }

    pub(super) fn needed_count(&self, name: &str) -> Result<usize, Refusal> {
        self.count(name)?.ok_or_else(|| Refusal::Damaged(format!("it has no {name}")))
    }

    /// A number above zero.
    pub(super) fn positive(&self, name: &str) -> Result<Option<f64>, Refusal> {
        let read = |value: &Value| value.as_f64().filter(|number| number.is_finite() && *number > 0.0);
        self.typed(name, "a number above zero", read)
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        self.typed(name, "true or false", Value::as_bool)
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        self.typed(name, "a text", Value::as_str)
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<Options<'a>>, Refusal> {
        Ok(self.typed(name, "an object", Value::as_object)?.map(Options))
    }

    /// Token ids: one, or a list.
    pub(super) fn tokens(&self, name: &str) -> Result<Vec<u32>, Refusal> {
        let token = |value: &Value| value.as_u64().and_then(|token| u32::try_from(token).ok());
        let read = |value: &'a Value| match value {
            Value::Array(tokens) => tokens.iter().map(token).collect(),
            one => token(one).map(|token| vec![token]),
        };
        Ok(self.typed(name, "a token or a list of tokens", read)?.unwrap_or_default())
    }
}
