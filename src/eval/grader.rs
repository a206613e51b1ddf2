//! What makes an answer right.

use std::time::Duration;

use regex::Regex;
use serde_json::{Map, Value};

use super::command::{GradingCommand, TIMEOUT};
use super::{json, number};
use crate::error::{Error, Result};

/// The forms of a grade, for errors.
const EXPECTED: &str = r#"write one of {"exact": "…"}, {"contains": "…"}, {"regex": "…"}, {"number": 4}, {"json": …}, {"json_subset": …}, {"command": ["…"]}"#;

/// The longest time that a command may be given, in seconds: a day.
const MAX_TIMEOUT: f64 = 86_400.0;

/// What makes an answer right. [The module](super) has a table of the kinds, and how a file of tasks writes them.
///
/// ```
/// use serde_json::json;
/// use tinkex::eval::Grader;
///
/// assert!(Grader::exact("four").grade(" four\n")?);
/// assert!(Grader::contains("four")?.grade("It is four.")?);
/// assert!(Grader::regex("(?i)^fo+ur")?.grade("Four!")?);
/// assert!(Grader::number(1234.5)?.grade("The sum is 1,234.5.")?);
/// assert!(Grader::json(json!({"sum": 4})).grade("```json\n{\"sum\": 4.0}\n```")?);
/// assert!(Grader::json_subset(json!({"sum": 4})).grade("{\"sum\": 4, \"sure\": true}")?);
/// assert!(!Grader::from_json(&json!({"exact": "4"}))?.grade("5")?);
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Grader(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Exact(String),
    Contains(String),
    Regex(Regex),
    Number { value: f64, within: f64 },
    Json(Value),
    JsonSubset(Value),
    Command(GradingCommand),
}

impl Grader {
    /// The answer is this text. White space at both ends of either does not count.
    #[must_use]
    pub fn exact(text: impl Into<String>) -> Self {
        Grader(Kind::Exact(text.into()))
    }

    /// The answer has this text in it.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an empty text, which is in every answer.
    pub fn contains(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if text.is_empty() {
            return Err(Error::invalid_input("an empty text is in every answer").with_hint("give the text to look for"));
        }
        Ok(Grader(Kind::Contains(text)))
    }

    /// The answer has a match of this regular expression in it, anywhere unless the expression has `^` or `$`. The syntax is that of
    /// the crate [`regex`](https://docs.rs/regex/1/regex/#syntax).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an expression that is not valid.
    pub fn regex(pattern: &str) -> Result<Self> {
        Regex::new(pattern).map(|regex| Grader(Kind::Regex(regex))).map_err(|error| {
            // The last line says why; those before it draw the expression.
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Error::invalid_input(format!("the regular expression {pattern:?} is not valid: {why}"))
                .with_hint("look-around and backreferences do not exist here; https://docs.rs/regex has the syntax")
        })
    }

    /// The last number in the answer is this one. Commas between groups of three digits are understood, and the decimal point is a
    /// dot.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for NaN or an infinity.
    pub fn number(value: f64) -> Result<Self> {
        Grader::number_within(value, 0.0)
    }

