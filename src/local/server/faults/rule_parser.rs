//! Fault rules in one line of text.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::fault::{Action, Fault};
use crate::local::server::api::endpoint_names;

/// Fault rules, in the order in which they are tried.
///
/// They can be parsed from one line of text, for a command or a configuration file. In the grammar, spaces are ignored, and `\,` and
/// `\;` stand for a `,` and `;` within a value:
///
/// ```text
/// rules    = rule { ";" rule }
/// rule     = endpoint ":" action [ "*" times ] [ "%" percent ] { "," setting "=" value }
/// endpoint = as in Fault::on: "asample", "retrieve_future", "archive", … or "*"
/// action   = a status such as "429" | "reset" | "reset_during" | "reset_after" | "lost_response" | "truncate"
///          | "malformed" | "silence" | "slow" | "paused_rate_limit" | "paused_capacity"
/// setting  = "after"             number of requests to skip first
///          | "delay_ms"          delay of the response
///          | "retry_after_ms" | "retry_after" | "should_retry"     headers of the status
///          | "header"            another header of the status, as NAME:VALUE; repeatable
///          | "detail" | "body"   body of the status: as {"detail": VALUE}, or VALUE itself
///          | "reason" | "form"   of a queue state; the form is "408" or "try_again"
/// ```
///
/// # Examples
///
/// ```
/// use tinkex::local::{Faults, LocalServer};
///
/// let faults: Faults = "asample:429*3,retry_after_ms=50; retrieve_future:reset%2; *:slow%10,delay_ms=200".parse()?;
/// let server = LocalServer::builder().faults(faults).fault_seed(7).start()?;
///
/// let error = "asample:429*many".parse::<Faults>().unwrap_err();
/// assert_eq!(error.to_string(), "at character 13: \"many\" is not a number of times");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Faults(Vec<Fault>);

impl FromStr for Faults {
    type Err = ParseFaultsError;

    fn from_str(line: &str) -> Result<Self, ParseFaultsError> {
        rules(line).map(Faults)
    }
}

impl From<Vec<Fault>> for Faults {
    fn from(rules: Vec<Fault>) -> Self {
        Faults(rules)
    }
}

impl IntoIterator for Faults {
    type Item = Fault;
    type IntoIter = std::vec::IntoIter<Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Where a line of fault rules is invalid, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseFaultsError {
    /// Byte offset in the line.
    position: usize,
    reason: String,
}

impl fmt::Display for ParseFaultsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: {}", self.position + 1, self.reason)
    }
}

impl std::error::Error for ParseFaultsError {}

/// A part of the line, with its position.
#[derive(Clone, Copy)]
struct Span<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Span<'a> {
    fn error<T>(self, reason: impl Into<String>) -> Result<T, ParseFaultsError> {
        Err(ParseFaultsError { position: self.at, reason: reason.into() })
    }

    fn trimmed(self) -> Self {
        let start = self.text.trim_start();
        Span { text: start.trim_end(), at: self.at + self.text.len() - start.len() }
    }

    /// The parts before and after the first separator that is not escaped by `\`.
    fn split_once(self, separator: char) -> Option<(Self, Self)> {
        let is_escaped = |at: &usize| self.text[..*at].ends_with('\\');
        let (at, _) = self.text.match_indices(separator).find(|(at, _)| !is_escaped(at))?;
        let (before, after) = (&self.text[..at], &self.text[at + separator.len_utf8()..]);
        let rest = Span { text: after, at: self.at + before.len() + separator.len_utf8() };
        Some((Span { text: before, at: self.at }.trimmed(), rest.trimmed()))
    }

    /// The parts between the separators that are not escaped.
    fn split(self, separator: char) -> impl Iterator<Item = Self> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let span = rest?;
            let (first, after) =
                span.split_once(separator).map_or((span.trimmed(), None), |(first, rest)| (first, Some(rest)));
            rest = after;
            Some(first)
        })
    }

    /// The text with its escapes resolved.
    fn unescaped(self) -> String {
        self.text.replace(r"\,", ",").replace(r"\;", ";")
    }

    fn parse<T: FromStr>(self, what: &str) -> Result<T, ParseFaultsError> {
        self.text.parse().or_else(|_| self.error(format!("{:?} is not {what}", self.text)))
    }
}

