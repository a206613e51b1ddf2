//! Query strings, as the Python client writes them: lists joined with commas, maps in brackets, nothing for null.

use std::fmt;

/// The fields of a query string, in the order they were added.
///
/// ```
/// use tinkex::query::{Query, Value};
///
/// let query = Query::new()
///     .field("limit", 20)
///     .field("ids", ["a", "b"])
///     .field("filter", Value::map([("owner", "me & you")]))
///     .field("after", None::<&str>);
/// assert_eq!(query.to_string(), "limit=20&ids=a%2Cb&filter%5Bowner%5D=me+%26+you");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    fields: Vec<(String, Value)>,
}

impl Query {
    /// A query without fields.
    #[must_use]
    pub fn new() -> Self {
        Query::default()
    }

    /// Adds a field. A null and an empty text are left out when the query is written.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// These fields after those of `defaults` that have other names.
    pub(crate) fn over(&self, defaults: &Query) -> Query {
        let is_ours = |name: &str| self.fields.iter().any(|(ours, _)| ours == name);
        let kept = defaults.fields.iter().filter(|(name, _)| !is_ours(name));
        Query { fields: kept.chain(&self.fields).cloned().collect() }
    }

    /// Names and values as they are written, before encoding.
    #[must_use]
    pub fn pairs(&self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for (name, value) in &self.fields {
            value.flatten(name.clone(), &mut pairs);
        }
        pairs
    }

    /// Whether nothing is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs().is_empty()
    }
}

impl<N: Into<String>, V: Into<Value>> FromIterator<(N, V)> for Query {
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
/// Texts, numbers, booleans, lists and options of them turn into one by themselves.
///
/// ```
/// use tinkex::query::{Query, Value};
///
/// assert_eq!(Value::from(1e16), Value::Text("1e+16".to_owned()));
/// assert_eq!(Value::from(vec![1, 2]), Value::list([1, 2]));
/// let nested = Value::map([("a", Value::from(true)), ("b", Value::Null), ("c", Value::map([("d", 1)]))]);
/// let pairs = Query::new().field("x", nested).pairs();
/// assert_eq!(pairs, [("x[a]", "true"), ("x[c][d]", "1")].map(|(name, value)| (name.to_owned(), value.to_owned())));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Nothing: the field is left out.
    Null,
    /// A text, a number or a boolean.
    Text(String),
    /// Values joined with commas.
    List(Vec<String>),
    /// One field for each entry, `name[entry]`.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// A list of texts, numbers or booleans. Nulls in it are left out, lists and maps in it become part of it.
    pub fn list<V: Into<Value>>(values: impl IntoIterator<Item = V>) -> Self {
        Value::List(values.into_iter().flat_map(|value| value.into().into_texts()).collect())
    }

    /// A map, one field for each entry.
    pub fn map<N: Into<String>, V: Into<Value>>(entries: impl IntoIterator<Item = (N, V)>) -> Self {
        Value::Map(entries.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    fn into_texts(self) -> Vec<String> {
        match self {
            Value::Null => Vec::new(),
            Value::Text(text) => vec![text],
            Value::List(texts) => texts,
            Value::Map(entries) => entries.into_iter().flat_map(|(_, value)| value.into_texts()).collect(),
        }
    }

    fn flatten(&self, name: String, pairs: &mut Vec<(String, String)>) {
        match self {
            Value::Null => {}
            Value::Text(text) if text.is_empty() => {}
            Value::Text(text) => pairs.push((name, text.clone())),
            Value::List(texts) => pairs.push((name, texts.join(","))),
            Value::Map(entries) => {
                for (entry, value) in entries {
                    value.flatten(format!("{name}[{entry}]"), pairs);
                }
            }
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

impl From<f64> for Value {
    /// As Python writes it: the shortest digits, whole floats with `.0`, a sign and two digits in the exponent.
    fn from(number: f64) -> Self {
        let text = format!("{number:?}");
        Value::Text(match text.split_once('e') {
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
        impl From<$Type> for Value {
            fn from(value: $Type) -> Self {
                Value::Text(value.to_string())
            }
        }
    )*};
}

from_display!(bool i32 i64 u32 u64 usize);

impl<V: Into<Value>> From<Option<V>> for Value {
    fn from(value: Option<V>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

impl<V: Into<Value>> From<Vec<V>> for Value {
    fn from(values: Vec<V>) -> Self {
        Value::list(values)
    }
}

impl<V: Into<Value>, const N: usize> From<[V; N]> for Value {
    fn from(values: [V; N]) -> Self {
        Value::list(values)
    }
}

/// Form encoding: a space is `+`, and everything but letters, digits and `_.-~` is percent-encoded.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => encoded.push(char::from(byte)),
            b' ' => encoded.push('+'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The fields of an encoded query string, in order. Fields without a value are left out, as Python's `parse_qs` does;
/// bytes that are not UTF-8 are replaced.
///
/// ```
/// let fields = tinkex::query::parse("a=%20x+y&b=&c=1");
/// assert_eq!(fields, [("a", " x y"), ("c", "1")].map(|(name, value)| (name.to_owned(), value.to_owned())));
/// ```
#[must_use]
pub fn parse(query: &str) -> Vec<(String, String)> {
    let fields = query.split('&').filter_map(|field| field.split_once('='));
    fields.filter(|(_, value)| !value.is_empty()).map(|(name, value)| (decode(name), decode(value))).collect()
}

fn decode(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let Some((&first, rest)) = bytes.split_first() {
        bytes = rest;
        let hex = rest.get(..2).filter(|hex| first == b'%' && hex.iter().all(u8::is_ascii_hexdigit));
        match hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                bytes = &rest[2..];
            }
            None => decoded.push(if first == b'+' { b' ' } else { first }),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_percent_code_stays_as_it_is() {
        let pairs = parse("a=100%&b=%zz&c=%C3%28&=x&d");
        let expected = [("a", "100%"), ("b", "%zz"), ("c", "\u{fffd}("), ("", "x")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_is_written_is_read_again() {
        quickcheck::quickcheck(
            (|fields: Vec<(String, String)>| {
                let query: Query = fields.into_iter().collect();
                parse(&query.to_string()) == query.pairs()
            }) as fn(_) -> bool,
        );
    }
}
