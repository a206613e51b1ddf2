//! Why a session has ended.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a session has ended, as the client tells the service. See
/// [`ServiceClient::close_with`](crate::ServiceClient::close_with).
///
/// ```
/// use tinkex::types::FinishReason;
///
/// assert_eq!(FinishReason::Interrupted.to_string(), "interrupted");
/// assert_eq!(serde_json::to_string(&FinishReason::Success)?, r#"{"type":"success"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[non_exhaustive]
pub enum FinishReason {
    /// The program did what it was to do.
    Success,
    /// It failed.
    Errored,
    /// It was stopped, for example by Ctrl-C.
    Interrupted,
}

impl fmt::Display for FinishReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FinishReason::Success => "success",
            FinishReason::Errored => "errored",
            FinishReason::Interrupted => "interrupted",
        })
    }
}
