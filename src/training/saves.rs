//! Turns saves and loads of weights into requests.

use std::sync::Arc;

use super::TrainingClient;
use super::requests::Body;
use crate::error::{Error, ErrorKind, Result};
use crate::http::to_json;
use crate::pending::{CallMode, Pending, SubmittedCall};
use crate::sampling::SamplingClient;
use crate::types::wire::{
    LoadWeightsRequest, SaveWeightsForSamplerRequest, SaveWeightsForSamplerResponse, SaveWeightsRequest,
};
use crate::types::{LoadWeightsResponse, RequestKind, SaveWeightsResponse, check_path};

impl TrainingClient {
    pub(super) fn queue_save_state(&self, name: &str, mode: CallMode) -> Result<Pending<SaveWeightsResponse>> {
        let operation = "save_state";
        let (name, model_id) = (checked_name(operation, name)?, Arc::clone(&self.core.model_id));
        let body: Body = Box::new(move |seq_id| {
            let path = Some((&*name).into());
            to_json(operation, &SaveWeightsRequest { model_id: (&*model_id).into(), path, seq_id: Some(seq_id) })
        });
        Ok(self.queue_one(operation, "save_weights", RequestKind::SaveWeights, body, mode)?.pending_one())
    }

    pub(crate) fn queue_load_state(
        &self,
        path: &str,
        optimizer: bool,
        mode: CallMode,
    ) -> Result<Pending<LoadWeightsResponse>> {
        let operation = if optimizer { "load_state_with_optimizer" } else { "load_state" };
        // Servers of the protocol 0.4.1 do not know the field.
        let optimizer = optimizer.then_some(true);
        check_path(path).map_err(|error| error.with_operation(operation))?;
        let (path, model_id) = (path.to_owned(), Arc::clone(&self.core.model_id));
        let body: Body = Box::new(move |seq_id| {
            let (model_id, path) = ((&*model_id).into(), (&*path).into());
            to_json(operation, &LoadWeightsRequest { model_id, path, optimizer, seq_id: Some(seq_id) })
        });
        Ok(self.queue_one(operation, "load_weights", RequestKind::LoadWeights, body, mode)?.pending_one())
    }

    pub(super) fn queue_save_for_sampler(&self, name: &str, mode: CallMode) -> Result<Pending<SaveWeightsResponse>> {
        let operation = "save_weights_for_sampler";
        let name = checked_name(operation, name)?;
        let call = self.save_for_sampler(operation, Some(name), mode)?;
        Ok(call.pending(move |saved| {
            let path = saved.into_iter().find_map(|saved| saved.path);
            path.map(|path| SaveWeightsResponse { path })
                .ok_or_else(|| Error::new(ErrorKind::Decode, "the service saved the weights but returned no path"))
        }))
    }

    pub(super) fn queue_sampling_client(&self, mode: CallMode) -> Result<Pending<SamplingClient>> {
        let operation = "save_weights_and_get_sampling_client";
        let (session, timeout) = (self.core.session.clone(), self.timeout_operation);
        let call = self.save_for_sampler(operation, None, mode)?;
        Ok(call.pending(move |saved| {
            let saved = saved.into_iter().next();
            let client = match saved.map(|saved| (saved.sampling_session_id, saved.path)) {
                Some((Some(id), _)) => SamplingClient::new(&session, id),
                Some((None, Some(path))) => {
                    SamplingClient::open(operation, &session, None, Some(&path), mode.deadline())?
                }
                _ => {
                    let message = "the service saved the weights but returned neither a sampling session nor a path";
                    return Err(Error::new(ErrorKind::Decode, message));
                }
            };
            Ok(client.with_timeout_operation(timeout))
        }))
    }

    fn save_for_sampler(
        &self,
        operation: &'static str,
        name: Option<String>,
        mode: CallMode,
    ) -> Result<SubmittedCall<SaveWeightsForSamplerResponse>> {
        let model_id = Arc::clone(&self.core.model_id);
        let sampling_sessions = self.core.session.inner().sampling_sessions().clone();
        let mut sampling_session = None;
        let body: Body = Box::new(move |seq_id| {
            let next = || *sampling_session.get_or_insert_with(|| sampling_sessions.next());
            let sampling_session_seq_id = name.is_none().then(next);
            let (model_id, path) = ((&*model_id).into(), name.as_deref().map(Into::into));
            let seq_id = Some(seq_id);
            to_json(operation, &SaveWeightsForSamplerRequest { model_id, path, sampling_session_seq_id, seq_id })
        });
        self.queue_one(operation, "save_weights_for_sampler", RequestKind::SaveWeightsForSampler, body, mode)
    }
}

fn checked_name(operation: &'static str, name: &str) -> Result<String> {
    if name.trim().is_empty() {
        return Err(Error::invalid_input("the name of the checkpoint is empty").with_operation(operation));
    }
    Ok(name.to_owned())
}
