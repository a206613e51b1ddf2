//! The model to train, and the length of its context.

use tinkex::toolkit::SavedCheckpoint;
use tinkex::types::{LoraConfig, SupportedModel};
use tinkex::{ServiceClient, TrainingClient, TrainingOptions};

use super::train_options::Options;
use crate::failure::Failure;
use crate::offered;

/// A client for a new model, or for the model of the checkpoint that the run is resumed from.
pub(crate) fn training_client(
    service: &ServiceClient,
    options: &Options,
    name: &str,
    start: Option<&SavedCheckpoint>,
) -> Result<TrainingClient, Failure> {
    if let Some(SavedCheckpoint { path, .. }) = start {
        return Ok(service.training_client().from_state(path).with_optimizer().create()?);
    }
    let base_model = match &options.base_model {
        Some(name) => name.clone(),
        None => only_one(&service.get_server_capabilities()?.supported_models)?.to_owned(),
    };
    let lora = LoraConfig::default().rank(options.rank).seed(options.seed);
    let trainer =
        service.create_lora_training_client(&base_model, TrainingOptions::from(lora).user_metadata("name", name));
    trainer.map_err(|error| offered::explain(error, service, &base_model))
}

/// The model of a service that has only one.
pub(crate) fn only_one(models: &[SupportedModel]) -> Result<&str, Failure> {
    let names: Vec<&str> = models.iter().filter_map(|model| model.model_name.as_deref()).collect();
    match names[..] {
        [name] => Ok(name),
        _ => {
            let hint = format!("pass --base-model; the service has {}", names.join(", "));
            Err(Failure::usage("no base model given").hint(hint))
        }
    }
}

/// Checks that a checkpoint is of the base model that the options name, if they name one.
pub(crate) fn check(
    options: &Options,
    start: Option<&SavedCheckpoint>,
    trainer: &TrainingClient,
) -> Result<(), Failure> {
    let Some((requested, _)) = options.base_model.as_ref().zip(start) else { return Ok(()) };
    match name_of(trainer)?.filter(|actual| actual != requested) {
        None => Ok(()),
        Some(actual) => Err(Failure::usage(format!("the base model of the checkpoint is {actual}, not {requested}"))
            .hint("omit --base-model to use that of the checkpoint")),
    }
}

/// The maximum number of tokens of a model input: that of the options, or the model's context if the service tells it.
pub(crate) fn max_length(
    service: &ServiceClient,
    options: &Options,
    trainer: &TrainingClient,
) -> Result<Option<usize>, Failure> {
    let models = service.get_server_capabilities()?.supported_models;
    let name = name_of(trainer)?.or_else(|| options.base_model.clone());
    let model = models.into_iter().find(|model| model.model_name == name);
    let context = model.and_then(|model| model.max_context_length).and_then(|length| usize::try_from(length).ok());
    match (options.max_length, context) {
        (Some(wanted), Some(context)) if wanted > context => {
            Err(Failure::usage(format!("--max-length {wanted} is more than the model's context of {context} tokens")))
        }
        (wanted, context) => Ok(wanted.or(context)),
    }
}

fn name_of(trainer: &TrainingClient) -> Result<Option<String>, Failure> {
    let info = trainer.get_info()?;
    Ok(info.model_data.model_name.or(info.model_name))
}
