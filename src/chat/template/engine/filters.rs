//! Filters that Python gives other results than the engine.

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};

use super::budget;
use super::growth::{check_format, check_split};
use super::json::tojson;
use super::methods::{Side, joined, replaced, strip};
use super::operators::check_text;
use super::python;

pub(super) fn add(environment: &mut Environment<'_>) {
    // jinja2 does not have these two, whose values can be nested without end; the third shows the engine's insides.
    ["chain", "zip", "pprint"].into_iter().for_each(|name| environment.remove_filter(name));
    for (name, filter) in [
        ("tojson", Value::from_function(tojson)),
        ("string", Value::from_function(string)),
        ("trim", Value::from_function(trim)),
        ("replace", Value::from_function(replace)),
        ("upper", Value::from_function(|value: &Value| python::str(value).to_uppercase())),
        ("lower", Value::from_function(|value: &Value| python::str(value).to_lowercase())),
        ("indent", Value::from_function(indent)),
        ("format", Value::from_function(format)),
        ("join", Value::from_function(join)),
        ("batch", Value::from_function(filters::batch)),
        ("capitalize", Value::from_function(filters::capitalize)),
        ("dictsort", Value::from_function(filters::dictsort)),
        ("e", Value::from_function(filters::escape)),
        ("escape", Value::from_function(filters::escape)),
        ("groupby", Value::from_function(filters::groupby)),
        ("items", Value::from_function(filters::items)),
        ("lines", Value::from_function(filters::lines)),
        ("list", Value::from_function(filters::list)),
        ("map", Value::from_function(filters::map)),
        ("reject", Value::from_function(filters::reject)),
        ("rejectattr", Value::from_function(filters::rejectattr)),
        ("reverse", Value::from_function(filters::reverse)),
        ("safe", Value::from_function(filters::safe)),
        ("select", Value::from_function(filters::select)),
        ("selectattr", Value::from_function(filters::selectattr)),
        ("slice", Value::from_function(filters::slice)),
        ("sort", Value::from_function(filters::sort)),
        ("split", Value::from_function(filters::split)),
        ("title", Value::from_function(filters::title)),
        ("unique", Value::from_function(filters::unique)),
    ] {
        environment.add_filter(name, move |state: &State<'_, '_>, arguments: Rest<Value>| -> Result<Value, Error> {
            if let Some(value) = arguments.first() {
                budget::touch(value)?;
            }
            match (name, arguments.as_slice()) {
                ("batch" | "slice", [_, count, ..]) => {
                    budget::charge_items(usize::try_from(count.clone()).unwrap_or_default().saturating_mul(4))?;
                }
                ("split" | "lines", [value, separator @ ..]) => check_split(value, separator.first())?,
                _ => {}
            }
            budget::made(filter.call(state, &arguments)?)
        });
    }
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("round", round);
}

fn trim(value: &Value, characters: Option<String>) -> String {
    strip(&python::str(value), characters.as_deref(), Side::Both).to_owned()
}

fn replace(value: &Value, old: &str, new: &str, count: Option<usize>) -> Result<String, Error> {
    replaced(&python::str(value), old, new, count.unwrap_or(usize::MAX))
}

fn format(state: &State<'_, '_>, format: &Value, values: Rest<Value>) -> Result<Value, Error> {
    // Numbers keep their kind for `%d`.
    let printed = |value: &Value| if value.is_number() { value.clone() } else { Value::from(python::str(value)) };
    let values: Vec<Value> = values.iter().map(printed).collect();
    check_format(format.as_str().unwrap_or_default(), &values)?;
    filters::format(state, format, Rest(values))
}

fn string(value: &Value) -> Value {
    if value.as_str().is_some() { value.clone() } else { Value::from(python::str(value)) }
}

