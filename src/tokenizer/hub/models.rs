//! Downloads of models from the hub.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Hub, encode_path, revision};
use crate::error::Result;
use crate::http::{FileDownload, Location, RequestHandle, Watch};
use crate::rules::resume::StoredProgress;
use crate::rules::tokenizer_id::HubId;

impl Hub {
    /// Lets this handle cancel the downloads.
    pub(crate) fn with_handle(mut self, handle: Arc<RequestHandle>) -> Self {
        self.limits.handle = handle;
        self
    }

    /// What the hub says of a repository: its files, their sizes and hashes, in JSON.
    pub(crate) fn listing(&self, id: &HubId<'_>, hint: &str) -> Result<Vec<u8>> {
        let (repository, revision) = (encode_path(id.repository), revision(id));
        let url = format!("{}/api/models/{repository}/revision/{revision}?blobs=true", self.endpoint);
        self.content(&url).map_err(|error| self.explained(id, "the list of files of", hint, error))
    }

    /// Downloads one file, as it is at this commit or else at the id's revision, into another, of which `progress` is stored already.
    pub(crate) fn store(
        &self,
        id: &HubId<'_>,
        commit: Option<&str>,
        name: &str,
        hint: &str,
        (file, path, progress): (File, &Path, StoredProgress),
        watch: Watch<'_>,
    ) -> Result<()> {
        let url = self.url(&HubId { revision: commit.or(id.revision), ..*id }, name);
        let from = Location { url: &url, redirected_from: None, authorization: self.authorization.as_ref() };
        let mut download = FileDownload::new((file, path), name, progress, self.policy(), Duration::ZERO, watch);
        let limits = self.http.waiting(&self.limits);
        self.http
            .with_retries(&limits, |_, _| {}, || Ok(download.attempt(&self.http, from, &limits)?))
            .and_then(|()| download.finish(true))
            .map(drop)
            .map_err(|error| self.explained(id, &format!("{name} of"), hint, error))
    }
}
