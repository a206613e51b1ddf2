//! Downloads a training checkpoint from a service without archives.

use std::time::Duration;

use log::warn;

use super::ServiceClient;
use crate::error::{Error, Result};
use crate::process::unique_bits;
use crate::rest::{DownloadOptions, Downloaded};
use crate::types::{CheckpointPath, CheckpointType, ExternalSaveOptions};

/// How long the export exists at most, should its deletion fail.
const EXPORT_TTL: Duration = Duration::from_secs(24 * 3600);

impl ServiceClient {
    /// Downloads a training checkpoint from a service that has no archives any more: creates a training client from it, exports
    /// its adapter as external weights, downloads those, and deletes them again. Blocks until that is done.
    ///
    /// **This occupies a model of the service, and may be charged like any other training client.** Where the service still
    /// has archives, [`RestClient::download_checkpoint_archive`](crate::RestClient::download_checkpoint_archive) costs
    /// nothing; external weights can be downloaded with it as well.
    ///
    /// The options are a path (the destination) or [`DownloadOptions`]. If the export cannot be deleted, a warning is logged,
    /// and the service deletes it after a day.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) before any request if the destination exists or the path is that of other
    /// weights; otherwise those of creating a client,
    /// [`save_weights_external`](crate::TrainingClient::save_weights_external) and
    /// [`download_checkpoint_archive`](crate::RestClient::download_checkpoint_archive).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(service: tinkex::ServiceClient) -> tinkex::Result<()> {
    /// let path = "tinker://run-1/weights/0001";
    /// let rest = service.create_rest_client();
    /// match rest.download_checkpoint_archive_from_tinker_path(path, "adapter") {
    ///     Err(error) if matches!(error.status(), Some(404 | 405 | 410)) => {
    ///         service.export_and_download_checkpoint(path, "adapter")?;
    ///     }
    ///     other => drop(other?),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn export_and_download_checkpoint<'a>(
        &self,
        tinker_path: &str,
        options: impl Into<DownloadOptions<'a>>,
    ) -> Result<Downloaded> {
        let (operation, options) = ("export_and_download_checkpoint", options.into());
        self.export_and_download(tinker_path, options).map_err(|error| error.replace_operation(operation))
    }

    fn export_and_download(&self, tinker_path: &str, options: DownloadOptions<'_>) -> Result<Downloaded> {
        if tinker_path.parse::<CheckpointPath>().is_ok_and(|path| path.checkpoint_type() != CheckpointType::Training) {
            return Err(Error::invalid_input(format!("{tinker_path:?} is not the path of a training checkpoint"))
                .with_hint("use tinker://RUN/weights/NAME; a service cannot continue training from other weights"));
        }
        options.check_directory()?;
        let trainer = self.training_client().from_state(tinker_path).create()?;
        let name = format!("download-{:08x}", unique_bits() as u32);
        let exported = trainer.save_weights_external(ExternalSaveOptions::new(name).ttl(EXPORT_TTL));
        if let Err(error) = trainer.unload_model() {
            warn!("the model of the export cannot be unloaded before the session ends: {error}");
        }
        let path = exported?.path;
        let rest = self.create_rest_client();
        let downloaded = rest.download_checkpoint_archive_from_tinker_path(&path, options);
        if let Err(error) = rest.delete_checkpoint_from_tinker_path(&path) {
            warn!("the export {path} cannot be deleted, and expires after a day: {error}");
        }
        downloaded
    }
}
