//! The pages of the official service's web console.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::CheckpointPath;

const CONSOLE: &str = "https://tinker-console.thinkingmachines.ai";

/// What is encoded in an id. The unreserved characters of RFC 3986 are not.
const ID: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The page of a session.
pub(crate) fn session_page(session_id: &str) -> String {
    format!("{CONSOLE}/sessions/{}", encode(session_id))
}

/// The page of a training run, whose id is that of its model.
pub(crate) fn run_page(training_run_id: &str) -> String {
    format!("{CONSOLE}/training_runs/{}", encode(training_run_id))
}

fn encode(id: &str) -> String {
    utf8_percent_encode(id, ID).to_string()
}

impl CheckpointPath {
    /// The address of the checkpoint's page in the official service's web console. Other services have none.
    ///
    /// ```
    /// use tinkex::types::CheckpointPath;
    ///
    /// let page = "tinker://run-1/weights/0001".parse::<CheckpointPath>()?.console_url();
    /// assert!(page.ends_with("/checkpoints/run-1/weights%2F0001"));
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    #[doc(alias = "get_console_url")]
    pub fn console_url(&self) -> String {
        format!("{CONSOLE}/checkpoints/{}/{}", encode(self.training_run_id()), encode(self.checkpoint_id()))
    }

    /// The address of the page in the official service's web console on which one can chat with the checkpoint. Other services
    /// have none.
    ///
    /// ```
    /// use tinkex::types::CheckpointPath;
    ///
    /// let page = "tinker://run-1/sampler_weights/0001".parse::<CheckpointPath>()?.playground_url();
    /// assert!(page.ends_with("/playground?mode=checkpoint&checkpoint=tinker%3A%2F%2Frun-1%2Fsampler_weights%2F0001"));
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn playground_url(&self) -> String {
        format!("{CONSOLE}/playground?mode=checkpoint&checkpoint={}", encode(self.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_one_segment() {
        assert_eq!(session_page("s/1?é"), format!("{CONSOLE}/sessions/s%2F1%3F%C3%A9"));
        assert_eq!(run_page("s-1:train:0"), format!("{CONSOLE}/training_runs/s-1%3Atrain%3A0"));
    }
}
