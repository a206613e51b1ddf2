//! JSON in answers, and how it compares.

use serde_json::{Number, Value};

/// Begins and ends a block of code.
const FENCE: &str = "```";

/// The JSON that an answer is: the whole answer, or else its last block of code.
pub(super) fn of_answer(answer: &str) -> Option<Value> {
    serde_json::from_str(answer).ok().or_else(|| serde_json::from_str(last_block(answer)?).ok())
}

/// The content of the last block between fences, without the name of its language.
fn last_block(text: &str) -> Option<&str> {
    let blocks = text.split(FENCE).collect::<Vec<_>>();
    // Outside and inside alternate. A block that is not closed ends with the text.
    let last = (blocks.len() / 2).checked_sub(1)? * 2 + 1;
    let block = blocks[last];
    let language = block.split('\n').next().unwrap_or_default().trim_end();
    let is_name = !language.is_empty() && language.chars().all(|character| character.is_ascii_alphanumeric());
    Some(if is_name && block.contains('\n') { &block[language.len()..] } else { block })
}

/// Whether these are equal by value: 1 is 1.0, and the order of fields does not count.
pub(super) fn is_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => is_same_number(a, b),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| is_equal(a, b)))
        }
        _ => a == b,
    }
}

/// Whether `whole` has everything that `part` has: the fields of objects, at any depth. Lists have the same length, and each item of
/// one has what the item of the other has.
pub(super) fn is_subset(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Array(part), Value::Array(whole)) => {
            part.len() == whole.len() && part.iter().zip(whole).all(|(part, whole)| is_subset(part, whole))
        }
        (Value::Object(part), Value::Object(whole)) => {
            part.iter().all(|(name, part)| whole.get(name).is_some_and(|whole| is_subset(part, whole)))
        }
        _ => is_equal(part, whole),
    }
}

/// Whole numbers compare exactly, others as floats.
fn is_same_number(a: &Number, b: &Number) -> bool {
    let whole = |number: &Number| number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a.as_f64() == b.as_f64(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_found_in_answers() {
        for (answer, expected) in [
            ("{\"a\": 1}", Some(json!({"a": 1}))),
            (" 4\n", Some(json!(4))),
            ("```json\n[1]\n```", Some(json!([1]))),
            ("Here:\n```\n{}\n```\nDone.", Some(json!({}))),
            ("```json\r\n[1]\r\n```", Some(json!([1]))),
            ("`1` or ```[2]```", Some(json!([2]))),
            ("```\n1\n```\nno,\n```json\n2\n```", Some(json!(2))),
            ("```json\n[1]", Some(json!([1]))),
            ("```\ntrue\n```", Some(json!(true))),
            ("The sum is 4", None),
            ("```python\nf()\n```", None),
            ("", None),
        ] {
            assert_eq!(of_answer(answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn values_are_compared() {
        // Equal, and a part of the other.
        for (a, b, equal, subset) in [
            (json!(1), json!(1.0), true, true),
            (json!(1), json!(2), false, false),
            (json!(u64::MAX), json!(u64::MAX - 1), false, false),
            (json!(-1), json!(u64::MAX), false, false),
            (json!(null), json!(false), false, false),
            (json!({"a": 1, "b": [1.0]}), json!({"b": [1], "a": 1}), true, true),
            (json!({"a": 1}), json!({"a": 1, "b": 2}), false, true),
            (json!({"a": 1, "b": 2}), json!({"a": 1}), false, false),
            (json!({"a": null}), json!({}), false, false),
            (json!({"a": {"b": 1}}), json!({"a": {"b": 1, "c": 2}}), false, true),
            (json!([{"a": 1}]), json!([{"a": 1, "b": 2}]), false, true),
            (json!([1]), json!([1, 2]), false, false),
            (json!({}), json!([]), false, false),
            (json!({}), json!({"a": 1}), false, true),
        ] {
            assert_eq!((is_equal(&a, &b), is_subset(&a, &b)), (equal, subset), "{a} {b}");
        }
    }
}
