//! Which happenings the service is told of, and in which words.
//!
//! Names and fields are the Python client's. What a server said is left out, as are the arguments of calls: only the words
//! of this file, numbers, names of methods and ids travel, so that no prompt, token, key or header can.

use std::error::Error as StdError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::error::{Error, ErrorKind};
use crate::observer::{Event, QueueStateUpdate};
use crate::types::wire::TelemetryEventKind;
use crate::types::{RequestKind, Severity};

/// An event that the service is told, and how much it matters.
pub(super) type Told = (TelemetryEventKind, Severity);

/// What the service is told of a happening: nothing, or one event or two.
pub(super) fn told(event: &Event, now: SystemTime) -> Vec<Told> {
    match event {
        Event::Retry { operation, path, attempt, error, elapsed, .. } if is_submission(path) => {
            vec![attempt_failed(operation, error, true, *attempt, *elapsed, now)]
        }
        Event::RequestStop { operation, path, error: Some(error), duration, attempts, .. }
            if is_submission(path) && !is_own_doing(error) =>
        {
            let failed = attempt_failed(operation, error, error.is_retryable(), *attempts, *duration, now);
            [failed].into_iter().chain(user_error(error)).collect()
        }
        Event::PollFailed { request_id, kind, iteration, lost, error, elapsed, .. } => {
            let mut data = json!({
                "request_id": **request_id,
                "request_type": kind.as_str(),
                "iteration": iteration,
                "elapsed_time": elapsed.as_secs_f64(),
            });
            let is_user_error = is_user_error(error);
            let mut set = |key: &str, value: Value| data[key] = value;
            let (name, warns) = match (error.kind(), error.status()) {
                (ErrorKind::RequestFailed, _) => {
                    set("error", words(error).into());
                    set(
                        "error_category",
                        error.category().map_or(Value::Null, |category| format!("{category:?}").into()),
                    );
                    set("is_user_error", is_user_error.into());
                    ("application_error", is_user_error)
                }
                (ErrorKind::Status, Some(status)) => {
                    let should_retry = matches!(status, 408 | 429 | 500..=599);
                    set("status_code", status.into());
                    set("exception", words(error).into());
                    set("should_retry", should_retry.into());
                    set("is_user_error", is_user_error.into());
                    ("api_status_error", should_retry || is_user_error)
                }
                (ErrorKind::Connect | ErrorKind::Timeout(_), _) => {
                    set("exception", words(error).into());
                    set("connection_error_retries", (*lost).into());
                    ("connection_error", true)
                }
                _ => {
                    set("exception", words(error).into());
                    ("validation_error", false)
                }
            };
            vec![generic(&format!("APIFuture.result_async.{name}"), data, severity(warns))]
        }
        Event::Resolved { error: Some(error), request_id, kind, duration, .. } => match error.kind() {
            ErrorKind::Timeout(limit) => {
                let data = json!({
                    "request_id": **request_id,
                    "request_type": kind.as_str(),
                    "timeout": limit.setting(),
                    "elapsed_time": duration.as_secs_f64(),
                });
                vec![generic("APIFuture.result_async.timeout", data, Severity::Error)]
            }
            _ => user_error(error).into_iter().collect(),
        },
        _ => Vec::new(),
    }
}

/// What the service is told of a paused queue, when that is worth a line in the log, too.
pub(super) fn paused(update: &QueueStateUpdate, kind: RequestKind) -> Told {
    let data = json!({
        "request_id": *update.request_id,
        "request_type": kind.as_str(),
        "queue_state": update.queue_state.as_str(),
    });
    generic("APIFuture.result_async.queue_state", data, Severity::Warning)
}

