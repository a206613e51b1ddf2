//! The metadata of GGUF files.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::fields::{Fields, invalid};

const MAX_KEYS: u64 = 1 << 16;

/// Some of the metadata of a file.
#[derive(Debug)]
pub(crate) struct Metadata(BTreeMap<String, Value>);

/// A value that this crate has a use for. Others are read over.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Integer(i64),
    Float(f64),
    Flag(bool),
    Text(String),
    Integers(Vec<i64>),
    Texts(Vec<String>),
    Other,
}

impl Metadata {
    /// Reads the keys that `keep` names, after the numbers of tensors and of keys.
    pub(super) fn from_fields<R: Read>(fields: &mut Fields<R>, keep: impl Fn(&str) -> bool) -> io::Result<Self> {
        let mut kept = BTreeMap::new();
        for _ in 0..fields.count(MAX_KEYS, "keys")? {
            let key = fields.text()?;
            let kind = fields.u32()?;
            if !keep(&key) {
                fields.skip(kind, 1)?;
                continue;
            }
            let value = Value::read(fields, kind)?;
            if kept.contains_key(&key) {
                return Err(invalid(format!("it has the key {key} twice")));
            }
            kept.insert(key, value);
        }
        Ok(Metadata(kept))
    }

    /// The text of this key, if it is one.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match self.0.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn texts(&self, key: &str) -> Option<&[String]> {
        match self.0.get(key)? {
            Value::Texts(texts) => Some(texts),
            _ => None,
        }
    }

    pub(crate) fn integer(&self, key: &str) -> Option<i64> {
        match self.0.get(key)? {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }

    #[cfg(any(test, feature = "tokenizers"))]
    pub(crate) fn integers(&self, key: &str) -> Option<&[i64]> {
        match self.0.get(key)? {
            Value::Integers(numbers) => Some(numbers),
            _ => None,
        }
    }

    #[cfg(any(test, feature = "pretrained"))]
    pub(crate) fn float(&self, key: &str) -> Option<f64> {
        match self.0.get(key)? {
            Value::Float(number) => Some(*number),
            _ => None,
        }
    }

    #[cfg(any(test, feature = "tokenizers"))]
    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        match self.0.get(key)? {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        }
    }

    /// Whether there is such a key, whatever its value.
    #[cfg(feature = "pretrained")]
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The keys that were kept.
    #[cfg(any(test, feature = "chat"))]
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl Value {
    fn read<R: Read>(fields: &mut Fields<R>, kind: u32) -> io::Result<Value> {
        Ok(match kind {
            6 => Value::Float(f32::from_le_bytes(fields.bytes()?).into()),
            7 => Value::Flag(fields.bytes::<1>()? != [0]),
            8 => Value::Text(fields.text()?),
            9 => Value::read_list(fields)?,
            12 => Value::Float(f64::from_le_bytes(fields.bytes()?)),
            _ => fields.integer(kind)?.map_or(Value::Other, Value::Integer),
        })
    }

    fn read_list<R: Read>(fields: &mut Fields<R>) -> io::Result<Value> {
        let kind = fields.u32()?;
        if !matches!(kind, 0..=5 | 8 | 10 | 11) {
            let items = fields.u64()?;
            fields.skip(kind, items)?;
            return Ok(Value::Other);
        }
        let items = fields.items()?;
        if kind == 8 {
            return (0..items).map(|_| fields.text()).collect::<io::Result<_>>().map(Value::Texts);
        }
        let numbers = (0..items).map(|_| Ok(fields.integer(kind)?.unwrap_or(-1)));
        numbers.collect::<io::Result<_>>().map(Value::Integers)
    }
}
