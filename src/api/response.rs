//! An answer as it came, and the forms it can be read in.

use std::any::type_name;
use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::http::Answer;

/// An answer of the service. Its status is one of success (2xx), or a redirect that was not to be followed.
///
/// Every form can be asked for any number of times, and an answer that has not the form is an error that says which was
/// expected, with the status and the first bytes.
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
    pub(super) answer: Answer,
    pub(super) operation: String,
    pub(super) elapsed: Duration,
    pub(super) attempts: u32,
}

impl Response {
    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.answer.status
    }

    /// The headers in the order in which they came, names in lower case; values that are not text are left out.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.answer.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
    }

    /// The first value of one header, by its name in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.answer.header(name)
    }

    /// How long the call took, with all attempts and the waits between them.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// How many attempts it took, from 1.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The body as it came, after gzip was undone.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.answer.body
    }

    /// The body as it came, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.answer.body
    }

    /// The body as text.
    ///
    /// # Errors
    ///
    /// [`Decode`](crate::ErrorKind::Decode) when it is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(self.bytes()).map_err(|error| {
            let error = format!("the answer is not the expected text: {error}");
            self.named(self.answer.not_understood(&error))
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
            Err(self.named(self.answer.not_understood("the answer is not the expected boolean")))
        }
    }

    /// The body, parsed as JSON.
    ///
    /// # Errors
    ///
    /// [`Decode`](crate::ErrorKind::Decode) when it is empty, not JSON or of another shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        let expected = || format!("expected {}", short_name(type_name::<T>()));
        self.answer.parse().map_err(|error| self.named(error.with_detail(expected())))
    }

    fn named(&self, error: Error) -> Error {
        error.renamed(self.operation.clone())
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
    fn the_name_of_a_type_is_short() {
        assert_eq!(short_name(type_name::<Vec<Option<Duration>>>()), "Vec<Option<Duration>>");
        assert_eq!(short_name(type_name::<(String, [u8; 2])>()), "(String, [u8; 2])");
    }
}
