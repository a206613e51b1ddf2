//! Creates training clients from a saved state.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::create::{Creation, WriteBody, create_model};
use super::{FromStateOptions, ServiceClient, TrainingOptions};
use crate::error::{Error, Result};
use crate::http::{Http, Limits, Purpose, Request, encode_segment, to_json};
use crate::pending::{CallMode, Pending};
use crate::rules::single_line;
use crate::session::Sequence;
use crate::training::TrainingClient;
use crate::types::wire::{LoadWeightsRequest, WeightsInfoRequest};
use crate::types::{
    CheckpointPath, LoadOptions, LoadWeightsResponse, LoraConfig, OptimizerConfig, RequestKind, TrainingRun,
    WeightsInfoResponse, check_path,
};

impl ServiceClient {
    pub(super) fn create_from_state(&self, from: FromStateOptions, mode: CallMode) -> Result<Pending<TrainingClient>> {
        let operation = match from.with_optimizer {
            true => "create_training_client_from_state_with_optimizer",
            false => "create_training_client_from_state",
        };
        let token = from.weights_access_token.as_deref().unwrap_or_default();
        check_path(&from.path)
            .and_then(|()| single_line::check_secret("the weights access token", token))
            .map_err(|error| error.with_operation(operation))?;
        if let Some(name) = &from.base_model {
            single_line::check_name("the name of the base model", name)
                .map_err(|error| error.with_operation(operation))?;
        }
        if from.weights_access_token.is_some() {
            return self.create_by_load(operation, from, mode);
        }
        let load = LoadOptions::new(&from.path);
        let with_optimizer = from.with_optimizer;
        let write_body = as_saved(operation, from, self.session_id(), self.session.inner().models().clone(), mode);
        self.create(Creation::of_model(operation, write_body), mode, move |trainer, mode| {
            trainer.queue_load_state(load, with_optimizer, mode)?.wait().map(|_| trainer)
        })
    }

    /// Creates a model and loads its weights in one request. A service that knows tokens knows this request too, and may hide
    /// from the token's holder what it would take to do it in two.
    fn create_by_load(
        &self,
        operation: &'static str,
        from: FromStateOptions,
        mode: CallMode,
    ) -> Result<Pending<TrainingClient>> {
        let model_seq_id = self.session.inner().models().next();
        let request = LoadWeightsRequest {
            session_id: Some(self.session_id().into()),
            model_seq_id: Some(model_seq_id),
            base_model: from.base_model.map(Cow::Owned),
            user_metadata: (!from.user_metadata.is_empty()).then_some(Cow::Owned(from.user_metadata)),
            path: from.path.into(),
            optimizer: from.with_optimizer,
            optimizer_config: from.optimizer_config.map(Cow::Owned),
            weights_access_token: from.weights_access_token.map(Cow::Owned),
            ..LoadWeightsRequest::default()
        };
        let body = to_json(operation, &request)?;
        let write_body: WriteBody = Box::new(|_| Ok(body));
        let creation = Creation { operation, path: "load_weights", kind: RequestKind::LoadWeights, write_body };
        // The official service does not repeat the id, which follows from the numbers.
        let model_id = format!("{}:train:{model_seq_id}", self.session_id());
        let of_response = |loaded: LoadWeightsResponse| loaded.model_id.unwrap_or(model_id);
        self.create_by(creation, mode, of_response, |trainer, _| Ok(trainer))
    }
}

/// Asks for what a checkpoint was saved from, and writes a create_model request like the one that made it. The caller's base
/// model, optimizer and metadata replace those of the checkpoint.
fn as_saved(
    operation: &'static str,
    from: FromStateOptions,
    session_id: &str,
    models: Sequence,
    mode: CallMode,
) -> WriteBody {
    let session_id = session_id.to_owned();
    Box::new(move |http| {
        let limits = Limits { deadline: mode.deadline(), ..http.limits(operation, Purpose::Session) };
        let Saved { base_model, mut options } = match CheckpointPath::for_url(&from.path) {
            Ok(path) => of_run(http, &limits, path.training_run_id())?,
            Err(_) => of_weights(http, &limits, &from.path)?,
        };
        let base_model = from.base_model.unwrap_or(base_model);
        options.optimizer_config = from.optimizer_config.or(options.optimizer_config);
        options.user_metadata.extend(from.user_metadata);
        // Only once the checkpoint is known, so that a failure leaves no gap.
        let model_seq_id = models.next();
        create_model(operation, &session_id, model_seq_id, &base_model, options)
    })
}

/// What a checkpoint was saved from.
struct Saved {
    base_model: String,
    options: TrainingOptions,
}

/// The model of a training run.
fn of_run(http: &Http, limits: &Limits, run: &str) -> Result<Saved> {
    let path = format!("training_runs/{}", encode_segment(run));
    let run: TrainingRun = http.send(&Request::get(path), limits)?.json(limits.operation)?;
    let Some(rank) = run.lora_rank.filter(|_| run.is_lora) else {
        let message = format!("the training run {:?} did not train a LoRA adapter", run.training_run_id);
        return Err(Error::invalid_input(message));
    };
    let user_metadata = run.user_metadata.unwrap_or_default();
    let options = TrainingOptions { lora: LoraConfig::new().rank(rank), optimizer_config: None, user_metadata };
    Ok(Saved { base_model: run.base_model, options })
}

/// The model of weights whose path does not name a training run in a form that is known.
fn of_weights(http: &Http, limits: &Limits, path: &str) -> Result<Saved> {
    let body = WeightsInfoRequest { tinker_path: path.into() };
    let info: WeightsInfoResponse = http.send_json(Request::reading("weights_info", &[]), limits, &body)?;
    let Some(rank) = info.lora_rank.filter(|_| info.is_lora) else {
        return Err(Error::invalid_input(format!("the weights at {path:?} are not a LoRA adapter")));
    };
    let mut lora = LoraConfig::new().rank(rank);
    lora.train_unembed = info.train_unembed.unwrap_or(lora.train_unembed);
    lora.train_mlp = info.train_mlp.unwrap_or(lora.train_mlp);
    lora.train_attn = info.train_attn.unwrap_or(lora.train_attn);
    let optimizer_config = Some(info.optimizer_config).filter(|config| *config != OptimizerConfig::default());
    let options = TrainingOptions { lora, optimizer_config, user_metadata: BTreeMap::new() };
    Ok(Saved { base_model: info.base_model, options })
}
