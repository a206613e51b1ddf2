//! Reads responses whose numbers are not finite. JSON has no such numbers, and services write them in four ways: `null`, which the
//! types take for NaN where a number must be; the words `NaN`, `Infinity` and `-Infinity`, which Python's `json` writes; and the
//! same words as strings. A number that is too large for its type, such as 1e39 for a float of 32 bits, is infinite, as in Python.
//!
//! Such a response is rare, so it is first read as plain JSON. Only if that fails, and one of these may be the reason, is it read
//! again with every float taken from a number or a word.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, IntoDeserializer, MapAccess,
    SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::Error;
use serde_json::value::RawValue;

use super::json_structure::is_deeper_than;

const WORDS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];

/// Reads a value from JSON in which floats may be words.
pub(crate) fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, Error> {
    if is_deep(json) {
        return read_parts(json);
    }
    serde_json::from_slice(json).or_else(|error: Error| {
        // A number that is too large counts as wrong syntax.
        let has_word = has_word(json);
        if !has_word && !error.is_syntax() {
            return Err(error);
        }
        read_parts(json).map_err(|second: Error| if has_word && second.is_data() { second } else { error })
    })
}

fn read_parts<T: DeserializeOwned>(json: &[u8]) -> Result<T, Error> {
    let quoted = quoted(json);
    T::deserialize(Lenient::new(serde_json::from_slice(quoted.as_deref().unwrap_or(json))?))
}

/// [`read`] for a type that holds no float: words can only stand where a text is, or something that the type ignores. The code for it
/// is half as large.
pub(crate) fn read_without_floats<T: DeserializeOwned>(json: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(json).or_else(|error| quoted(json).map_or(Err(error), |json| serde_json::from_slice(&json)))
}

/// [`read`], and null is NaN where a float must be: serde_json writes numbers so that are not finite.
pub(crate) fn read_with_null<T: DeserializeOwned>(json: &[u8]) -> Result<T, Error> {
    read(json).or_else(|error| match serde_json::from_slice::<&RawValue>(json) {
        Ok(raw) => T::deserialize(Lenient::new(raw)).map_err(|_| error),
        Err(_) => Err(error),
    })
}

/// The JSON with each bare word as a string; `None` if there is none.
pub(crate) fn quoted(json: &[u8]) -> Option<Vec<u8>> {
    if !has_word(json) {
        return None;
    }
    let mut out = Vec::with_capacity(json.len() + 16);
    let (mut in_string, mut escaped, mut found) = (false, false, false);
    let mut rest = json;
    while let Some((&byte, after)) = rest.split_first() {
        if let Some(word) = WORDS.iter().find(|word| !in_string && rest.starts_with(word)) {
            out.extend([b"\"", *word, b"\""].concat());
            rest = &rest[word.len()..];
            found = true;
            continue;
        }
        in_string ^= byte == b'"' && !escaped;
        escaped = in_string && byte == b'\\' && !escaped;
        out.push(byte);
        rest = after;
    }
    found.then_some(out)
}

/// Whether this is JSON, and the whole of it, apart from such words.
pub(crate) fn is_json(json: &[u8]) -> bool {
    let quoted = quoted(json);
    serde_json::from_slice::<IgnoredAny>(quoted.as_deref().unwrap_or(json)).is_ok()
}

fn has_word(json: &[u8]) -> bool {
    json.windows(3).any(|window| window == b"NaN" || window == b"Inf")
}

/// The number that a word stands for.
fn number(word: &str) -> Option<f32> {
    match word {
        "NaN" => Some(f32::NAN),
        "Infinity" => Some(f32::INFINITY),
        "-Infinity" => Some(f32::NEG_INFINITY),
        _ => None,
    }
}

/// How deep a value may be nested that is kept. Results have six levels, and the stack of a poll thread is small: serde_json's own
/// limit of 128 levels is too much for it.
const MAX_DEPTH: u8 = 32;

/// Whether anything in this JSON is nested deeper than that.
pub(crate) fn is_deep(json: &[u8]) -> bool {
    is_deeper_than(MAX_DEPTH.into(), json)
}

/// JSON that is read part by part, each from its own text, so that a float can be a number or a word. And how deep the part is.
struct Lenient<'de>(&'de RawValue, u8);

impl<'de> Lenient<'de> {
    fn new(json: &'de RawValue) -> Self {
        Lenient(json, 0)
    }

