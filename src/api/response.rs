//! A response, and the forms in which its body can be read.

use std::any::type_name;
use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::http;

/// A response of the service. Its status is a success (2xx), or a redirect that was not followed.
///
/// The body can be read in every form, any number of times. If it does not have the form, the error says what was expected,
/// with the status and the first bytes.
///
/// # Examples
///
/// One of several shapes, told apart by serde:
///
/// ```no_run
/// #[derive(serde::Deserialize)]
/// #[serde(untagged)]
/// enum Reply {
///     Promise { request_id: String },
///     Done { path: String },
/// }
///
/// # fn f(api: tinkex::api::Api) -> tinkex::Result<()> {
/// match api.post("/api/v1/export").send()?.json::<Reply>()? {
///     Reply::Promise { request_id } => println!("wait for {request_id}"),
///     Reply::Done { path } => println!("it is at {path}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Response {
    pub(super) response: http::Response,
    pub(super) operation: String,
    pub(super) elapsed: Duration,
    pub(super) attempts: u32,
}

impl Response {
    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.response.status
    }

    /// The headers in the order received, with lower-case names. Values that are not text are left out.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.response.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
    }

    /// The first value of a header. The name is case-insensitive.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.header(name)
    }

    /// The duration of the call, including retries and the waits between them.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// The number of attempts, at least 1.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The body, with gzip decoded.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.response.body
    }

    /// The body, with gzip decoded, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.response.body
    }

    /// The body as text.
    ///
    /// # Errors
    ///
    /// [`Decode`](crate::ErrorKind::Decode) if it is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(self.bytes()).map_err(|error| {
            let error = format!("the response is not the expected text: {error}");
            self.named(self.response.decode_error(&error))
        })
    }

    /// The body as a boolean: `true` or `false`, in any case.
    ///
    /// # Errors
    ///
    /// [`Decode`](crate::ErrorKind::Decode) for anything else.
    pub fn boolean(&self) -> Result<bool> {
        let body = self.bytes().trim_ascii();
        if body.eq_ignore_ascii_case(b"true") {
            Ok(true)
        } else if body.eq_ignore_ascii_case(b"false") {
            Ok(false)
        } else {
            Err(self.named(self.response.decode_error("the response is not the expected boolean")))
        }
    }

    /// The body, parsed as JSON.
    ///
    /// # Errors
    ///
    /// [`Decode`](crate::ErrorKind::Decode) if it is empty, not JSON or of another shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        let expected = || format!("expected {}", short_name(type_name::<T>()));
        self.response.parse().map_err(|error| self.named(error.with_detail(expected())))
    }

    fn named(&self, error: Error) -> Error {
        error.replace_operation(self.operation.clone())
    }
}

/// A type's name without its modules.
fn short_name(name: &str) -> String {
    let is_part_of_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
    let words = name.split_inclusive(|c| !is_part_of_path(c));
    words.map(|word| word.rsplit_once("::").map_or(word, |(_, last)| last)).collect()
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("operation", &self.operation)
            .field("status", &self.status())
            .field("body_length", &self.bytes().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_names_are_short() {
        assert_eq!(short_name(type_name::<Vec<Option<Duration>>>()), "Vec<Option<Duration>>");
        assert_eq!(short_name(type_name::<(String, [u8; 2])>()), "(String, [u8; 2])");
    }
}
