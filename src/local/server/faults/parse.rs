//! Rules in one line of text.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::{Action, Fault};
use crate::local::server::routes::endpoints;

/// Where a line of rules cannot be understood, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseFaultsError {
    /// In bytes from the beginning.
    at: usize,
    why: String,
}

impl fmt::Display for ParseFaultsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: {}", self.at + 1, self.why)
    }
}

impl std::error::Error for ParseFaultsError {}

/// A piece of the line with its place in it.
#[derive(Clone, Copy)]
struct Piece<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Piece<'a> {
    fn error<T>(self, why: impl Into<String>) -> Result<T, ParseFaultsError> {
        Err(ParseFaultsError { at: self.at, why: why.into() })
    }

    fn trimmed(self) -> Self {
        let start = self.text.trim_start();
        Piece { text: start.trim_end(), at: self.at + self.text.len() - start.len() }
    }

    /// What is before and after the first `mark` that no `\` hides; none if there is no such.
    fn cut(self, mark: char) -> Option<(Self, Self)> {
        let is_hidden = |at: &usize| self.text[..*at].ends_with('\\');
        let (at, _) = self.text.match_indices(mark).find(|(at, _)| !is_hidden(at))?;
        let (before, after) = (&self.text[..at], &self.text[at + mark.len_utf8()..]);
        let rest = Piece { text: after, at: self.at + before.len() + mark.len_utf8() };
        Some((Piece { text: before, at: self.at }.trimmed(), rest.trimmed()))
    }

    /// The pieces between the marks.
    fn split(self, mark: char) -> impl Iterator<Item = Self> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let piece = rest?;
            let (first, after) = piece.cut(mark).map_or((piece.trimmed(), None), |(first, rest)| (first, Some(rest)));
            rest = after;
            Some(first)
        })
    }

    /// The text that is meant: with the marks that were hidden.
    fn words(self) -> String {
        self.text.replace(r"\,", ",").replace(r"\;", ";")
    }

    fn number<T: std::str::FromStr>(self, what: &str) -> Result<T, ParseFaultsError> {
        self.text.parse().or_else(|_| self.error(format!("{:?} is not {what}", self.text)))
    }
}

/// Reads rules separated by `;`.
pub(super) fn rules(line: &str) -> Result<Vec<Fault>, ParseFaultsError> {
    let line = Piece { text: line, at: 0 };
    line.split(';').filter(|rule| !rule.text.is_empty()).map(rule).collect()
}

/// `ENDPOINT : ACTION [*TIMES] [%RATE] [, SETTING = VALUE …]`
fn rule(rule: Piece<'_>) -> Result<Fault, ParseFaultsError> {
    let Some((endpoint, what)) = rule.cut(':') else {
        return rule.error("a rule looks like ENDPOINT:ACTION, such as asample:429*3");
    };
    if endpoint.text.is_empty() {
        return endpoint.error("the endpoint is missing, such as asample, or * for all");
    }
    if endpoint.text != "*" && !endpoints().any(|known| known == endpoint.text) {
        let known: BTreeSet<_> = endpoints().collect();
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        return endpoint.error(format!("no path begins or ends with {:?}, but with {known}", endpoint.text));
    }
    let mut settings = what.split(',');
    let first = settings.next().unwrap_or(what);
    let mut fault = action(Fault::on(endpoint.text), first)?;
    for setting in settings {
        fault = apply(fault, setting)?;
    }
    if matches!(fault.action, Action::Answer) && fault.delay.is_zero() {
        return first.error("slow needs delay_ms, such as slow,delay_ms=50");
    }
    Ok(fault)
}

