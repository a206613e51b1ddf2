//! How serious a telemetry event is.

use serde::{Deserialize, Serialize};

/// How serious a telemetry event is, from the least to the most.
///
/// ```
/// use tinkex::types::Severity;
///
/// assert!(Severity::Warning < Severity::Error);
/// assert_eq!(Severity::default(), Severity::Info);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum Severity {
    /// Details for debugging.
    Debug,
    /// A normal event.
    #[default]
    Info,
    /// Something unexpected that the program recovers from.
    Warning,
    /// An operation failed.
    Error,
    /// The program cannot continue.
    Critical,
}
