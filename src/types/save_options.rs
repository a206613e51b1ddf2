//! How weights are saved.

use std::collections::BTreeMap;
use std::time::Duration;

use super::from_text::from_text;

open_enum! {
    /// What a sampling client of unnamed weights follows.
    ///
    /// ```
    /// use tinkex::types::SamplerKind;
    ///
    /// assert_eq!(SamplerKind::from("inflight"), SamplerKind::Inflight);
    /// assert_eq!(SamplerKind::Snapshot.as_str(), "snapshot");
    /// ```
    pub enum SamplerKind {
        /// The weights of the moment of the save: they never change.
        Snapshot = "snapshot",
        /// The latest weights that were saved this way. All sampling clients of this kind share one set of weights for each
        /// model, which a later save moves on, also under running samples.
        Inflight = "inflight",
    }
}

/// How [`TrainingClient::save_state`](crate::TrainingClient::save_state) saves. A name is enough.
///
/// Servers of 2025 do not know the settings other than the name, and may ignore or refuse them. A setting that is left alone is
/// not sent.
///
/// ```
/// use std::time::Duration;
/// use tinkex::types::SaveOptions;
///
/// let plain = SaveOptions::from("0100");
/// let week = Duration::from_secs(7 * 24 * 3600);
/// let options = SaveOptions::new("0100").ttl(week).overwrite(true).user_metadata("loss", "0.31");
/// assert_eq!((plain.name, options.ttl), ("0100".to_owned(), Some(week)));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SaveOptions {
    /// The name of the checkpoint, unique for the model. It becomes the end of the checkpoint's path.
    pub name: String,
    /// How long the service keeps the checkpoint: 1 hour to 10 years. Defaults to no limit.
    pub ttl: Option<Duration>,
    /// Whether to replace a checkpoint of that name. Defaults to false: a name that is taken is an error.
    pub overwrite: bool,
    /// What the service stores with the checkpoint. Defaults to nothing.
    pub user_metadata: BTreeMap<String, String>,
}

impl SaveOptions {
    /// A save under this name, without a time limit, which replaces nothing.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        SaveOptions { name: name.into(), ..SaveOptions::default() }
    }

    /// Sets how long the service keeps the checkpoint: 1 hour to 10 years. Defaults to no limit.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets whether to replace a checkpoint of that name. Defaults to false.
    #[must_use]
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// Adds one entry to the metadata that the service stores with the checkpoint. Defaults to none.
    #[must_use]
    pub fn user_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.user_metadata.insert(key.into(), value.into());
        self
    }
}

/// How [`TrainingClient::save_weights_for_sampler`](crate::TrainingClient::save_weights_for_sampler) saves. A name is enough.
///
/// As for [`SaveOptions`], servers of 2025 know only the name.
///
/// ```
/// use std::time::Duration;
/// use tinkex::types::SamplerSaveOptions;
///
/// let options = SamplerSaveOptions::new("eval-7").ttl(Duration::from_secs(3600)).user_metadata("set", "dev");
/// assert_eq!(options.user_metadata["set"], "dev");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SamplerSaveOptions {
    /// The name of the checkpoint, unique for the model. It becomes the end of the checkpoint's path.
    pub name: String,
    /// How long the service keeps the checkpoint: 1 hour to 10 years. Defaults to no limit.
    pub ttl: Option<Duration>,
    /// What the service stores with the checkpoint. Defaults to nothing.
    pub user_metadata: BTreeMap<String, String>,
}

impl SamplerSaveOptions {
    /// A save under this name, without a time limit.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        SamplerSaveOptions { name: name.into(), ..SamplerSaveOptions::default() }
    }

    /// Sets how long the service keeps the checkpoint: 1 hour to 10 years. Defaults to no limit.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Adds one entry to the metadata that the service stores with the checkpoint. Defaults to none.
    #[must_use]
    pub fn user_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.user_metadata.insert(key.into(), value.into());
        self
    }
}

/// How [`TrainingClient::save_weights_external`](crate::TrainingClient::save_weights_external) saves. A name is enough.
///
/// ```
/// use std::time::Duration;
/// use tinkex::types::ExternalSaveOptions;
///
/// let day = Duration::from_secs(24 * 3600);
/// let options = ExternalSaveOptions::new("release-1").ttl(day).age_encryption_recipient("age1example");
/// assert_eq!(options.age_encryption_recipients, ["age1example"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExternalSaveOptions {
    /// The name of the weights, unique for the model. It becomes the end of their path.
    pub name: String,
    /// How long the service keeps the weights: 1 hour to 10 years. Defaults to no limit.
    pub ttl: Option<Duration>,
    /// The public keys to encrypt the files for, in the form of the tool `age`. Defaults to none: the files are not encrypted.
    pub age_encryption_recipients: Vec<String>,
}

impl ExternalSaveOptions {
    /// A save under this name, without a time limit and not encrypted.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        ExternalSaveOptions { name: name.into(), ..ExternalSaveOptions::default() }
    }

    /// Sets how long the service keeps the weights: 1 hour to 10 years. Defaults to no limit.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Adds a public key to encrypt the files for, in the form of the tool `age`. Defaults to none.
    #[must_use]
    pub fn age_encryption_recipient(mut self, recipient: impl Into<String>) -> Self {
        self.age_encryption_recipients.push(recipient.into());
        self
    }
}

from_text!(SaveOptions SamplerSaveOptions ExternalSaveOptions);