/// Parses rules separated by `;`.
fn rules(line: &str) -> Result<Vec<Fault>, ParseFaultsError> {
    let line = Span { text: line, at: 0 };
    line.split(';').filter(|rule| !rule.text.is_empty()).map(rule).collect()
}

/// `ENDPOINT : ACTION [*TIMES] [%RATE] [, SETTING = VALUE …]`
fn rule(text: Span<'_>) -> Result<Fault, ParseFaultsError> {
    let Some((endpoint, rest)) = text.split_once(':') else {
        return text.error("expected ENDPOINT:ACTION, such as asample:429*3");
    };
    if endpoint.text.is_empty() {
        return endpoint.error("the endpoint is missing: give one such as asample, or * for all");
    }
    if endpoint.text != "*" && !endpoint_names().any(|known| known == endpoint.text) {
        let known: BTreeSet<_> = endpoint_names().collect();
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        return endpoint.error(format!("unknown endpoint {:?}: expected one of {known}", endpoint.text));
    }
    let mut settings = rest.split(',');
    let first = settings.next().unwrap_or(rest);
    let mut fault = action(Fault::on(endpoint.text), first)?;
    for setting in settings {
        fault = apply(fault, setting)?;
    }
    if matches!(fault.action, Action::Pass) && fault.delay.is_zero() {
        return first.error("slow requires delay_ms, such as slow,delay_ms=50");
    }
    Ok(fault)
}

fn action(fault: Fault, text: Span<'_>) -> Result<Fault, ParseFaultsError> {
    let (text, rate) = text.split_once('%').map_or((text, None), |(text, rate)| (text, Some(rate)));
    let (name, times) = text.split_once('*').map_or((text, None), |(name, times)| (name, Some(times)));
    let mut fault = match name.text {
        "reset" => fault.reset(),
        "reset_during" => fault.reset_during(),
        "reset_after" => fault.reset_after(),
        "lost_response" => fault.lost_response(),
        "truncate" => fault.truncate(),
        "malformed" => fault.malformed(),
        "silence" => fault.silence(),
        "slow" => fault,
        "paused_rate_limit" | "paused_capacity" => fault.queue_state(name.text),
        text if text.starts_with(|first: char| first.is_ascii_digit()) => {
            let status: u16 = name.parse("a status")?;
            if !(200..600).contains(&status) {
                return name.error(format!("{status} is not a status from 200 to 599"));
            }
            fault.status(status)
        }
        text => {
            let known = "a status, reset, reset_during, reset_after, lost_response, truncate, malformed, silence, slow, \
                         paused_rate_limit or paused_capacity";
            return name.error(format!("unknown action {text:?}: expected {known}"));
        }
    };
    if let Some(times) = times {
        fault = fault.times(times.parse("a number of times")?);
    }
    if let Some(rate) = rate {
        let percent: f64 = rate.parse("a percentage")?;
        if !(0.0..=100.0).contains(&percent) {
            return rate.error(format!("{percent} is not a percentage from 0 to 100"));
        }
        fault = fault.rate(percent / 100.0);
    }
    Ok(fault)
}

