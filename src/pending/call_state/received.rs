//! A result with the id of its request, so that an error for a wrong one has it.

use std::borrow::Cow;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};

/// What to do about a wrong result.
pub(in crate::pending) const WRONG_RESULT: &str = "this is a fault of the service; report it with the request id";

/// The result of one request of a call.
pub(crate) struct Received<R> {
    pub(crate) result: R,
    pub(crate) request_id: Option<Arc<str>>,
    /// The ids that the promise gave the parts of the result.
    pub(crate) part_ids: Box<[String]>,
}

impl<R> Received<R> {
    /// The error for a result that is not what was asked for. The request itself was carried out.
    pub(crate) fn unfit(&self, why: impl Into<Cow<'static, str>>) -> Error {
        unfit(self.request_id.as_ref(), why)
    }

    /// Takes the result if it is what was asked for.
    pub(crate) fn check(self, check: impl FnOnce(&mut R) -> Result<(), String>) -> Result<R> {
        let Received { mut result, request_id, .. } = self;
        check(&mut result).map_err(|why| unfit(request_id.as_ref(), why))?;
        Ok(result)
    }
}

fn unfit(request_id: Option<&Arc<str>>, why: impl Into<Cow<'static, str>>) -> Error {
    let error = Error::new(ErrorKind::Decode, why).with_effect(true).with_hint(WRONG_RESULT);
    match request_id {
        Some(id) => error.with_request_id(Arc::clone(id)),
        None => error,
    }
}
