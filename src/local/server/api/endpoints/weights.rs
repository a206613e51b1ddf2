//! Saving and loading the weights of training runs.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::models::NewRun;
use crate::local::server::api::body::{self, bad_request};
use crate::local::server::api::call::{Call, HandlerResult};
use crate::local::server::api::decode;
use crate::local::server::http1::Response;
use crate::local::server::state::{CheckpointSource, Owner, SamplingSessionRecord, Tables, Task, Weights};
use crate::types::wire::{
    LoadWeightsRequest, SaveWeightsExternalRequest, SaveWeightsForSamplerRequest, SaveWeightsRequest,
};
use crate::types::{CheckpointPath, CheckpointType, SamplerKind};

/// What a save says about its checkpoint.
#[derive(Default)]
struct Save {
    overwrite: bool,
    ttl_seconds: Option<u64>,
    user_metadata: Option<BTreeMap<String, String>>,
}

pub(super) fn save_weights(call: &Call<'_>) -> HandlerResult {
    let body: SaveWeightsRequest<'_> = body::parse(call.request)?;
    let save = Save {
        overwrite: body.overwrite.unwrap_or_default(),
        ttl_seconds: body.ttl_seconds,
        user_metadata: body.user_metadata.map(Cow::into_owned),
    };
    call.save(&body.model_id, body.seq_id, "weights", body.path.as_deref(), save)
}

pub(super) fn save_weights_external(call: &Call<'_>) -> HandlerResult {
    let body: SaveWeightsExternalRequest<'_> = body::parse(call.request)?;
    if body.age_encryption_recipients.is_some_and(|recipients| !recipients.is_empty()) {
        return Err(bad_request(
            "the local server does not encrypt weights: leave age_encryption_recipients out, and encrypt the downloaded files",
        ));
    }
    let save = Save { ttl_seconds: body.ttl_seconds, ..Save::default() };
    call.save(&body.model_id, body.seq_id, "external_weights", Some(&body.path), save)
}

pub(super) fn save_weights_for_sampler(call: &Call<'_>) -> HandlerResult {
    let body: SaveWeightsForSamplerRequest<'_> = body::parse(call.request)?;
    let kind = body.kind.unwrap_or(SamplerKind::Snapshot);
    if let SamplerKind::Other(kind) = &kind {
        return Err(bad_request(format!("there is no kind {kind:?} of sampler weights: use snapshot or inflight")));
    }
    let Some(sampler_seq) = body.sampling_session_seq_id else {
        if kind == SamplerKind::Inflight {
            let detail = "inflight weights have no name: leave path out and send sampling_session_seq_id";
            return Err(bad_request(detail));
        }
        let save = Save {
            ttl_seconds: body.ttl_seconds,
            user_metadata: body.user_metadata.map(Cow::into_owned),
            ..Save::default()
        };
        return call.save(&body.model_id, body.seq_id, "sampler_weights", body.path.as_deref(), save);
    };
    let named = [
        ("path", body.path.is_some()),
        ("ttl_seconds", body.ttl_seconds.is_some()),
        ("user_metadata", body.user_metadata.is_some()),
    ];
    refuse_present(named, "is for weights with a name: leave it or sampling_session_seq_id out")?;
    call.submit(&body.model_id, body.seq_id, |tables| {
        let run = tables.run(&body.model_id, &call.owner)?.record.clone();
        // A run without a session has no worker, and `submit` refuses it before.
        let session_id = run.session_id.unwrap_or_default();
        let session = tables.session(&session_id, &call.owner)?;
        let sampler_id = session.sampler_id(&session_id, sampler_seq, call.fingerprint)?;
        if tables.samplers.contains_key(&sampler_id) {
            return Err(Response::error(400, &format!("{sampler_id} was opened before the server was restarted")));
        }
        let weights = match kind {
            SamplerKind::Inflight => Weights::Inflight { run: body.model_id.clone().into_owned(), lora: run.lora },
            _ => Weights::Snapshot(run.lora),
        };
        let record =
            SamplingSessionRecord { owner: call.owner.clone(), session_id, base_model: run.base_model, weights };
        Ok(Task::SaveForSampler { sampler_id, record })
    })
}