    /// The depth of the parts of this one.
    fn depth_inside(&self) -> Result<u8, Error> {
        if self.1 < MAX_DEPTH { Ok(self.1 + 1) } else { Err(invalid("recursion limit exceeded")) }
    }

    /// The infinity that stands for a number that is too large, if this is one.
    fn beyond<F: FromStr + PartialEq + From<f32>>(&self) -> Option<F> {
        let is_infinite = |number: &F| *number == F::from(f32::INFINITY) || *number == F::from(f32::NEG_INFINITY);
        // The words of JSON never begin so, and those of Rust do.
        let is_number = self.0.get().starts_with(|start: char| start == '-' || start.is_ascii_digit());
        self.0.get().parse().ok().filter(|number| is_number && is_infinite(number))
    }

    fn plain<T: Deserialize<'de>>(&self) -> Result<T, Error> {
        serde_json::from_str(self.0.get())
    }

    fn starts_with(&self, start: char) -> bool {
        self.0.get().starts_with(start)
    }

    /// The float of null or a word, if this is one.
    fn word(&self) -> Option<f32> {
        if self.0.get() == "null" {
            return Some(f32::NAN);
        }
        if !self.starts_with('"') {
            return None;
        }
        self.plain::<Cow<'de, str>>().ok().and_then(|word| number(&word))
    }
}