fn action(fault: Fault, piece: Piece<'_>) -> Result<Fault, ParseFaultsError> {
    let (piece, rate) = piece.cut('%').map_or((piece, None), |(piece, rate)| (piece, Some(rate)));
    let (name, times) = piece.cut('*').map_or((piece, None), |(name, times)| (name, Some(times)));
    let mut fault = match name.text {
        "reset" => fault.reset(),
        "reset_during" => fault.reset_during(),
        "reset_after" => fault.reset_after(),
        "lost_answer" => fault.lost_answer(),
        "truncate" => fault.truncate(),
        "malformed" => fault.malformed(),
        "silence" => fault.silence(),
        "slow" => fault,
        "paused_rate_limit" | "paused_capacity" => fault.queue_state(name.text),
        text if text.starts_with(|first: char| first.is_ascii_digit()) => {
            let status: u16 = name.number("a status")?;
            if !(200..600).contains(&status) {
                return name.error(format!("{status} is not a status from 200 to 599"));
            }
            fault.status(status)
        }
        text => {
            let known = "a status, reset, reset_during, reset_after, lost_answer, truncate, malformed, silence, slow, \
                         paused_rate_limit or paused_capacity";
            return name.error(format!("{text:?} is not an action: it is {known}"));
        }
    };
    if let Some(times) = times {
        fault = fault.times(times.number("a number of times")?);
    }
    if let Some(rate) = rate {
        let percent: f64 = rate.number("a rate in percent")?;
        if !(0.0..=100.0).contains(&percent) {
            return rate.error(format!("{percent} is not a rate from 0 to 100 percent"));
        }
        fault = fault.rate(percent / 100.0);
    }
    Ok(fault)
}

fn apply(fault: Fault, setting: Piece<'_>) -> Result<Fault, ParseFaultsError> {
    let Some((name, value)) = setting.cut('=') else {
        return setting.error("a setting looks like NAME=VALUE, such as delay_ms=50");
    };
    match (name.text, fault.action) {
        ("retry_after_ms" | "retry_after" | "should_retry" | "header" | "detail" | "body", Action::Status(_))
        | ("reason" | "form", Action::QueueState) => {}
        ("retry_after_ms" | "retry_after" | "should_retry" | "header" | "detail" | "body", _) => {
            return name.error(format!("{} is for the answer of a status, such as 503", name.text));
        }
        ("reason" | "form", _) => {
            return name.error(format!("{} is for paused_rate_limit and paused_capacity", name.text));
        }
        _ => {}
    }
    Ok(match name.text {
        "after" => fault.after(value.number("a number of requests")?),
        "delay_ms" => fault.delay(Duration::from_millis(value.number("a number of milliseconds")?)),
        "retry_after_ms" => {
            fault.header("retry-after-ms", value.number::<u64>("a number of milliseconds")?.to_string())
        }
        "retry_after" => fault.header("retry-after", value.number::<u64>("a number of seconds")?.to_string()),
        "should_retry" => fault.header("x-should-retry", value.number::<bool>("true or false")?.to_string()),
        "header" => {
            let Some((header, content)) = value.cut(':').filter(|(header, _)| !header.text.is_empty()) else {
                return value.error("a header looks like NAME:VALUE, such as x-request-id:7");
            };
            fault.header(header.text, content.words())
        }
        "detail" => fault.body(serde_json::json!({ "detail": value.words() }).to_string()),
        "body" => fault.body(value.words()),
        "reason" => fault.reason(value.words()),
        "form" if value.text == "408" => fault,
        "form" if value.text == "try_again" => fault.try_again(),
        "form" => return value.error(format!("{:?} is not 408 or try_again", value.text)),
        other => {
            let known =
                "after, delay_ms, retry_after_ms, retry_after, should_retry, header, detail, body, reason or form";
            return name.error(format!("{other:?} is not a setting: it is {known}"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_gives_the_rules_that_code_would() {
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
    fn an_error_names_the_place() {
        for (line, message) in [
            ("asample", "at character 1: a rule looks like"),
            (
                "asampel:429",
                "at character 1: no path begins or ends with \"asampel\", but with archive, archives, asample,",
            ),
            ("*:429; :500", "at character 8: the endpoint is missing"),
            ("*:429; *:explode", "at character 10: \"explode\" is not an action"),
            ("*: 99", "at character 4: 99 is not a status"),
            ("*:429*x", "at character 7: \"x\" is not a number of times"),
            ("*:429%101", "at character 7: 101 is not a rate"),
            ("*:429, delay_ms", "at character 8: a setting looks like"),
            ("*:429, delay_ms=soon", "at character 17: \"soon\" is not a number of milliseconds"),
            ("*:429,speed=1", "at character 7: \"speed\" is not a setting"),
            ("*:429,header=x", "at character 14: a header looks like"),
            ("*:reset,detail=x", "at character 9: detail is for the answer of a status"),
            ("*:429,reason=x", "at character 7: reason is for paused_rate_limit"),
            ("*: slow%5", "at character 4: slow needs delay_ms"),
        ] {
            let error = rules(line).unwrap_err().to_string();
            assert!(error.starts_with(message), "{line}: {error}");
        }
    }
}
