//! Which events the service gets, and what they contain.
//!
//! Names and fields are the Python client's. Texts from a server and the arguments of calls are left out: only the texts of
//! this file, numbers, names of methods and ids are sent, so that no prompt, token, key or header leaks.

use std::error::Error as StdError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::error::{Error, ErrorKind};
use crate::observer::{Event, QueueStateUpdate};
use crate::types::wire::TelemetryEventKind;
use crate::types::{RequestKind, Severity};

/// The data of a telemetry event.
pub(super) type EventData = (TelemetryEventKind, Severity);

/// The telemetry events of a client's event: none, one or two.
pub(super) fn of_event(event: &Event, now: SystemTime) -> Vec<EventData> {
    match event {
        Event::Retry { operation, path, attempt, error, elapsed, .. }
            if is_submission(path) && error.kind() != ErrorKind::Billing =>
        {
            vec![attempt_failed(operation, error, true, *attempt, *elapsed, now)]
        }
        Event::RequestStop { operation, path, error: Some(error), duration, attempts, .. }
            if is_submission(path) && !is_intended(error) =>
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
                    set("error", message(error).into());
                    set(
                        "error_category",
                        error.category().map_or(Value::Null, |category| format!("{category:?}").into()),
                    );
                    set("is_user_error", is_user_error.into());
                    ("application_error", is_user_error)
                }
                (ErrorKind::Status | ErrorKind::Billing, Some(status)) => {
                    let should_retry = matches!(status, 408 | 429 | 500..=599);
                    set("status_code", status.into());
                    set("exception", message(error).into());
                    set("should_retry", should_retry.into());
                    set("is_user_error", is_user_error.into());
                    ("api_status_error", should_retry || is_user_error)
                }
                (ErrorKind::Connect | ErrorKind::Timeout(_), _) => {
                    set("exception", message(error).into());
                    set("connection_error_retries", (*lost).into());
                    ("connection_error", true)
                }
                _ => {
                    set("exception", message(error).into());
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

/// The event of a paused queue.
pub(super) fn paused(update: &QueueStateUpdate, kind: RequestKind) -> EventData {
    let data = json!({
        "request_id": *update.request_id,
        "request_type": kind.as_str(),
        "queue_state": update.queue_state.as_str(),
    });
    generic("APIFuture.result_async.queue_state", data, Severity::Warning)
}

/// The event of an error that the program reports. An error of this crate anywhere in its chain is reported instead of those
/// around it, whose texts often repeat its own.
pub(super) fn reported(error: &(dyn StdError + 'static)) -> EventData {
    if let Some(event) = user_error(error) {
        return event;
    }
    let (error_message, error_type, traceback) = match ours(error).next() {
        Some(error) => (message(error), error_type(error), chain(error)),
        None => {
            let mut texts: Vec<String> = levels(error).map(ToString::to_string).collect();
            // A wrapper often repeats the text of the error inside.
            texts.dedup();
            (error.to_string(), "Error".to_owned(), texts.join("\n"))
        }
    };
    (TelemetryEventKind::UnhandledException { error_message, error_type, traceback: Some(traceback) }, Severity::Error)
}

/// An event of the program.
pub(super) fn generic(name: &str, data: Value, severity: Severity) -> EventData {
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
) -> EventData {
    let is_user_error = is_user_error(error);
    let current = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let data = json!({
        "func": operation,
        "exception": message(error),
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

/// The event of an error that the service blames on the program.
fn user_error(error: &(dyn StdError + 'static)) -> Option<EventData> {
    let blamed = ours(error).find(|error| is_blamed(error))?;
    let mut data = json!({"error_type": error_type(blamed), "message": message(blamed)});
    if let Some(status) = blamed.status() {
        data["status_code"] = status.into();
    }
    Some(generic("user_error", data, Severity::Warning))
}

fn is_user_error(error: &Error) -> bool {
    user_error(error).is_some()
}

/// Whether the service blames the program: a 4xx other than 408 and 429, or a failure of category user.
fn is_blamed(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Status | ErrorKind::Billing | ErrorKind::RequestFailed) && error.is_user_error()
}

/// Whether the program itself ended the request.
fn is_intended(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Closed | ErrorKind::Cancelled)
}

/// Whether it is neither a poll, which [`Event::PollFailed`] reports, nor a heartbeat, since the next one follows anyway.
fn is_submission(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    !matches!(last, "retrieve_future" | "retrieve_futures" | "cancel_future" | "session_heartbeat")
}

fn severity(warns: bool) -> Severity {
    if warns { Severity::Warning } else { Severity::Error }
}

/// A text for an error that repeats nothing that was sent or received.
fn message(error: &Error) -> String {
    match (error.kind(), error.status()) {
        (ErrorKind::Status | ErrorKind::Billing, Some(status)) => format!("the server returned {status}"),
        (ErrorKind::RequestFailed, _) => "the request failed on the server".to_owned(),
        (ErrorKind::Decode, _) => "the response could not be decoded".to_owned(),
        (ErrorKind::Expired, _) => "the server no longer knows the promise".to_owned(),
        (ErrorKind::Connect, _) => "no connection, or it was lost".to_owned(),
        (ErrorKind::Timeout(limit), _) => limit.to_string(),
        (ErrorKind::Cancelled, _) => "cancelled".to_owned(),
        (ErrorKind::Closed, _) => "the client is closed".to_owned(),
        (ErrorKind::Panicked, _) => "a thread or a callback panicked".to_owned(),
        (ErrorKind::QueueFull, _) => "a queue is full".to_owned(),
        (kind, _) => format!("{kind:?}"),
    }
}

/// This error and the errors of this crate in its chain, one per line. Other errors may repeat a response.
fn chain(error: &Error) -> String {
    ours(error).map(message).collect::<Vec<_>>().join("\n")
}

fn error_type(error: &Error) -> String {
    format!("{:?}", error.kind())
}

/// The errors of this crate in a chain.
fn ours<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a Error> {
    levels(error).filter_map(|error| error.downcast_ref())
}

/// The errors from this one down to the first cause. The error inside an `io::Error` is behind `get_ref`, not `source`.
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

    /// The names and severities of events.
    fn names(events: Vec<EventData>) -> Vec<(String, Severity)> {
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
    fn events_never_contain_texts_of_the_server() {
        use RequestErrorCategory::{Server, User};
        use Severity::{Error as Bad, Warning};
        let path = "/api/v1/optim_step";
        let update = QueueStateUpdate {
            operation: "sample",
            request_id: "r".into(),
            queue_state: QueueState::PausedCapacity,
            reason: Some("prompt".into()),
        };
        assert_eq!(names(vec![paused(&update, RequestKind::Sample)]), [("queue_state".to_owned(), Warning)]);
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
            assert_eq!(names(of_event(&event, UNIX_EPOCH)), expected, "{event:?}");
        }
    }

    #[test]
    fn reported_errors_are_user_errors_or_unhandled() {
        let outer = |inner: Error| std::io::Error::other(Error::new(ErrorKind::Io, "prompt").with_source(inner));
        let one = |error: &(dyn StdError + 'static)| names(vec![reported(error)]).remove(0);
        for status_code in [400, 404, 409, 422] {
            assert_eq!(one(&outer(status(status_code))), ("user_error".into(), Severity::Warning), "{status_code}");
        }
        assert_eq!(one(&failed(RequestErrorCategory::User)), ("user_error".into(), Severity::Warning));
        let own = std::io::Error::other("the program's text");
        assert_eq!(one(&own), ("the program's text|the program's text".into(), Severity::Error));
        for (error, text) in [
            (status(408), "the server returned 408"),
            (status(503), "the server returned 503"),
            (Error::invalid_input("prompt"), "InvalidInput"),
            (
                Error::new(ErrorKind::Decode, "prompt").with_source(std::io::Error::other("prompt")),
                "the response could not be decoded",
            ),
        ] {
            assert_eq!(one(&error), (format!("{text}|{text}"), Severity::Error));
        }
    }

    #[test]
    fn data_always_becomes_an_object() {
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
