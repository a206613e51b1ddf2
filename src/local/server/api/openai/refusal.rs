//! Refusals of Tinker's API in OpenAI's shape.

use crate::local::openai::ApiError;
use crate::local::server::http1::Response;

/// The same refusal.
pub(super) fn refused(refusal: &Response) -> ApiError {
    ApiError::new(refusal.status, refusal.detail()).or_context()
}
