//! Errors and the statuses of the interface.

use std::any::Any;
use std::error::Error as _;
use std::ffi::{CStr, CString, c_char};
use std::time::Duration;

use tinkex::ErrorKind;

use crate::border;

/// What a function returns: 0, [`NOT_READY`], or the kind of its error.
pub(crate) type Status = i32;

pub(crate) const OK: Status = 0;
pub(crate) const NOT_READY: Status = -1;
pub(crate) const INVALID_INPUT: Status = 2;
pub(crate) const PANICKED: Status = 12;
/// A kind of error that is younger than the interface.
const OTHER: Status = 16;

/// The names of the statuses, as in the header. The index of an error's is its status.
const NAMES: [&CStr; 17] = [
    c"ok",
    c"config",
    c"invalid_input",
    c"connect",
    c"timeout",
    c"status",
    c"billing",
    c"request_failed",
    c"expired",
    c"decode",
    c"closed",
    c"callback",
    c"panicked",
    c"queue_full",
    c"cancelled",
    c"io",
    c"other",
];

/// What hints of the library name, and what that is called here.
const NAMES_HERE: [(&str, &str); 8] = [
    ("ServiceClient::connect", "tinkex_service_connect"),
    ("ServiceClient::pending", "tinkex_service_pending"),
    (
        "Datum::input; types::LossFn lists the inputs of each loss",
        "tinkex_batch_set_floats or tinkex_batch_set_integers",
    ),
    ("toolkit::WeightedTokens", "tinkex_batch_add_text"),
    ("what the first wait_timeout or try_get returned", "the result of the first tinkex_pending_wait"),
    ("Tokenizer::from_path", "tinkex_tokenizer_from_path"),
    ("call api_key on the builder", "give api_key"),
    ("pass one to api_key", "give api_key"),
];

pub(crate) fn in_names_of_here(message: &str) -> String {
    NAMES_HERE.iter().fold(message.to_owned(), |message, (there, here)| message.replace(there, here))
}

fn status_of(kind: ErrorKind) -> Status {
    match kind {
        ErrorKind::Config => 1,
        ErrorKind::InvalidInput => INVALID_INPUT,
        ErrorKind::Connect => 3,
        ErrorKind::Timeout(_) => 4,
        ErrorKind::Status => 5,
        ErrorKind::Billing => 6,
        ErrorKind::RequestFailed => 7,
        ErrorKind::Expired => 8,
        ErrorKind::Decode => 9,
        ErrorKind::Closed => 10,
        ErrorKind::Callback => 11,
        ErrorKind::Panicked => PANICKED,
        ErrorKind::QueueFull => 13,
        ErrorKind::Cancelled => 14,
        ErrorKind::Io => 15,
        _ => OTHER,
    }
}

/// `tinkex_error`.
#[derive(Debug)]
pub struct Error {
    status: Status,
    message: CString,
    causes: CString,
    request_id: Option<CString>,
    http_status: i32,
    retry_after: Option<Duration>,
    is_retryable: bool,
    may_have_taken_effect: bool,
}

impl Error {
    fn new(status: Status, message: &str) -> Self {
        Error {
            status,
            message: border::c_text(message),
            causes: CString::default(),
            request_id: None,
            http_status: 0,
            retry_after: None,
            is_retryable: false,
            may_have_taken_effect: false,
        }
    }

    pub(crate) fn invalid(message: impl AsRef<str>) -> Self {
        Error::new(INVALID_INPUT, message.as_ref())
    }

    pub(crate) fn config(message: impl AsRef<str>) -> Self {
        Error::new(status_of(ErrorKind::Config), message.as_ref())
    }

    pub(crate) fn decode(message: impl AsRef<str>) -> Self {
        Error::new(status_of(ErrorKind::Decode), message.as_ref())
    }

    pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message");
        Error::new(PANICKED, &format!("the library panicked: {text}; please report it"))
    }

    pub(crate) fn status(&self) -> Status {
        self.status
    }
}

impl From<tinkex::Error> for Error {
    fn from(error: tinkex::Error) -> Self {
        let causes: Vec<_> =
            std::iter::successors(error.source(), |&cause| cause.source()).map(ToString::to_string).collect();
        Error {
            causes: border::c_text(&causes.join(": ")),
            request_id: error.request_id().map(border::c_text),
            http_status: error.status().unwrap_or(0).into(),
            retry_after: error.retry_after(),
            is_retryable: error.is_retryable(),
            may_have_taken_effect: error.may_have_taken_effect(),
            ..Error::new(status_of(error.kind()), &in_names_of_here(&error.to_string()))
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn tinkex_status_name(status: Status) -> *const c_char {
    let name = usize::try_from(status).ok().and_then(|status| NAMES.get(status));
    match name {
        Some(name) => name.as_ptr(),
        None if status == NOT_READY => c"not_ready".as_ptr(),
        None => c"unknown".as_ptr(),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_error_status(error: *const Error) -> Status {
    // SAFETY: the header says what the pointer is.
    unsafe { border::read(error, OK, Error::status) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_error_message(error: *const Error) -> *const c_char {
    // SAFETY: the header says what the pointer is.
    unsafe { border::read(error, c"no error".as_ptr(), |error| error.message.as_ptr()) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_error_causes(error: *const Error) -> *const c_char {
    // SAFETY: the header says what the pointer is.
    unsafe { border::read(error, c"".as_ptr(), |error| error.causes.as_ptr()) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_error_request_id(error: *const Error) -> *const c_char {
    // SAFETY: the header says what the pointer is.
    unsafe {
        border::read(error, std::ptr::null(), |error| {
            error.request_id.as_deref().map_or(std::ptr::null(), CStr::as_ptr)
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_error_http_status(error: *const Error) -> i32 {
    // SAFETY: the header says what the pointer is.
    unsafe { border::read(error, 0, |error| error.http_status) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_error_retry_after_ms(error: *const Error) -> i64 {
    let milliseconds = |wait: Duration| wait.as_millis().try_into().unwrap_or(i64::MAX);
    // SAFETY: the header says what the pointer is.
    unsafe { border::read(error, -1, |error| error.retry_after.map_or(-1, milliseconds)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_error_is_retryable(error: *const Error) -> i32 {
    // SAFETY: the header says what the pointer is.
    unsafe { border::read(error, 0, |error| error.is_retryable.into()) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_error_may_have_taken_effect(error: *const Error) -> i32 {
    // SAFETY: the header says what the pointer is.
    unsafe { border::read(error, 0, |error| error.may_have_taken_effect.into()) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_error_free(error: *mut Error) {
    // SAFETY: the header says what the pointer is.
    unsafe { border::free(error) }
}