fn length(value: &Value) -> Result<usize, Error> {
    match value.len() {
        Some(length) => Ok(length),
        None if value.is_undefined() => Ok(0),
        None if value.kind() == ValueKind::Iterable => Ok(value.try_iter()?.count()),
        None => Err(Error::new(ErrorKind::InvalidOperation, format!("a value of type {} has no length", value.kind()))),
    }
}

/// `int(value, default=0)`.
fn int(value: &Value, default: Option<Value>) -> Value {
    let truncated = |float: f64| (float.is_finite() && float.abs() < 9e18).then(|| Value::from(float as i64));
    let result = match (value.kind(), value.as_str()) {
        (ValueKind::Bool, _) => Some(Value::from(i64::from(value.is_true()))),
        (ValueKind::Number, _) if value.is_integer() => Some(value.clone()),
        (ValueKind::Number, _) => f64::try_from(value.clone()).ok().and_then(truncated),
        (_, Some(text)) => {
            let text = text.trim();
            text.parse::<i64>().map(Value::from).ok().or_else(|| text.parse::<f64>().ok().and_then(truncated))
        }
        _ => None,
    };
    result.unwrap_or_else(|| default.unwrap_or_else(|| Value::from(0)))
}

/// `float(value, default=0.0)`.
fn float(value: &Value, default: Option<Value>) -> Value {
    let result = match (value.kind(), value.as_str()) {
        (ValueKind::Bool, _) => Some(if value.is_true() { 1.0 } else { 0.0 }),
        (ValueKind::Number, _) => f64::try_from(value.clone()).ok(),
        (_, Some(text)) => text.trim().parse().ok(),
        _ => None,
    };
    result.map_or_else(|| default.unwrap_or_else(|| Value::from(0.0)), Value::from)
}

/// `round(value, precision=0, method="common")`: halves to the even neighbor, as Python does.
fn round(value: f64, precision: Option<usize>, method: Option<&str>) -> Result<f64, Error> {
    let precision = precision.unwrap_or(0).min(17);
    let factor = (0..precision).fold(1.0, |factor, _| factor * 10.0);
    match method {
        // The digits that are printed are rounded exactly.
        None | Some("common") => Ok(format!("{value:.precision$}").parse().unwrap_or(value)),
        Some("ceil") => Ok((value * factor).ceil() / factor),
        Some("floor") => Ok((value * factor).floor() / factor),
        Some(method) => Err(Error::new(ErrorKind::InvalidOperation, format!("round knows no method {method}"))),
    }
}

/// `indent(s, width=4, first=False, blank=False)`, where the width may be a text.
fn indent(
    value: &str,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    options: Kwargs,
) -> Result<String, Error> {
    let width = width.or(options.get::<Option<Value>>("width")?);
    let first = first.or(options.get::<Option<bool>>("first")?).unwrap_or(false);
    let blank = blank.or(options.get::<Option<bool>>("blank")?).unwrap_or(false);
    options.assert_all_used()?;
    let lines = value.split('\n').count();
    let indentation = match width {
        None => "    ".to_owned(),
        Some(width) => match width.as_str() {
            Some(text) => text.to_owned(),
            None => {
                let width = usize::try_from(i64::try_from(width)?).unwrap_or_default();
                check_text(width)?;
                " ".repeat(width)
            }
        },
    };
    check_text(value.len().saturating_add(lines.saturating_mul(indentation.len())))?;
    let mut text = String::new();
    for (index, line) in value.split('\n').enumerate() {
        if index > 0 {
            text.push('\n');
        }
        let is_indented = if index == 0 { first } else { blank || !line.is_empty() };
        if is_indented {
            text.push_str(&indentation);
        }
        text.push_str(line);
    }
    Ok(text)
}

/// `join(values, d="", attribute=None)`.
fn join(values: &Value, separator: Option<Value>, options: Kwargs) -> Result<String, Error> {
    let separator = separator.or(options.get::<Option<Value>>("d")?).unwrap_or_default();
    let attribute = options.get::<Option<String>>("attribute")?;
    options.assert_all_used()?;
    joined(values, &separator, attribute.as_deref())
}
