//! Query strings in the Python client's form: lists joined with commas, maps in brackets, nothing for null.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The bytes that Python's `urlencode` percent-encodes, except for the space, for which [`encode`] writes `+`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'-').remove(b'~').remove(b' ');

/// The fields of a query string, in the order they were added.
///
/// ```
/// use tinkex::types::{Query, QueryValue};
///
/// let query = Query::new()
///     .field("limit", 20)
///     .field("ids", ["a", "b"])
///     .field("filter", QueryValue::map([("owner", "me & you")]))
///     .field("after", None::<&str>);
/// assert_eq!(query.to_string(), "limit=20&ids=a%2Cb&filter%5Bowner%5D=me+%26+you");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    fields: Vec<(String, QueryValue)>,
}

impl Query {
    /// A query without fields.
    #[must_use]
    pub fn new() -> Self {
        Query::default()
    }

    /// Adds a field. Nulls and empty texts are not written.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, value: impl Into<QueryValue>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// The fields of `defaults` that have other names, then these fields.
    pub(crate) fn over(&self, defaults: &Query) -> Query {
        let is_ours = |name: &str| self.fields.iter().any(|(ours, _)| ours == name);
        let kept = defaults.fields.iter().filter(|(name, _)| !is_ours(name));
        Query { fields: kept.chain(&self.fields).cloned().collect() }
    }

    /// The names and values that are written, before encoding.
    #[must_use]
    pub fn pairs(&self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for (name, value) in &self.fields {
            value.flatten(name.clone(), &mut pairs);
        }
        pairs
    }

    /// Whether no field is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs().is_empty()
    }
}

impl<N: Into<String>, V: Into<QueryValue>> FromIterator<(N, V)> for Query {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        fields.into_iter().fold(Query::new(), |query, (name, value)| query.field(name, value))
    }
}

impl fmt::Display for Query {
    /// The encoded query string, without the question mark.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.pairs().iter().enumerate() {
            let separator = if index == 0 { "" } else { "&" };
            write!(f, "{separator}{}={}", encode(name), encode(value))?;
        }
        Ok(())
    }
}

/// The value of a field.
///
/// Texts, numbers, booleans, and lists and options of them convert with `Into`.
///
/// ```
/// use tinkex::types::{Query, QueryValue};
///
/// assert_eq!(QueryValue::from(1e16), QueryValue::Text("1e+16".to_owned()));
/// assert_eq!(QueryValue::from(vec![1, 2]), QueryValue::list([1, 2]));
/// let nested = QueryValue::map([("a", QueryValue::from(true)), ("b", QueryValue::Null), ("c", QueryValue::map([("d", 1)]))]);
/// let pairs = Query::new().field("x", nested).pairs();
/// assert_eq!(pairs, [("x[a]", "true"), ("x[c][d]", "1")].map(|(name, value)| (name.to_owned(), value.to_owned())));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum QueryValue {
    /// No value: the field is not written.
    Null,
    /// A text, a number or a boolean.
    Text(String),
    /// Values joined with commas.
    List(Vec<String>),
    /// One field for each entry, `name[entry]`.
    Map(Vec<(String, QueryValue)>),
}

impl QueryValue {
    /// A list of texts, numbers or booleans. Nulls are skipped; nested lists and maps are flattened.
    pub fn list<V: Into<QueryValue>>(values: impl IntoIterator<Item = V>) -> Self {
        QueryValue::List(values.into_iter().flat_map(|value| value.into().into_texts()).collect())
    }

    /// A map, one field for each entry.
    pub fn map<N: Into<String>, V: Into<QueryValue>>(entries: impl IntoIterator<Item = (N, V)>) -> Self {
        QueryValue::Map(entries.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    fn into_texts(self) -> Vec<String> {
        match self {
            QueryValue::Null => Vec::new(),
            QueryValue::Text(text) => vec![text],
            QueryValue::List(texts) => texts,
            QueryValue::Map(entries) => entries.into_iter().flat_map(|(_, value)| value.into_texts()).collect(),
        }
    }

    fn flatten(&self, name: String, pairs: &mut Vec<(String, String)>) {
        match self {
            QueryValue::Null => {}
            QueryValue::Text(text) if text.is_empty() => {}
            QueryValue::Text(text) => pairs.push((name, text.clone())),
            QueryValue::List(texts) => pairs.push((name, texts.join(","))),
            QueryValue::Map(entries) => {
                for (entry, value) in entries {
                    value.flatten(format!("{name}[{entry}]"), pairs);
                }
            }
        }
    }
}

impl From<&str> for QueryValue {
    fn from(text: &str) -> Self {
        QueryValue::Text(text.to_owned())
    }
}

impl From<String> for QueryValue {
    fn from(text: String) -> Self {
        QueryValue::Text(text)
    }
}

impl From<f64> for QueryValue {
    /// In Python's form: the shortest digits, whole floats with `.0`, the exponent with a sign and at least two digits.
    fn from(number: f64) -> Self {
        let text = format!("{number:?}");
        QueryValue::Text(match text.split_once('e') {
            Some((digits, exponent)) => {
                let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
                format!("{digits}e{sign}{exponent:0>2}")
            }
            None => text,
        })
    }
}

macro_rules! from_display {
    ($($Type:ty)*) => {$(
        impl From<$Type> for QueryValue {
            fn from(value: $Type) -> Self {
                QueryValue::Text(value.to_string())
            }
        }
    )*};
}

from_display!(bool i32 i64 u32 u64 usize);

impl<V: Into<QueryValue>> From<Option<V>> for QueryValue {
    fn from(value: Option<V>) -> Self {
        value.map_or(QueryValue::Null, Into::into)
    }
}

impl<V: Into<QueryValue>> From<Vec<V>> for QueryValue {
    fn from(values: Vec<V>) -> Self {
        QueryValue::list(values)
    }
}

impl<V: Into<QueryValue>, const N: usize> From<[V; N]> for QueryValue {
    fn from(values: [V; N]) -> Self {
        QueryValue::list(values)
    }
}

/// Form encoding: `+` for a space, percent-encoding for the [`ENCODED`] bytes. Not by the crate `form_urlencoded`, whose set of
/// bytes is not Python's: it keeps `*` and encodes `~`.
fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string().replace(' ', "+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_is_reversible() {
        quickcheck::quickcheck(
            (|fields: Vec<(String, String)>| {
                let query: Query = fields.into_iter().collect();
                let written = query.to_string();
                form_urlencoded::parse(written.as_bytes()).into_owned().collect::<Vec<_>>() == query.pairs()
            }) as fn(_) -> bool,
        );
    }
}
