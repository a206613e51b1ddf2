//! How saved weights are loaded.

use std::fmt;

use super::from_text::from_text;

/// What [`TrainingClient::load_state`](crate::TrainingClient::load_state) loads. A path is enough.
///
/// ```
/// use tinkex::types::LoadOptions;
///
/// let shared = LoadOptions::new("tinker://run-1/weights/0100").weights_access_token("a-secret");
/// assert!(!format!("{shared:?}").contains("a-secret"));
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// The checkpoint's path, as the service gave it.
    pub path: String,
    /// A token that gives access to weights of another user. Defaults to none. It is a secret: `Debug` does not print it.
    pub weights_access_token: Option<String>,
}

impl LoadOptions {
    /// The checkpoint at this path.
    #[must_use]
    pub fn new(path: impl Into<String>) -> Self {
        LoadOptions { path: path.into(), weights_access_token: None }
    }

    /// Sets a token that gives access to weights of another user. Defaults to none.
    #[must_use]
    pub fn weights_access_token(mut self, token: impl Into<String>) -> Self {
        self.weights_access_token = Some(token.into());
        self
    }
}

impl fmt::Debug for LoadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadOptions")
            .field("path", &self.path)
            .field("weights_access_token", &self.weights_access_token.as_ref().map(|_| "..."))
            .finish()
    }
}

from_text!(LoadOptions);
