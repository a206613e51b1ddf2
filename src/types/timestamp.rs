//! Points in time and durations, as text on the wire.

use serde::{Deserialize, Serialize};

/// A point in time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp {
    raw: String,
}