/// Hands a call on to the deserializer of plain JSON.
macro_rules! plainly {
    ($($method:ident($($argument:ident: $kind:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(self, $($argument: $kind,)* visitor: V) -> Result<V::Value, Error> {
            serde_json::Deserializer::from_str(self.0.get()).$method($($argument,)* visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Lenient<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.starts_with('[') {
            let depth = self.depth_inside()?;
            return visitor.visit_seq(Elements(self.plain::<Vec<&RawValue>>()?.into_iter(), depth));
        }
        if self.starts_with('{') {
            let depth = self.depth_inside()?;
            return visitor.visit_map(Fields { entries: entries(self.0)?.into_iter(), value: None, depth });
        }
        serde_json::Deserializer::from_str(self.0.get()).deserialize_any(visitor)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.word().or_else(|| self.beyond()) {
            Some(number) => visitor.visit_f32(number),
            None => serde_json::Deserializer::from_str(self.0.get()).deserialize_f32(visitor),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.word().map(f64::from).or_else(|| self.beyond()) {
            Some(number) => visitor.visit_f64(number),
            None => serde_json::Deserializer::from_str(self.0.get()).deserialize_f64(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.get() == "null" { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        // A part that stays JSON, in serde_json's own way.
        if name.starts_with("$serde_json::") {
            return serde_json::Deserializer::from_str(self.0.get()).deserialize_newtype_struct(name, visitor);
        }
        visitor.visit_newtype_struct(self)
    }

    /// Its syntax is known to be right, and it may be nested to any depth.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    plainly! {
        deserialize_bool() deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64() deserialize_i128()
        deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64() deserialize_u128()
        deserialize_char() deserialize_str() deserialize_string() deserialize_bytes() deserialize_byte_buf()
        deserialize_unit() deserialize_unit_struct(name: &'static str) deserialize_identifier()
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }

    forward_to_deserialize_any! { seq tuple tuple_struct map struct }
}

struct Elements<'de>(std::vec::IntoIter<&'de RawValue>, u8);

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|element| seed.deserialize(Lenient(element, self.1))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Fields<'de> {
    entries: std::vec::IntoIter<(Cow<'de, str>, &'de RawValue)>,
    value: Option<&'de RawValue>,
    depth: u8,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(IntoDeserializer::<Error>::into_deserializer(key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let value = self.value.take().ok_or_else(|| invalid("a value was read before its key"))?;
        seed.deserialize(Lenient(value, self.depth))
    }
}

fn invalid(why: impl Display) -> Error {
    de::Error::custom(why)
}

/// The entries of an object, in their order.
fn entries(object: &RawValue) -> Result<Vec<(Cow<'_, str>, &RawValue)>, Error> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = map.next_entry()? {
                entries.push(entry);
            }
            Ok(entries)
        }
    }

    serde_json::Deserializer::from_str(object.get()).deserialize_map(Entries)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quickcheck::quickcheck;
    use serde_json::{Value, json};

    use super::*;
    use crate::types::{
        BillingUsageEvent, ForwardBackwardOutput, OptimStepResponse, SampleResponse, UnloadModelResponse,
    };

    /// A number as text that tells all of them apart.
    fn shown<T: Display>(numbers: impl IntoIterator<Item = T>) -> Vec<String> {
        numbers.into_iter().map(|number| number.to_string()).collect()
    }

    #[test]
    fn each_way_to_write_a_number_is_read() {
        let json = br#"[NaN, "NaN", Infinity, "Infinity", -Infinity, "-Infinity", 0.5, -2, 7.038531e-26]"#;
        let expected = ["NaN", "NaN", "inf", "inf", "-inf", "-inf", "0.5", "-2"];
        let singles: Vec<f32> = read(json).unwrap();
        assert_eq!(shown(&singles[..8]), expected);
        assert_eq!(singles[8], 7.038531e-26_f32, "not rounded twice");
        let doubles: Vec<f64> = read(json).unwrap();
        assert_eq!(shown(&doubles[..8]), expected);
        let options: Vec<Option<f64>> = read(br#"[null, NaN, "Infinity", 1]"#).unwrap();
        assert_eq!(format!("{options:?}"), "[None, Some(NaN), Some(inf), Some(1.0)]");
        assert!(read::<Vec<f64>>(b"[null, 1]").is_err(), "the types say where null is NaN");
        assert_eq!(shown(read_with_null::<Vec<f64>>(b"[null, 1, NaN]").unwrap()), ["NaN", "1", "NaN"]);
        assert!(read_with_null::<Vec<u32>>(b"[null]").unwrap_err().to_string().starts_with("invalid type: null"));
    }

    #[test]
    fn each_float_of_a_response_may_be_one() {
        let tensor = |data: &str| format!(r#"{{"data": {data}, "dtype": "float32", "shape": [3]}}"#);
        for (nan, infinity) in [("NaN", "Infinity"), ("\"NaN\"", "\"Infinity\"")] {
            let pass = format!(
                r#"{{"loss_fn_output_type": "NaN", "loss_fn_outputs": [{{"logprobs": {}}}],
                     "metrics": {{"loss:sum": {nan}, "grad:max": {infinity}, "NaN": 1}}}}"#,
                tensor(&format!("[{nan}, -{}, 1]", infinity.trim_matches('"')).replace("-Infinity", "-0.5")),
            );
            let output: ForwardBackwardOutput = read(pass.as_bytes()).unwrap();
            assert_eq!(output.loss_fn_output_type, "NaN", "a text stays a text");
            assert_eq!(shown(output.loss_fn_outputs[0].logprobs().unwrap()), ["NaN", "-0.5", "1"]);
            assert_eq!(shown(output.metrics.values()), ["1", "inf", "NaN"]);

            let step: OptimStepResponse = read(format!(r#"{{"metrics": {{"norm": {nan}}}}}"#).as_bytes()).unwrap();
            assert!(step.metrics.unwrap()["norm"].is_nan());

            let sample = format!(
                r#"{{"sequences": [{{"stop_reason": "stop", "tokens": [5], "logprobs": [{infinity}],
                      "topk_logprobs": [[[5, {nan}]]]}}],
                     "prompt_logprobs": [null, {nan}, -1], "topk_prompt_logprobs": [null, [[7, {infinity}]]],
                     "target_prompt_logprobs": {}}}"#,
                tensor(&format!("[{nan}, {infinity}, null]")),
            );
            let response: SampleResponse = read(sample.as_bytes()).unwrap();
            let sequence = &response.sequences[0];
            assert_eq!(sequence.logprobs, Some(vec![f32::INFINITY]));
            assert!(sequence.topk_logprobs.as_ref().unwrap()[0][0].logprob.is_nan());
            assert_eq!(format!("{:?}", response.prompt_logprobs.unwrap()), "[None, Some(NaN), Some(-1.0)]");
            assert_eq!(response.topk_prompt_logprobs.unwrap()[1].as_ref().unwrap()[0].logprob, f32::INFINITY);
            let targets = response.target_prompt_logprobs.unwrap();
            assert_eq!(shown(targets.as_f32().unwrap()), ["NaN", "inf", "NaN"]);
        }
    }

    #[test]
    fn a_number_beyond_its_type_is_infinite() {
        let singles: Vec<f32> = read(b"[1e39, -1e39, 3.4028236e38, 1e400, 3e38]").unwrap();
        assert_eq!(shown(&singles[..4]), ["inf", "-inf", "inf", "inf"]);
        assert_eq!(singles[4], 3e38);
        let doubles: Vec<f64> = read(b"[1e39, 1e400, -1e400, NaN]").unwrap();
        assert_eq!((doubles[0], shown(&doubles[1..])), (1e39, vec!["inf".into(), "-inf".into(), "NaN".into()]));
        let digits = format!("[{}]", "9".repeat(100_000));
        assert_eq!(shown(read::<Vec<f64>>(digits.as_bytes()).unwrap()), ["inf"]);
        for integers in [&b"[1e400]"[..], b"[1e39]", b"[99999999999]"] {
            assert!(read::<Vec<u32>>(integers).is_err());
        }
        assert!(read::<Vec<f32>>(b"[1e39, 1").is_err());
    }

    #[test]
    fn deep_nesting_is_ignored_or_refused() {
        let deep = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
        let json = format!(r#"{{"metrics": {{"loss": NaN}}, "later": {deep}}}"#);
        assert!(read::<OptimStepResponse>(json.as_bytes()).unwrap().metrics.unwrap()["loss"].is_nan());
        assert!(read::<Value>(json.as_bytes()).unwrap_err().to_string().contains("recursion limit"));
        for (levels, expected) in [(32, true), (33, false), (127, false), (20_000, false)] {
            for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
                let json = format!("{}1{}", open.repeat(levels), close.repeat(levels));
                assert_eq!(read::<Value>(json.as_bytes()).is_ok(), expected, "{open} {levels}");
                assert_eq!(is_deep(json.as_bytes()), !expected, "{open} {levels}");
            }
        }
        let wide = "[[[]],{}],".repeat(100);
        assert!(
            !is_deep(format!("[{wide}1]").as_bytes()) && !is_deep(format!("[\"\\\"{}\"]", "[".repeat(99)).as_bytes())
        );
    }

    #[test]
    fn a_word_is_no_integer_and_no_text() {
        assert!(read::<Vec<u32>>(b"[1, NaN]").unwrap_err().to_string().contains("NaN"));
        assert!(read::<Vec<f64>>(br#"["nan"]"#).is_err());
        let texts: BTreeMap<String, String> = read(br#"{"a": NaN, "b": "Infinity"}"#).unwrap();
        assert_eq!(texts["a"], "NaN");
        assert!(read::<BillingUsageEvent>(b"NaN").is_err());
    }

    #[test]
    fn a_type_without_floats_ignores_words() {
        let read = read_without_floats::<UnloadModelResponse>;
        let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
        for later in ["1", "NaN", "[-Infinity, {\"a\": NaN}]", "\"NaN\"", &deep] {
            let json = format!(r#"{{"model_id": "m", "later": {later}}}"#);
            assert_eq!(read(json.as_bytes()).unwrap().model_id, "m", "{later}");
        }
        assert_eq!(read(br#"{"model_id": NaN}"#).unwrap().model_id, "NaN");
        assert!(read(br#"{"model_id": 1}"#).is_err() && read(br#"{"model_id": "m", "later": nan}"#).is_err());
    }

    #[test]
    fn only_bare_words_are_quoted() {
        for (json, expected) in [
            (r#"{"a":NaN}"#, Some(r#"{"a":"NaN"}"#)),
            (r#"[-Infinity,Infinity]"#, Some(r#"["-Infinity","Infinity"]"#)),
            (r#"{"NaN":"a \" NaN","b":"\\"}"#, None),
            (r#"["\\",NaN]"#, Some(r#"["\\","NaN"]"#)),
            (r#"[1, null]"#, None),
        ] {
            assert_eq!(quoted(json.as_bytes()).as_deref(), expected.map(str::as_bytes), "{json}");
        }
    }

    /// Any JSON, from what quickcheck has.
    fn any_json(words: Vec<String>, numbers: Vec<i64>, nested: bool) -> Value {
        let list = json!({"Infinity": words, "numbers": numbers, "none": null, "yes": true});
        if nested { json!([list, {"inner": [list, 0.5]}]) } else { list }
    }

    quickcheck! {
        fn plain_json_is_read_as_ever(words: Vec<String>, numbers: Vec<i64>, nested: bool) -> bool {
            let value = any_json(words, numbers, nested);
            let text = value.to_string();
            let raw: &RawValue = serde_json::from_str(&text).unwrap();
            quoted(text.as_bytes()).is_none() && Value::deserialize(Lenient::new(raw)).unwrap() == value
        }

        fn any_bytes_never_panic(bytes: Vec<u8>) -> bool {
            let with_word = [&bytes[..], b"NaN"].concat();
            read::<Value>(&with_word).is_ok() || quoted(&with_word).is_none_or(|json| json.len() > with_word.len())
        }
    }
}