/// Loads weights into a training run, or into a new one.
pub(super) fn load_weights(call: &Call<'_>) -> HandlerResult {
    let body: LoadWeightsRequest<'_> = body::parse(call.request)?;
    let readers = call.readers(body.weights_access_token.as_deref());
    let source = CheckpointSource { path: body.path.clone().into_owned(), readers, with_optimizer: body.optimizer };
    match (body.model_id.as_deref(), body.session_id.as_deref(), body.model_seq_id) {
        (Some(model_id), None, None) => {
            let of_new = [
                ("base_model", body.base_model.is_some()),
                ("user_metadata", body.user_metadata.is_some()),
                ("optimizer_config", body.optimizer_config.is_some()),
            ];
            refuse_present(of_new, &format!("is for a new model: leave it out to load into the model {model_id}"))?;
            call.submit(model_id, body.seq_id, |_| Ok(Task::LoadCheckpoint(source)))
        }
        (None, Some(session_id), Some(model_seq)) => {
            call.create_run(session_id, model_seq, |tables| call.run_from(tables, &body, source))
        }
        _ => Err(bad_request(
            "send either model_id, to load into a model, or session_id and model_seq_id, to load into a new one",
        )),
    }
}

/// Refuses a body that has one of these fields.
fn refuse_present(fields: [(&str, bool); 3], why: &str) -> Result<(), Response> {
    let present = fields.into_iter().find(|(_, is_present)| *is_present);
    present.map_or(Ok(()), |(field, _)| Err(bad_request(format!("{field} {why}"))))
}

impl Call<'_> {
    fn save(&self, model_id: &str, seq: Option<u64>, kind: &str, name: Option<&str>, save: Save) -> HandlerResult {
        let name = decode::checkpoint_name(name)?;
        let Save { overwrite, ttl_seconds, user_metadata } = save;
        self.check_ttl(ttl_seconds)?;
        let path = CheckpointPath::try_from(format!("tinker://{model_id}/{kind}/{name}"))
            .map_err(|error| bad_request(error.to_string()))?;
        self.submit(model_id, seq, |tables| {
            tables.reserve_checkpoint(&path, overwrite)?;
            Ok(Task::SaveCheckpoint { path, ttl_seconds, user_metadata })
        })
    }

    /// A new run with the weights of a checkpoint, whose base model and adapter it has.
    fn run_from(
        &self,
        tables: &Tables,
        body: &LoadWeightsRequest<'_>,
        source: CheckpointSource,
    ) -> Result<NewRun, Response> {
        let path = &*body.path;
        let checkpoint = tables.readable_checkpoint(path, &source.readers)?;
        let is_training =
            path.parse::<CheckpointPath>().is_ok_and(|path| path.checkpoint_type() == CheckpointType::Training);
        if !is_training {
            return Err(bad_request(format!("{path} is not a training checkpoint: only these can be trained further")));
        }
        if let Some(base_model) = body.base_model.as_deref().filter(|name| *name != checkpoint.base_model) {
            let base = &checkpoint.base_model;
            return Err(bad_request(format!(
                "{path} has weights for {base}, not for {base_model}: leave base_model out, or create a model without weights"
            )));
        }
        Ok(NewRun {
            model: self.state.model(&checkpoint.base_model)?,
            lora: checkpoint.lora.clone(),
            optimizer: decode::optimizer(body.optimizer_config.as_deref())?,
            user_metadata: body.user_metadata.clone().map(Cow::into_owned),
            task: Task::CreateFrom(source),
        })
    }

    /// Whose weights the request may read: those of its own API key, and those of a further key or token.
    pub(super) fn readers(&self, token: Option<&str>) -> Vec<Owner> {
        let token = token.and_then(|token| self.context.authenticate(token).ok());
        [self.owner.clone()].into_iter().chain(token).collect()
    }

    /// Checks the time to live of a checkpoint.
    pub(super) fn check_ttl(&self, ttl_seconds: Option<u64>) -> Result<(), Response> {
        decode::ttl(ttl_seconds, self.context.min_ttl)
    }
}
