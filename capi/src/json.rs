//! Reads the JSON of arguments. Unknown keys are refused, at any depth, also where the library's own types ignore them.

use serde::de::DeserializeOwned;
use tinkex::serde_json;

use crate::error::Error;

/// Reads an argument, whose name the errors have.
pub(crate) fn read<T: DeserializeOwned>(text: &str, name: &str) -> Result<T, Error> {
    let mut unknown = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = serde_ignored::deserialize(&mut deserializer, |path| unknown.push(path.to_string()))
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| Error::invalid(format!("{name}: {error}")))?;
    match unknown.first() {
        Some(key) => Err(Error::invalid(format!("{name}: unknown key {key}"))),
        None => Ok(value),
    }
}

/// Reads an argument that may be missing.
pub(crate) fn read_optional<T: DeserializeOwned + Default>(text: Option<&str>, name: &str) -> Result<T, Error> {
    text.map_or_else(|| Ok(T::default()), |text| read(text, name))
}
