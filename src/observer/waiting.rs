//! What is said about a call that has to wait: why, for how long, and until when.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Rounded, Tries};

/// What a call waits for. Waits of one kind are reported together.
///
/// # Examples
///
/// ```
/// use tinkex::WaitKind;
///
/// assert_eq!(WaitKind::Submission.to_string(), "submission");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum WaitKind {
    /// That the service accepts a training request, a new model or a save.
    Submission,
    /// That the service accepts a sample, or that the limits of sampling allow it to be sent.
    Sample,
    /// The result of something that the service has accepted.
    Result,
    /// The response to any other request.
    Request,
    /// A file: an archive that is being prepared, external weights, a trace, a tokenizer.
    Download,
    /// A new credential, in the background.
    Credential,
    /// The end of the client: its last requests and its threads.
    Close,
}

impl fmt::Display for WaitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WaitKind::Submission => "submission",
            WaitKind::Sample => "sample",
            WaitKind::Result => "result",
            WaitKind::Request => "request",
            WaitKind::Download => "download",
            WaitKind::Credential => "credential",
            WaitKind::Close => "close",
        })
    }
}

/// Calls of one kind have waited for a while, in [`Event::Waiting`](crate::Event::Waiting). `Display` says all of it in one
/// line, which is also what the log has.
///
/// # Examples
///
/// ```
/// use tinkex::{Config, Event};
///
/// let config = Config::builder()
///     .api_key("tml-example")
///     .base_url("http://127.0.0.1:8000")
///     .observer(|event: &Event| match event {
///         // create_lora_training_client: waiting for 10 s: 503 no GPU free, 6 tries; continues for up to 290 s (timeout_submit)
///         Event::Waiting(waiting) => println!("{waiting}"),
///         // create_lora_training_client: no longer waiting, after 75 s
///         Event::WaitEnded(ended) => println!("{ended}"),
///         _ => {}
///     })
///     .build()?;
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiting {
    /// What they wait for.
    pub kind: WaitKind,
    /// The client's method, or the request's name, of the call that has waited the longest.
    pub operation: &'static str,
    /// The number of calls of this kind that have waited for long.
    pub calls: usize,
    /// How long that call has waited.
    pub waited: Duration,
    /// Why, in a few words: `503 no GPU free`.
    pub reason: Arc<str>,
    /// The HTTP status of the last response, if there was one.
    pub status: Option<u16>,
    /// How often that call has been tried so far; 0 if that is not counted.
    pub tries: u32,
    /// What ends the wait if nothing changes.
    pub limit: WaitLimit,
}

/// What ends a wait if nothing changes. Each limit belongs to a setting of [`Config`](crate::Config).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tinkex::WaitLimit;
///
/// let limit = WaitLimit::Time { left: Duration::from_secs(290), setting: "timeout_submit" };
/// assert_eq!(limit.to_string(), "continues for up to 290 s (timeout_submit)");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitLimit {
    /// Nothing.
    #[default]
    None,
    /// A time limit.
    Time {
        /// The time left.
        left: Duration,
        /// The name of the setting.
        setting: &'static str,
    },
    /// A number of tries.
    Tries {
        /// The number in all.
        max: u32,
        /// The name of the setting.
        setting: &'static str,
    },
}

impl fmt::Display for WaitLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitLimit::None => f.write_str("continues without a time limit"),
            WaitLimit::Time { left, setting } => write!(f, "continues for up to {} ({setting})", Rounded(*left)),
            WaitLimit::Tries { max, setting } => write!(f, "gives up after {max} tries ({setting})"),
        }
    }
}

impl Waiting {
    /// Why and for how long, without the operation: for a line that has little room.
    #[must_use]
    pub fn summary(&self) -> String {
        let tries = if self.tries > 0 { format!(", {}", Tries(self.tries)) } else { String::new() };
        format!("waiting for {}: {}{tries}; {}", Rounded(self.waited), self.reason, self.limit)
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.operation)?;
        match self.calls {
            0 | 1 => {}
            2 => f.write_str(" and another call")?,
            calls => write!(f, " and {} other calls", calls - 1)?,
        }
        write!(f, ": {}", self.summary())
    }
}

/// No call of this kind waits for long any more, in [`Event::WaitEnded`](crate::Event::WaitEnded): each has its
/// response, or has failed. Follows a [`Waiting`] of the same kind.
///
/// # Examples
///
/// ```
/// fn seconds(event: &tinkex::Event) -> Option<u64> {
///     match event {
///         tinkex::Event::WaitEnded(ended) => Some(ended.waited.as_secs()),
///         _ => None,
///     }
/// }
/// # let _ = seconds;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitEnded {
    /// What they waited for.
    pub kind: WaitKind,
    /// The operation of the last call that waited for long.
    pub operation: &'static str,
    /// How long calls of this kind have waited in all.
    pub waited: Duration,
}

impl fmt::Display for WaitEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: no longer waiting, after {}", self.operation, Rounded(self.waited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_why_and_until_when() {
        let waiting = Waiting {
            kind: WaitKind::Submission,
            operation: "save_state",
            calls: 1,
            waited: Duration::from_millis(10_200),
            reason: "503 no GPU free".into(),
            status: Some(503),
            tries: 7,
            limit: WaitLimit::Time { left: Duration::from_millis(289_800), setting: "timeout_submit" },
        };
        assert_eq!(
            waiting.to_string(),
            "save_state: waiting for 10 s: 503 no GPU free, 7 tries; continues for up to 290 s (timeout_submit)"
        );
        let limit = WaitLimit::Tries { max: 11, setting: "max_retries" };
        let several = Waiting { calls: 3, tries: 1, limit, ..waiting.clone() };
        assert_eq!(
            several.to_string(),
            "save_state and 2 other calls: waiting for 10 s: 503 no GPU free, 1 try; gives up after 11 tries (max_retries)"
        );
        let endless = Waiting { calls: 2, tries: 0, limit: WaitLimit::None, ..waiting };
        assert_eq!(
            endless.to_string(),
            "save_state and another call: waiting for 10 s: 503 no GPU free; continues without a time limit"
        );
        let ended = WaitEnded { kind: WaitKind::Submission, operation: "save_state", waited: Duration::from_secs(75) };
        assert_eq!(ended.to_string(), "save_state: no longer waiting, after 75 s");
    }
}