fn apply(fault: Fault, setting: Span<'_>) -> Result<Fault, ParseFaultsError> {
    let Some((name, value)) = setting.split_once('=') else {
        return setting.error("expected NAME=VALUE, such as delay_ms=50");
    };
    match (name.text, fault.action) {
        ("retry_after_ms" | "retry_after" | "should_retry" | "header" | "detail" | "body", Action::Status(_))
        | ("reason" | "form", Action::QueueState) => {}
        ("retry_after_ms" | "retry_after" | "should_retry" | "header" | "detail" | "body", _) => {
            return name.error(format!("{} applies only to a status, such as 503", name.text));
        }
        ("reason" | "form", _) => {
            return name.error(format!("{} applies only to paused_rate_limit and paused_capacity", name.text));
        }
        _ => {}
    }
    Ok(match name.text {
        "after" => fault.after(value.parse("a number of requests")?),
        "delay_ms" => fault.delay(Duration::from_millis(value.parse("a number of milliseconds")?)),
        "retry_after_ms" => fault.header("retry-after-ms", value.parse::<u64>("a number of milliseconds")?.to_string()),
        "retry_after" => fault.header("retry-after", value.parse::<u64>("a number of seconds")?.to_string()),
        "should_retry" => fault.header("x-should-retry", value.parse::<bool>("true or false")?.to_string()),
        "header" => {
            let Some((header, content)) = value.split_once(':').filter(|(header, _)| !header.text.is_empty()) else {
                return value.error("expected NAME:VALUE, such as x-request-id:7");
            };
            fault.header(header.text, content.unescaped())
        }
        "detail" => fault.body(serde_json::json!({ "detail": value.unescaped() }).to_string()),
        "body" => fault.body(value.unescaped()),
        "reason" => fault.reason(value.unescaped()),
        "form" if value.text == "408" => fault,
        "form" if value.text == "try_again" => fault.try_again(),
        "form" => return value.error(format!("{:?} is not 408 or try_again", value.text)),
        other => {
            let known =
                "after, delay_ms, retry_after_ms, retry_after, should_retry, header, detail, body, reason or form";
            return name.error(format!("unknown setting {other:?}: expected {known}"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_parses_to_the_expected_rules() {
        let line = " asample : 429 * 3, retry_after_ms = 50; *:slow%2.5,delay_ms=20 ;optim_step:reset,after=2;\
                    retrieve_future:paused_capacity*1,form=try_again,reason=full;\
                    archive:503,header=x-id: a:b,body={\"a\": [1\\, 2\\; 3]};";
        let expected = [
            Fault::on("asample").times(3).status(429).header("retry-after-ms", "50"),
            Fault::on("*").rate(0.025).delay(Duration::from_millis(20)),
            Fault::on("optim_step").reset().after(2),
            Fault::on("retrieve_future").queue_state("paused_capacity").times(1).try_again().reason("full"),
            Fault::on("archive").status(503).header("x-id", "a:b").body(r#"{"a": [1, 2; 3]}"#),
        ];
        assert_eq!(format!("{:?}", rules(line).unwrap()), format!("{:?}", expected.to_vec()));
        assert!(rules("").unwrap().is_empty());
    }

    #[test]
    fn errors_give_the_position() {
        for (line, message) in [
            ("asample", "at character 1: expected ENDPOINT:ACTION"),
            (
                "asampel:429",
                "at character 1: unknown endpoint \"asampel\": expected one of archive, archives, asample,",
            ),
            ("*:429; :500", "at character 8: the endpoint is missing"),
            ("*:429; *:explode", "at character 10: unknown action \"explode\""),
            ("*: 99", "at character 4: 99 is not a status"),
            ("*:429*x", "at character 7: \"x\" is not a number of times"),
            ("*:429%101", "at character 7: 101 is not a percentage"),
            ("*:429, delay_ms", "at character 8: expected NAME=VALUE"),
            ("*:429, delay_ms=soon", "at character 17: \"soon\" is not a number of milliseconds"),
            ("*:429,speed=1", "at character 7: unknown setting \"speed\""),
            ("*:429,header=x", "at character 14: expected NAME:VALUE"),
            ("*:reset,detail=x", "at character 9: detail applies only to a status"),
            ("*:429,reason=x", "at character 7: reason applies only to paused_rate_limit"),
            ("*: slow%5", "at character 4: slow requires delay_ms"),
        ] {
            let error = rules(line).unwrap_err().to_string();
            assert!(error.starts_with(message), "{line}: {error}");
        }
    }
}
