//! What happens to examples that are too long.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What happens to examples that are too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TooLong {
    /// Refuse the file, and name them.
    #[default]
    Error,
    /// Leave them out.
    Skip,
    /// Drop the tokens at their end.
    Truncate,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TooLong::Error => "error",
            TooLong::Skip => "skip",
            TooLong::Truncate => "truncate",
        })
    }
}
