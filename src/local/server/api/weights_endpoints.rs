//! Saving and loading the weights of training runs.

use serde::Deserialize;

use super::body::{self, bad_request};
use super::call::{Call, HandlerResult};
use super::decode;
use crate::local::server::http1::Response;
use crate::local::server::state::Task;
use crate::types::SamplerKind;
use crate::types::wire::{LoadWeightsRequest, SaveWeightsForSamplerRequest, SaveWeightsRequest};

/// A field that later protocol versions add to both ways of saving.
#[derive(Deserialize)]
struct SaveTtl {
    ttl_seconds: Option<u64>,
}

pub(super) fn save_weights(call: &Call<'_>) -> HandlerResult {
    let body: SaveWeightsRequest<'_> = body::parse(call.request)?;
    call.save(&body.model_id, body.seq_id, "weights", body.path.as_deref())
}

pub(super) fn save_weights_for_sampler(call: &Call<'_>) -> HandlerResult {
    let body: SaveWeightsForSamplerRequest<'_> = body::parse(call.request)?;
    if body.kind.is_some_and(|kind| kind != SamplerKind::Snapshot) {
        return Err(bad_request("the local server has only sampling clients of the kind snapshot"));
    }
    let Some(sampler_seq) = body.sampling_session_seq_id else {
        return call.save(&body.model_id, body.seq_id, "sampler_weights", body.path.as_deref());
    };
    call.submit(&body.model_id, body.seq_id, |tables| {
        let session_id = tables.run(&body.model_id, &call.owner)?.record.session_id.clone();
        let session = tables.session(&session_id, &call.owner)?;
        let sampler_id = session.sampler_id(&session_id, sampler_seq, call.fingerprint)?;
        if tables.samplers.contains_key(&sampler_id) {
            return Err(Response::error(409, &format!("{sampler_id} was opened before the server was restarted")));
        }
        Ok(Task::SaveForSampler { sampler_id })
    })
}

pub(super) fn load_weights(call: &Call<'_>) -> HandlerResult {
    let body: LoadWeightsRequest<'_> = body::parse(call.request)?;
    let model_id = body.model_id.ok_or_else(|| bad_request("model_id is missing: create the model first"))?;
    let task = Task::LoadCheckpoint { path: body.path.into_owned(), with_optimizer: body.optimizer };
    call.submit(&model_id, body.seq_id, |_| Ok(task))
}

impl Call<'_> {
    fn save(&self, model_id: &str, seq: Option<u64>, kind: &str, name: Option<&str>) -> HandlerResult {
        let SaveTtl { ttl_seconds } = body::parse(self.request)?;
        let name = decode::checkpoint_name(name)?;
        self.submit(model_id, seq, |tables| {
            let path = tables.reserve_checkpoint(model_id, kind, name)?;
            Ok(Task::SaveCheckpoint { path, ttl_seconds })
        })
    }
}