    /// The last number in the answer differs from this one by at most `within`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a value that is not finite, or a `within` that is not or is below 0.
    ///
    /// ```
    /// use tinkex::eval::Grader;
    ///
    /// let grader = Grader::number_within(3.14, 0.01)?;
    /// assert!(grader.grade("about 3.15")?);
    /// assert!(!grader.grade("22/7 = 3.16")?);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn number_within(value: f64, within: f64) -> Result<Self> {
        if !value.is_finite() || !within.is_finite() || within < 0.0 {
            return Err(Error::invalid_input(format!("no answer is within {within} of {value}"))
                .with_hint("give a finite number, and a finite difference of 0 or more"));
        }
        Ok(Grader(Kind::Number { value, within }))
    }

    /// The answer is JSON that is equal to this by value: 1 is 1.0, and the order of fields does not count. The answer may have the
    /// JSON in a block of code (between lines of three backticks) with text around it.
    #[must_use]
    pub fn json(value: Value) -> Self {
        Grader(Kind::Json(value))
    }

    /// The answer is JSON, as for [`json`](Grader::json), that has each field of this value, at any depth, and perhaps others. Lists
    /// have as many items, each with what this one has.
    #[must_use]
    pub fn json_subset(value: Value) -> Self {
        Grader(Kind::JsonSubset(value))
    }

    /// This command, a program and its arguments, ends with status 0. It gets the answer on stdin, need not read it, and has 60 s; no
    /// shell is involved, and what it prints is not shown.
    ///
    /// The command runs with the rights and the environment of this process: one that executes answers needs a sandbox of its own. A
    /// command that is late is killed, but not the processes that it has started; a script of a shell can `exec` its last one.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) without a program.
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// use tinkex::eval::Grader;
    ///
    /// let grader = Grader::command(["grep", "-q", "four"])?;
    /// assert!(grader.grade("It is four.")?);
    /// assert!(!grader.grade("It is five.")?);
    /// # }
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn command(line: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        Grader::command_within(line, TIMEOUT)
    }

    /// The same, with this time in place of 60 s.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) without a program.
    pub fn command_within(line: impl IntoIterator<Item = impl Into<String>>, timeout: Duration) -> Result<Self> {
        let line: Vec<String> = line.into_iter().map(Into::into).collect();
        if line.first().is_none_or(String::is_empty) {
            return Err(Error::invalid_input("the command that grades answers is empty")
                .with_hint("give a program, and its arguments"));
        }
        Ok(Grader(Kind::Command(GradingCommand { line, timeout })))
    }

    /// The grader of a `grade` in a file of tasks; [the module](super) has a table of them.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for anything else; the error names the field.
    pub fn from_json(grade: &Value) -> Result<Self> {
        let refused = |why: String| Error::invalid_input(why).with_hint(EXPECTED);
        let fields = grade.as_object().ok_or_else(|| refused(format!("grade is {}, not an object", shown(grade))))?;
        let mut entries = fields.iter();
        let (Some((kind, value)), None) = (entries.next(), entries.next()) else {
            return Err(refused(format!("grade has {} fields, not one", fields.len())));
        };
        let name = format!("grade.{kind}");
        let other = |expected: &str| refused(format!("{name} is {}, not {expected}", shown(value)));
        let text = || value.as_str().ok_or_else(|| other("a text"));
        let grader = match kind.as_str() {
            "exact" => Ok(Grader::exact(text()?)),
            "contains" => Grader::contains(text()?),
            "regex" => Grader::regex(text()?),
            "json" => Ok(Grader::json(value.clone())),
            "json_subset" => Ok(Grader::json_subset(value.clone())),
            "number" => {
                let [number, within] = parts(&name, value, ["value", "within"]).map_err(refused)?;
                let within = within.map_or(Some(0.0), Value::as_f64);
                let pair = number.and_then(Value::as_f64).zip(within);
                let (number, within) = pair.ok_or_else(|| other(r#"a number or {"value": 4, "within": 0.5}"#))?;
                Grader::number_within(number, within)
            }
            "command" => {
                let [line, timeout] = parts(&name, value, ["line", "timeout"]).map_err(refused)?;
                let form = || other(r#"a list of texts or {"line": ["…"], "timeout": SECONDS}"#);
                let line = line.and_then(texts).ok_or_else(form)?;
                let seconds = timeout.map_or(Some(TIMEOUT.as_secs_f64()), Value::as_f64).ok_or_else(form)?;
                if !(seconds > 0.0 && seconds <= MAX_TIMEOUT) {
                    return Err(refused(format!(
                        "{name}.timeout is {seconds}, not between 0 and {MAX_TIMEOUT} seconds"
                    )));
                }
                Grader::command_within(line, Duration::from_secs_f64(seconds))
            }
            _ => return Err(refused(format!("there is no grade {kind:?}"))),
        };
        grader.map_err(|error| {
            let hint = error.hint().unwrap_or(EXPECTED).to_owned();
            Error::invalid_input(format!("{name}: {}", error.message())).with_hint(hint)
        })
    }

    /// Whether this answer passes. Blocks only for a command, until it has ended or its time is over.
    ///
    /// # Errors
    ///
    /// Only for a command: [`Io`](crate::ErrorKind::Io) if it cannot be started, [`Callback`](crate::ErrorKind::Callback) if it was
    /// killed because it took too long, or was ended by a signal. Such an answer is neither right nor wrong.
    pub fn grade(&self, answer: &str) -> Result<bool> {
        Ok(match &self.0 {
            Kind::Exact(text) => answer.trim() == text.trim(),
            Kind::Contains(text) => answer.contains(text),
            Kind::Regex(regex) => regex.is_match(answer),
            Kind::Number { value, within } => number::last_number(answer).is_some_and(|number| {
                // 0.4 is within 0.1 of 0.3, although the difference of the floats is a little more.
                let rounding = if *within > 0.0 { 4.0 * f64::EPSILON * value.abs().max(*within) } else { 0.0 };
                (number - value).abs() <= within + rounding
            }),
            Kind::Json(expected) => json::of_answer(answer).is_some_and(|value| json::is_equal(expected, &value)),
            Kind::JsonSubset(expected) => {
                json::of_answer(answer).is_some_and(|value| json::is_subset(expected, &value))
            }
            Kind::Command(command) => command.run(answer)?,
        })
    }
}

/// The parts of a value: the first alone, or an object of these names.
fn parts<'a>(name: &str, value: &'a Value, names: [&str; 2]) -> Result<[Option<&'a Value>; 2], String> {
    let none = Map::new();
    let fields = value.as_object().unwrap_or(&none);
    match fields.keys().find(|field| !names.contains(&field.as_str())) {
        Some(unknown) => Err(format!("{name} has an unknown field {unknown:?}")),
        None if value.is_object() => Ok(names.map(|name| value.get(name))),
        None => Ok([Some(value), None]),
    }
}

fn texts(value: &Value) -> Option<Vec<&str>> {
    value.as_array()?.iter().map(Value::as_str).collect()
}

/// What a value is, for errors: the value itself unless it is long.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(_) => "a text".to_owned(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_graded() {
        for (grade, right, wrong) in [
            (json!({"exact": "4 "}), " 4\n", "4."),
            (json!({"contains": "four"}), "fourteen", "Four"),
            (json!({"regex": "^4$"}), "4", "44"),
            (json!({"regex": "b+"}), "abba", "aa"),
            (json!({"number": 1000}), "so it is 1,000.", "1000 or 2"),
            (json!({"number": {"value": 0.3, "within": 0.1}}), "0.4", "0.41"),
            (json!({"number": {"value": 42}}), "42.0", "41.999999"),
            (json!({"number": 0}), "-0", "no number"),
            (json!({"json": {"a": 1}}), "{\"a\": 1.0}", "{\"a\": 1, \"b\": 2}"),
            (json!({"json_subset": {"a": 1}}), "```\n{\"a\": 1, \"b\": 2}\n```", "{\"b\": 2}"),
        ] {
            let grader = Grader::from_json(&grade).unwrap();
            assert!(grader.grade(right).unwrap() && !grader.grade(wrong).unwrap(), "{grade}");
        }
    }

    #[test]
    fn grades_of_another_form_are_refused() {
        for (grade, why) in [
            (json!("4"), "grade is a text, not an object"),
            (json!({}), "grade has 0 fields, not one"),
            (json!({"exact": "4", "number": 4}), "grade has 2 fields, not one"),
            (json!({"equals": "4"}), "there is no grade \"equals\""),
            (json!({"exact": 4}), "grade.exact is 4, not a text"),
            (json!({"contains": ""}), "grade.contains: an empty text is in every answer"),
            (json!({"regex": "("}), "grade.regex: the regular expression \"(\" is not valid: unclosed group"),
            (json!({"number": "4"}), "grade.number is a text, not a number"),
            (json!({"number": {"within": 1}}), "grade.number is an object, not a number or"),
            (json!({"number": {"value": 1, "within": -1}}), "grade.number: no answer is within -1 of 1"),
            (json!({"number": {"value": 1, "about": 1}}), "grade.number has an unknown field \"about\""),
            (json!({"command": "true"}), "grade.command is a text, not a list of texts"),
            (json!({"command": []}), "grade.command: the command that grades answers is empty"),
            (json!({"command": ["true", 1]}), "grade.command is a list, not a list of texts"),
            (json!({"command": {"line": ["true"], "timeout": 0}}), "grade.command.timeout is 0, not between"),
            (json!({"command": {"line": ["true"], "time": 1}}), "grade.command has an unknown field \"time\""),
        ] {
            let error = Grader::from_json(&grade).unwrap_err();
            assert!(error.message().starts_with(why) && error.hint().is_some(), "{grade}: {error}");
        }
    }
}