/// What the service is told of an error that the program reports. One of this crate, wherever it is in the chain, goes
/// before those around it: their texts often repeat its own.
pub(super) fn reported(error: &(dyn StdError + 'static)) -> Told {
    if let Some(told) = user_error(error) {
        return told;
    }
    let (error_message, error_type, traceback) = match ours(error).next() {
        Some(error) => (words(error), error_type(error), chain(error)),
        None => {
            let mut texts: Vec<String> = levels(error).map(ToString::to_string).collect();
            // Who wraps an error often says the same.
            texts.dedup();
            (error.to_string(), "Error".to_owned(), texts.join("\n"))
        }
    };
    (TelemetryEventKind::UnhandledException { error_message, error_type, traceback: Some(traceback) }, Severity::Error)
}

/// An event of the program's own.
pub(super) fn generic(name: &str, data: Value, severity: Severity) -> Told {
    let event_data = match data {
        Value::Object(data) => data,
        Value::Null => Map::new(),
        other => Map::from_iter([("value".to_owned(), other)]),
    };
    (TelemetryEventKind::GenericEvent { event_name: name.to_owned(), event_data }, severity)
}

fn attempt_failed(
    operation: &str,
    error: &Error,
    is_retryable: bool,
    attempts: u32,
    elapsed: Duration,
    now: SystemTime,
) -> Told {
    let is_user_error = is_user_error(error);
    let current = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let data = json!({
        "func": operation,
        "exception": words(error),
        "exception_type": error_type(error),
        "exception_stack": chain(error),
        "status_code": error.status(),
        "is_retryable": is_retryable,
        "is_user_error": is_user_error,
        "attempt_count": attempts.saturating_sub(1),
        "start_time": current.saturating_sub(elapsed).as_secs_f64(),
        "current_time": current.as_secs_f64(),
        "elapsed_time": elapsed.as_secs_f64(),
    });
    generic("InternalClientHolder.execute_with_retries.exception", data, severity(is_retryable || is_user_error))
}

/// The event of an error that is the program's fault, in the service's view.
fn user_error(error: &(dyn StdError + 'static)) -> Option<Told> {
    let blamed = ours(error).find(|error| is_blamed(error))?;
    let mut data = json!({"error_type": error_type(blamed), "message": words(blamed)});
    if let Some(status) = blamed.status() {
        data["status_code"] = status.into();
    }
    Some(generic("user_error", data, Severity::Warning))
}

fn is_user_error(error: &Error) -> bool {
    user_error(error).is_some()
}

/// Whether the service refused it for what it says: a 4xx but 408 and 429, or a failure of category user.
fn is_blamed(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Status | ErrorKind::RequestFailed) && error.is_user_error()
}

/// Whether the request ended because the program wanted it to.
fn is_own_doing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Closed | ErrorKind::Cancelled)
}

/// Whether it is neither a poll, of which [`Event::PollFailed`] tells, nor a heartbeat, which comes again by itself.
fn is_submission(path: &str) -> bool {
    !path.ends_with("/retrieve_future") && !path.ends_with("/session_heartbeat")
}

fn severity(warns: bool) -> Severity {
    if warns { Severity::Warning } else { Severity::Error }
}

/// An error in words that repeat nothing of what was sent or answered.
fn words(error: &Error) -> String {
    match (error.kind(), error.status()) {
        (ErrorKind::Status, Some(status)) => format!("the server answered {status}"),
        (ErrorKind::RequestFailed, _) => "the service could not carry it out".to_owned(),
        (ErrorKind::Decode, _) => "the answer could not be understood".to_owned(),
        (ErrorKind::Expired, _) => "the service no longer knows the promise".to_owned(),
        (ErrorKind::Connect, _) => "no connection, or it was lost".to_owned(),
        (ErrorKind::Timeout(limit), _) => limit.to_string(),
        (ErrorKind::Cancelled, _) => "cancelled".to_owned(),
        (ErrorKind::Closed, _) => "the client is closed".to_owned(),
        (ErrorKind::Panicked, _) => "a thread or a callback panicked".to_owned(),
        (ErrorKind::QueueFull, _) => "a queue is full".to_owned(),
        (kind, _) => format!("{kind:?}"),
    }
}

/// An error of this crate and those of this crate below it, a line each. Others may repeat an answer.
fn chain(error: &Error) -> String {
    ours(error).map(words).collect::<Vec<_>>().join("\n")
}

fn error_type(error: &Error) -> String {
    format!("{:?}", error.kind())
}

/// The errors of this crate in a chain.
fn ours<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a Error> {
    levels(error).filter_map(|error| error.downcast_ref())
}

