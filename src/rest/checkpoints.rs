//! Requests about one checkpoint.

use std::time::Duration;

use super::client::RestClient;
use super::copy_weights::CopyWeights;
use super::endpoint::{self, CheckpointEndpoint};
use crate::error::{Error, Result};
use crate::http::{Method, Request};
use crate::rules::ttl::ttl_seconds;
use crate::types::wire::{CopyWeightsResponse, SetCheckpointTtlRequest};
use crate::types::{CheckpointArchiveUrlResponse, ExternalWeightsUrlsResponse};

/// Below a checkpoint.
const PUBLISH: &str = "/publish";

impl RestClient {
    /// The temporary URL of a checkpoint's archive. The URL is signed: it gives access to the archive without a key.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors); [`Decode`](crate::ErrorKind::Decode) if the service does not redirect to an
    /// archive.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// let archive = rest.get_checkpoint_archive_url("run-1", "weights/epoch-1")?;
    /// println!("valid until {}", archive.expires);
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_checkpoint_archive_url(
        &self,
        training_run_id: &str,
        checkpoint_id: &str,
    ) -> Result<CheckpointArchiveUrlResponse> {
        let operation = "get_checkpoint_archive_url";
        self.archive_url(&CheckpointEndpoint::by_ids(operation, training_run_id, checkpoint_id)?)
    }

    /// Like [`get_checkpoint_archive_url`](RestClient::get_checkpoint_archive_url), for a path.
    ///
    /// # Errors
    ///
    /// The same errors.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// let archive = rest.get_checkpoint_archive_url_from_tinker_path("tinker://run-1/weights/epoch-1")?;
    /// println!("valid until {}", archive.expires);
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_checkpoint_archive_url_from_tinker_path(
        &self,
        tinker_path: &str,
    ) -> Result<CheckpointArchiveUrlResponse> {
        self.archive_url(&CheckpointEndpoint::by_path("get_checkpoint_archive_url_from_tinker_path", tinker_path)?)
    }

