//! Reads the JSON of arguments. Unknown keys are refused, at any depth, also where the library's own types ignore them.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tinkex::serde_json;

use crate::error::Error;

/// An object. serde also reads a list as a struct, its first element as the first field: `[1]` would be a learning rate of 1.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        object(deserializer).map(Object)
    }
}

/// Reads a field that is an object, and refuses a list.
pub(crate) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Fields<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(Fields(PhantomData))
}

/// Reads an argument, whose name the errors have.
pub(crate) fn read<T: DeserializeOwned>(text: &str, name: &str) -> Result<T, Error> {
    let mut unknown = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let Object(value) = serde_ignored::deserialize(&mut deserializer, |path| unknown.push(path.to_string()))
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| Error::invalid(format!("{name}: {}", without_found_string(&error))))?;
    match unknown.first() {
        Some(key) => Err(Error::invalid(format!("{name}: unknown key {key}"))),
        None => Ok(value),
    }
}

/// The text of an error without a string that was found in the wrong place: it may be a key or a password.
fn without_found_string(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match (text.find("string \""), text.rfind("\", expected")) {
        (Some(start), Some(end)) if start < end => format!("{}a string{}", &text[..start], &text[end + 1..]),
        _ => text,
    }
}

/// Reads an argument that may be missing.
pub(crate) fn read_optional<T: DeserializeOwned + Default>(text: Option<&str>, name: &str) -> Result<T, Error> {
    text.map_or_else(|| Ok(T::default()), |text| read(text, name))
}