/// The errors from this one down to the first cause. What an I/O error was made of is not its source, but its reference.
fn levels<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref().and_then(std::io::Error::get_ref) {
        Some(inner) => Some(inner as &(dyn StdError + 'static)),
        None => error.source(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Limit;
    use crate::types::{QueueState, RequestErrorCategory};

    fn status(status: u16) -> Error {
        Error::new(ErrorKind::Status, "the server said: prompt").with_status(status)
    }

    fn failed(category: RequestErrorCategory) -> Error {
        Error::new(ErrorKind::RequestFailed, "prompt").with_category(category)
    }

    /// Names and severities.
    fn said(events: Vec<Told>) -> Vec<(String, Severity)> {
        let name = |what| match what {
            TelemetryEventKind::GenericEvent { event_name, event_data } => {
                assert!(!Value::Object(event_data).to_string().contains("prompt"));
                event_name.rsplit('.').next().unwrap_or_default().to_owned()
            }
            TelemetryEventKind::UnhandledException { error_message, traceback, .. } => {
                format!("{error_message}|{}", traceback.unwrap_or_default())
            }
            other => panic!("{other:?}"),
        };
        events.into_iter().map(|(what, severity)| (name(what), severity)).collect()
    }

    fn stop(path: &str, error: Option<Error>) -> Event {
        let (status, duration, path) = (None, Duration::from_secs(1), path.into());
        Event::RequestStop { operation: "optim_step", method: "POST", path, status, error, duration, attempts: 1 }
    }

    fn poll(error: Error) -> Event {
        let (operation, request_id, kind, elapsed) = ("sample", "r".into(), RequestKind::Sample, Duration::ZERO);
        Event::PollFailed { operation, request_id, kind, iteration: 0, lost: 0, error, elapsed }
    }

    fn resolved(error: Error) -> Event {
        let (operation, request_id, kind, duration) = ("sample", "r".into(), RequestKind::Sample, Duration::ZERO);
        Event::Resolved { operation, request_id, kind, duration, error: Some(error) }
    }

    #[test]
    fn each_happening_has_its_events_and_what_the_server_said_is_in_none() {
        use RequestErrorCategory::{Server, User};
        use Severity::{Error as Bad, Warning};
        let path = "/api/v1/optim_step";
        let update = QueueStateUpdate {
            operation: "sample",
            request_id: "r".into(),
            queue_state: QueueState::PausedCapacity,
            reason: Some("prompt".into()),
        };
        assert_eq!(said(vec![paused(&update, RequestKind::Sample)]), [("queue_state".to_owned(), Warning)]);
        let retry = |path: &str| Event::Retry {
            operation: "optim_step",
            method: "POST",
            path: path.into(),
            attempt: 1,
            wait: Duration::ZERO,
            error: status(503),
            elapsed: Duration::ZERO,
        };
        for (event, expected) in [
            (retry(path), vec![("exception", Warning)]),
            (stop(path, None), vec![]),
            (stop(path, Some(status(400))), vec![("exception", Warning), ("user_error", Warning)]),
            (stop(path, Some(status(429))), vec![("exception", Warning)]),
            (stop(path, Some(status(300))), vec![("exception", Bad)]),
            (stop(path, Some(Error::closed())), vec![]),
            (stop("/api/v1/session_heartbeat", Some(status(400))), vec![]),
            (stop("/api/v1/retrieve_future", Some(status(400))), vec![]),
            (poll(status(408)), vec![("api_status_error", Warning)]),
            (poll(status(429)), vec![("api_status_error", Warning)]),
            (poll(status(503)), vec![("api_status_error", Warning)]),
            (poll(status(404)), vec![("api_status_error", Warning)]),
            (poll(status(302)), vec![("api_status_error", Bad)]),
            (poll(Error::new(ErrorKind::Connect, "prompt")), vec![("connection_error", Warning)]),
            (poll(Error::timeout(Limit::Wait)), vec![("connection_error", Warning)]),
            (poll(failed(User)), vec![("application_error", Warning)]),
            (poll(failed(Server)), vec![("application_error", Bad)]),
            (poll(Error::new(ErrorKind::Decode, "prompt")), vec![("validation_error", Bad)]),
            (resolved(failed(User)), vec![("user_error", Warning)]),
            (resolved(failed(Server)), vec![]),
            (resolved(Error::timeout(Limit::Operation)), vec![("timeout", Bad)]),
            (Event::QueueState(update), vec![]),
            (Event::Missed { count: 1 }, vec![]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|(name, severity)| (name.to_owned(), severity)).collect();
            assert_eq!(said(told(&event, UNIX_EPOCH)), expected, "{event:?}");
        }
    }

    #[test]
    fn what_the_program_reports_is_a_user_error_anywhere_down_the_chain_or_an_unhandled_exception() {
        let outer = |inner: Error| std::io::Error::other(Error::new(ErrorKind::Io, "prompt").with_source(inner));
        let one = |error: &(dyn StdError + 'static)| said(vec![reported(error)]).remove(0);
        for status_code in [400, 404, 409, 422] {
            assert_eq!(one(&outer(status(status_code))), ("user_error".into(), Severity::Warning), "{status_code}");
        }
        assert_eq!(one(&failed(RequestErrorCategory::User)), ("user_error".into(), Severity::Warning));
        let own = std::io::Error::other("the program's words");
        assert_eq!(one(&own), ("the program's words|the program's words".into(), Severity::Error));
        for (error, words) in [
            (status(408), "the server answered 408"),
            (status(503), "the server answered 503"),
            (Error::invalid_input("prompt"), "InvalidInput"),
            (
                Error::new(ErrorKind::Decode, "prompt").with_source(std::io::Error::other("prompt")),
                "the answer could not be understood",
            ),
        ] {
            assert_eq!(one(&error), (format!("{words}|{words}"), Severity::Error));
        }
    }

    #[test]
    fn data_that_is_no_object_still_becomes_one() {
        for (data, expected) in [
            (json!({"a": 1}), json!({"a": 1})),
            (Value::Null, json!({})),
            (json!([1, "b"]), json!({"value": [1, "b"]})),
        ] {
            let (TelemetryEventKind::GenericEvent { event_data, .. }, Severity::Info) =
                generic("e", data, Severity::Info)
            else {
                panic!()
            };
            assert_eq!(Value::Object(event_data), expected);
        }
    }
}
