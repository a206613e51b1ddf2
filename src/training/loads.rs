//! Loads of saved weights.

use std::sync::Arc;

use super::TrainingClient;
use super::requests::Body;
use crate::error::Result;
use crate::http::to_json;
use crate::pending::{CallMode, Pending};
use crate::rules::single_line;
use crate::types::wire::LoadWeightsRequest;
use crate::types::{LoadOptions, LoadWeightsResponse, RequestKind, check_path};

impl TrainingClient {
    /// Loads an adapter that [`save_state`](TrainingClient::save_state) saved, from its path. Blocks.
    ///
    /// The path alone is enough; [`LoadOptions`] add a token for weights of another user. Some services load only into a model
    /// that has not trained yet. [`ServiceClient::training_client`](crate::ServiceClient::training_client) creates one from a
    /// saved state.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a text that is not a path, before any request; otherwise any error
    /// of a request.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// use tinkex::types::LoadOptions;
    ///
    /// trainer.load_state("tinker://run-1/weights/0100")?;
    /// let token = std::env::var("WEIGHTS_TOKEN").unwrap_or_default();
    /// trainer.load_state(LoadOptions::new("tinker://run-2/weights/0100").weights_access_token(token))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn load_state(&self, options: impl Into<LoadOptions>) -> Result<LoadWeightsResponse> {
        self.queue_load_state(options.into(), false, self.blocking())?.wait()
    }

    /// Submits [`load_state`](TrainingClient::load_state).
    ///
    /// # Errors
    ///
    /// As [`submit_forward_backward`](TrainingClient::submit_forward_backward).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// let loaded = trainer.submit_load_state("tinker://run-1/weights/epoch-1")?;
    /// loaded.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit_load_state(&self, options: impl Into<LoadOptions>) -> Result<Pending<LoadWeightsResponse>> {
        self.queue_load_state(options.into(), false, self.submitting())
    }

    /// Loads an adapter and the optimizer's state, as [`save_state`](TrainingClient::save_state) saved them. Blocks.
    ///
    /// Servers of the protocol 0.4.1 ignore the optimizer's state and load the adapter alone.
    ///
    /// # Errors
    ///
    /// As [`load_state`](TrainingClient::load_state).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// trainer.load_state_with_optimizer("tinker://run-1/weights/epoch-1")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn load_state_with_optimizer(&self, options: impl Into<LoadOptions>) -> Result<LoadWeightsResponse> {
        self.queue_load_state(options.into(), true, self.blocking())?.wait()
    }

    /// Submits [`load_state_with_optimizer`](TrainingClient::load_state_with_optimizer).
    ///
    /// # Errors
    ///
    /// As [`submit_forward_backward`](TrainingClient::submit_forward_backward).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// let loaded = trainer.submit_load_state_with_optimizer("tinker://run-1/weights/epoch-1")?;
    /// loaded.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit_load_state_with_optimizer(
        &self,
        options: impl Into<LoadOptions>,
    ) -> Result<Pending<LoadWeightsResponse>> {
        self.queue_load_state(options.into(), true, self.submitting())
    }

    pub(crate) fn queue_load_state(
        &self,
        options: LoadOptions,
        optimizer: bool,
        mode: CallMode,
    ) -> Result<Pending<LoadWeightsResponse>> {
        let operation = if optimizer { "load_state_with_optimizer" } else { "load_state" };
        let token = options.weights_access_token.as_deref().unwrap_or_default();
        check_path(&options.path)
            .and_then(|()| single_line::check_secret("the weights access token", token))
            .map_err(|error| error.with_operation(operation))?;
        let model_id = Arc::clone(&self.core.model_id);
        let body: Body = Box::new(move |seq_id| {
            let request = LoadWeightsRequest {
                model_id: Some((&*model_id).into()),
                seq_id: Some(seq_id),
                path: (&*options.path).into(),
                optimizer,
                weights_access_token: options.weights_access_token.as_deref().map(Into::into),
                ..LoadWeightsRequest::default()
            };
            to_json(operation, &request)
        });
        Ok(self.queue_one(operation, "load_weights", RequestKind::LoadWeights, body, mode)?.pending_one())
    }
}
