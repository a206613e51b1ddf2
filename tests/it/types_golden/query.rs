//! `pure_querystring`: the format of the Python client, lists with commas and maps in brackets.

use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use tinkex::types::{Query, QueryValue};

use crate::support::golden::fixture_as;

/// A JSON object in its order, as fields of a query.
struct Fields(QueryValue);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Fields;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Fields, E> {
                Ok(Fields(QueryValue::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Fields, E> {
                Ok(Fields(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Fields, E> {
                Ok(Fields(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Fields, E> {
                Ok(Fields(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Fields, E> {
                Ok(Fields(value.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Fields, A::Error> {
                let mut values = Vec::new();
                while let Some(Fields(value)) = list.next_element()? {
                    values.push(value);
                }
                Ok(Fields(values.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut entries = Vec::new();
                while let Some((name, Fields(value))) = map.next_entry::<String, _>()? {
                    entries.push((name, value));
                }
                Ok(Fields(QueryValue::Map(entries)))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[derive(serde::Deserialize)]
struct Golden {
    formats: Vec<Format>,
}

#[derive(serde::Deserialize)]
struct Format {
    array_format: String,
    nested_format: String,
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    r#in: Fields,
    #[serde(default)]
    out: String,
    items: BTreeMap<String, serde_json::Value>,
}

#[test]
fn written_with_commas_and_brackets() {
    /// Lists and maps in a list: Python writes their `repr`; here they become part of the list.
    const DIFFERENT: [(&str, &str); 2] =
        [("a=%5B1%2C+2%5D%2C%5B3%5D", "a=1%2C2%2C3"), ("a=%7B%27b%27%3A+1%7D%2C%7B%27b%27%3A+2%7D", "a=1%2C2")];
    // Read as text, since a JSON tree has no order of keys.
    let golden: Golden = fixture_as("pure_querystring");
    let used = golden
        .formats
        .into_iter()
        .find(|format| (&*format.array_format, &*format.nested_format) == ("comma", "brackets"));
    let cases = used.unwrap().cases;
    assert_eq!(cases.len(), 23);
    for case in cases {
        let Fields(QueryValue::Map(fields)) = case.r#in else { panic!("not an object") };
        let query: Query = fields.into_iter().collect();
        let different = DIFFERENT.iter().find(|(python, _)| *python == case.out);
        assert_eq!(query.to_string(), different.map_or(&*case.out, |(_, ours)| ours));
        if different.is_none() {
            assert_eq!(serde_json::json!(query.pairs()), case.items["out"]);
        }
        assert_eq!(query.is_empty(), case.out.is_empty());
    }
}