    /// Deletes a checkpoint permanently.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors). If the first attempt failed after it was carried out, the next one finds that
    /// the checkpoint no longer exists (404); [`may_have_taken_effect`](crate::Error::may_have_taken_effect) is then true.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// rest.delete_checkpoint("run-1", "weights/epoch-1")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn delete_checkpoint(&self, training_run_id: &str, checkpoint_id: &str) -> Result<()> {
        self.change(
            Method::Delete,
            &CheckpointEndpoint::by_ids("delete_checkpoint", training_run_id, checkpoint_id)?,
            "",
        )
    }

    /// Like [`delete_checkpoint`](RestClient::delete_checkpoint), for a path.
    ///
    /// # Errors
    ///
    /// The same errors.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// rest.delete_checkpoint_from_tinker_path("tinker://run-1/weights/epoch-1")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn delete_checkpoint_from_tinker_path(&self, tinker_path: &str) -> Result<()> {
        self.change(
            Method::Delete,
            &CheckpointEndpoint::by_path("delete_checkpoint_from_tinker_path", tinker_path)?,
            "",
        )
    }

    /// Makes a checkpoint public: others can use it.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// rest.publish_checkpoint("run-1", "weights/epoch-1")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish_checkpoint(&self, training_run_id: &str, checkpoint_id: &str) -> Result<()> {
        self.change(
            Method::Post,
            &CheckpointEndpoint::by_ids("publish_checkpoint", training_run_id, checkpoint_id)?,
            PUBLISH,
        )
    }

    /// Like [`publish_checkpoint`](RestClient::publish_checkpoint), for a path.
    ///
    /// # Errors
    ///
    /// The same errors.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// rest.publish_checkpoint_from_tinker_path("tinker://run-1/weights/epoch-1")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish_checkpoint_from_tinker_path(&self, tinker_path: &str) -> Result<()> {
        self.change(
            Method::Post,
            &CheckpointEndpoint::by_path("publish_checkpoint_from_tinker_path", tinker_path)?,
            PUBLISH,
        )
    }

    /// Makes a checkpoint private again.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// rest.unpublish_checkpoint("run-1", "weights/epoch-1")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn unpublish_checkpoint(&self, training_run_id: &str, checkpoint_id: &str) -> Result<()> {
        self.change(
            Method::Delete,
            &CheckpointEndpoint::by_ids("unpublish_checkpoint", training_run_id, checkpoint_id)?,
            PUBLISH,
        )
    }

    /// Like [`unpublish_checkpoint`](RestClient::unpublish_checkpoint), for a path.
    ///
    /// # Errors
    ///
    /// The same errors.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// rest.unpublish_checkpoint_from_tinker_path("tinker://run-1/weights/epoch-1")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn unpublish_checkpoint_from_tinker_path(&self, tinker_path: &str) -> Result<()> {
        self.change(
            Method::Delete,
            &CheckpointEndpoint::by_path("unpublish_checkpoint_from_tinker_path", tinker_path)?,
            PUBLISH,
        )
    }

    /// Sets when a checkpoint expires and is deleted: this long from now, in whole seconds, or never.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors); [`InvalidInput`](crate::ErrorKind::InvalidInput) before any request for less
    /// than 1 hour or more than 10 years.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// use std::time::Duration;
    ///
    /// rest.set_checkpoint_ttl("run-1", "weights/0001", Some(Duration::from_secs(7 * 24 * 3600)))?;
    /// rest.set_checkpoint_ttl("run-1", "weights/0002", None)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_checkpoint_ttl(&self, training_run_id: &str, checkpoint_id: &str, ttl: Option<Duration>) -> Result<()> {
        self.set_ttl(CheckpointEndpoint::by_ids("set_checkpoint_ttl", training_run_id, checkpoint_id)?, ttl)
    }

    /// Like [`set_checkpoint_ttl`](RestClient::set_checkpoint_ttl), for a path.
    ///
    /// # Errors
    ///
    /// The same errors.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// use std::time::Duration;
    ///
    /// let week = Duration::from_secs(7 * 24 * 3600);
    /// rest.set_checkpoint_ttl_from_tinker_path("tinker://run-1/weights/epoch-1", Some(week))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_checkpoint_ttl_from_tinker_path(&self, tinker_path: &str, ttl: Option<Duration>) -> Result<()> {
        self.set_ttl(CheckpointEndpoint::by_path("set_checkpoint_ttl_from_tinker_path", tinker_path)?, ttl)
    }

    /// The temporary URLs of the files of external weights, by `tinker://RUN/external_weights/NAME`. The URLs are signed: they
    /// give access to the files without a key. To save the files, use
    /// [`download_checkpoint_archive_from_tinker_path`](RestClient::download_checkpoint_archive_from_tinker_path).
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors); [`InvalidInput`](crate::ErrorKind::InvalidInput) before any request for a path
    /// of other weights.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// let files = rest.get_external_weights_urls("tinker://run-1/external_weights/adapter")?;
    /// println!("{} files, valid until {}", files.urls.len(), files.expires);
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_external_weights_urls(&self, tinker_path: &str) -> Result<ExternalWeightsUrlsResponse> {
        let operation = "get_external_weights_urls";
        let checkpoint = CheckpointEndpoint::by_path(operation, tinker_path)?;
        if !checkpoint.is_external {
            return Err(Error::invalid_input(format!("{tinker_path:?} is not the path of external weights"))
                .with_operation(operation)
                .with_hint("use tinker://RUN/external_weights/NAME, from save_weights_external"));
        }
        let response = self.http().send(&checkpoint.external_weights_request(), &self.limits(operation))?;
        endpoint::external_urls(operation, &response)
    }

    /// Copies a checkpoint to a project, as a checkpoint of a new run that cannot be trained on. Returns the copy's path. The
    /// service shares the bytes, so that this is quick.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors); [`InvalidInput`](crate::ErrorKind::InvalidInput) before any request without a
    /// destination, and for a time to live of less than 1 hour or more than 10 years.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// use tinkex::rest::CopyWeights;
    ///
    /// let copy = CopyWeights::new("tinker://run-1/weights/0001").destination_project_id("p-1");
    /// println!("copied to {}", rest.copy_weights(&copy)?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn copy_weights(&self, copy: &CopyWeights) -> Result<String> {
        let operation = "copy_weights";
        let named = |error: Error| error.with_operation(operation);
        let (body, overrides) = copy.request(self.config().project_id()).map_err(named)?;
        let request = Request { overrides: &overrides, ..Request::post("copy_weights", &[]) };
        let copied: CopyWeightsResponse = self.http().send_json(request, &self.limits(operation), &body)?;
        Ok(copied.tinker_path)
    }

    fn set_ttl(&self, checkpoint: CheckpointEndpoint, ttl: Option<Duration>) -> Result<()> {
        let CheckpointEndpoint { operation, path, .. } = checkpoint;
        let ttl_seconds = ttl.map(ttl_seconds).transpose().map_err(|error| error.with_operation(operation))?;
        self.put(operation, format!("{path}/ttl"), &SetCheckpointTtlRequest { ttl_seconds })
    }

    fn archive_url(&self, checkpoint: &CheckpointEndpoint) -> Result<CheckpointArchiveUrlResponse> {
        let operation = checkpoint.operation;
        let response = self.http().send(&checkpoint.archive_request(), &self.limits(operation));
        let response = response.map_err(|error| match error.status() {
            Some(404 | 405 | 410) => error.with_hint(endpoint::NO_ARCHIVE),
            _ => error,
        })?;
        endpoint::archive_url(operation, self.config(), response)
    }

    /// A request whose response has no content.
    fn change(&self, method: Method, checkpoint: &CheckpointEndpoint, below: &str) -> Result<()> {
        let request = Request { method, ..Request::get(format!("{}{below}", checkpoint.path)) };
        self.http().send(&request, &self.limits(checkpoint.operation)).map(drop)
    }
}
