use super::*;

fn status(status: u16) -> Error {
    Error::new(ErrorKind::Status, "refused").with_status(status)
}

#[test]
fn statuses_are_classified() {
    for (code, retryable, user) in [
        (400, false, true),
        (401, false, true),
        (404, false, true),
        (408, true, false),
        (409, true, true),
        (410, false, true),
        (429, true, false),
        (500, true, false),
        (503, true, false),
    ] {
        assert_eq!((status(code).is_retryable(), status(code).is_user_error()), (retryable, user), "{code}");
    }
}

#[test]
fn user_errors_are_found_among_sources() {
    let outer = Error::new(ErrorKind::Closed, "stopped").with_source(status(422));
    assert!(outer.is_user_error());
    assert!(!Error::new(ErrorKind::Closed, "stopped").with_source(status(503)).is_user_error());
}

#[test]
fn display_has_operation_request_effect_and_hint() {
    let error = Error::timeout(Limit::Operation)
        .with_operation("optim_step")
        .with_operation("outer")
        .with_request_id("r-1")
        .with_effect(true)
        .with_hint("wait again with ServiceClient::pending")
        .with_source(status(500));
    assert_eq!(
        error.to_string(),
        "optim_step: the operation timed out (timeout_operation) (request r-1); \
         the request may have taken effect; wait again with ServiceClient::pending"
    );
}
