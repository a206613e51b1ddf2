//! Tests (`x is …`) that Python answers otherwise than the engine.

use minijinja::value::ValueKind;
use minijinja::{Environment, Value};

pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_test("iterable", |value: &Value| {
        matches!(value.kind(), ValueKind::Undefined | ValueKind::String) || is_collection(value)
    });
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Undefined | ValueKind::String) || is_collection(value)
    });
    environment.add_test("number", |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool));
    environment.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
}

fn is_collection(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map)
}
