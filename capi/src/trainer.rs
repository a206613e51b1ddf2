//! The training client.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::time::Duration;

use serde::Deserialize;
use tinkex::serde_json::{self, Value};
use tinkex::types::{
    AdamParams, DimuonParams, LoadOptions, LoraConfig, Loss, LossFn, OptimParams, OptimizerConfig, SamplerSaveOptions,
    SaveOptions,
};
use tinkex::{TrainingClient, TrainingOptions};

use crate::batch::Batch;
use crate::border::{self, Caller};
use crate::error::{Error, Status};
use crate::json;
use crate::outcome::Outcome;
use crate::pending::{Pending, finish, submit};
use crate::sampler::Sampler;
use crate::service::Service;
use crate::tokenizer::Tokenizer;

/// `tinkex_trainer`.
#[derive(Debug)]
pub struct Trainer {
    pub(crate) client: TrainingClient,
    model_id: CString,
}

impl Trainer {
    fn new(client: TrainingClient) -> Self {
        Trainer { model_id: border::c_text(client.model_id()), client }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CreateOptions {
    #[serde(deserialize_with = "json::object")]
    lora_config: LoraConfig,
    optimizer_config: Option<Value>,
    user_metadata: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FromStateOptions {
    with_optimizer: bool,
    base_model: Option<String>,
    optimizer_config: Option<Value>,
    weights_access_token: Option<String>,
    user_metadata: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SaveKeys {
    ttl_seconds: Option<u64>,
    overwrite: bool,
    user_metadata: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SamplerSaveKeys {
    ttl_seconds: Option<u64>,
    user_metadata: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LoadKeys {
    with_optimizer: bool,
    weights_access_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DimuonKeys {
    #[serde(rename = "type")]
    _type: String,
    learning_rate: f64,
    #[serde(default)]
    grad_clip_norm: Option<f64>,
    #[serde(default)]
    beta1: Option<f64>,
}

const OPTIONS: &str = "options_json";

/// An optimizer, of which the library knows every setting.
fn optimizer(given: Value) -> Result<OptimizerConfig, Error> {
    let wrong = |error: serde_json::Error| Error::invalid(format!("{OPTIONS}: optimizer_config: {error}"));
    let config: OptimizerConfig = serde_json::from_value(given.clone()).map_err(wrong)?;
    let known = serde_json::to_value(&config).map_err(wrong)?;
    match given.as_object().into_iter().flatten().find(|(key, _)| known.get(key).is_none()) {
        Some((key, _)) => Err(Error::invalid(format!("{OPTIONS}: unknown key optimizer_config.{key}"))),
        None => Ok(config),
    }
}

/// What a pass takes: the examples and the loss.
fn pass(
    caller: Caller,
    batch: *const Batch,
    loss_name: *const c_char,
    loss_config_json: *const c_char,
) -> Result<(tinkex::types::Batch, Loss), Error> {
    let batch = caller.handle(batch, "batch")?.get();
    let mut loss = Loss::new(LossFn::from(caller.text(loss_name, "loss")?));
    loss.config = json::read_optional(caller.optional_text(loss_config_json, "loss_config_json")?, "loss_config_json")?;
    Ok((batch, loss))
}

fn optim_params(caller: Caller, params_json: *const c_char) -> Result<OptimParams, Error> {
    let name = "params_json";
    let Some(text) = caller.optional_text(params_json, name)? else { return Ok(AdamParams::default().into()) };
    let mut given = serde_json::from_str::<Value>(text).unwrap_or_default();
    match given.as_object_mut().and_then(|keys| keys.remove("type")) {
        None => return Ok(json::read::<AdamParams>(text, name)?.into()),
        Some(Value::String(adamw)) if adamw == "adamw" => {
            return Ok(json::read::<AdamParams>(&given.to_string(), name)?.into());
        }
        Some(Value::String(dimuon)) if dimuon == "dimuon" => {}
        Some(other) => return Err(Error::invalid(format!("{name}: type is {other}; use \"adamw\" or \"dimuon\""))),
    }
    let keys: DimuonKeys = json::read(text, name)?;
    let mut params = DimuonParams::new(keys.learning_rate);
    params.grad_clip_norm = keys.grad_clip_norm.unwrap_or(params.grad_clip_norm);
    params.beta1 = keys.beta1.unwrap_or(params.beta1);
    Ok(params.into())
}

fn save_options(caller: Caller, name: *const c_char, options_json: *const c_char) -> Result<SaveOptions, Error> {
    let keys: SaveKeys = json::read_optional(caller.optional_text(options_json, OPTIONS)?, OPTIONS)?;
    let mut options = SaveOptions::new(caller.text(name, "name")?).overwrite(keys.overwrite);
    (options.ttl, options.user_metadata) = (keys.ttl_seconds.map(Duration::from_secs), keys.user_metadata);
    Ok(options)
}

fn sampler_save_options(
    caller: Caller,
    name: *const c_char,
    options_json: *const c_char,
) -> Result<SamplerSaveOptions, Error> {
    let keys: SamplerSaveKeys = json::read_optional(caller.optional_text(options_json, OPTIONS)?, OPTIONS)?;
    let mut options = SamplerSaveOptions::new(caller.text(name, "name")?);
    (options.ttl, options.user_metadata) = (keys.ttl_seconds.map(Duration::from_secs), keys.user_metadata);
    Ok(options)
}

/// What to load, and whether with the optimizer's state.
fn load_options(
    caller: Caller,
    path: *const c_char,
    options_json: *const c_char,
) -> Result<(LoadOptions, bool), Error> {
    let keys: LoadKeys = json::read_optional(caller.optional_text(options_json, OPTIONS)?, OPTIONS)?;
    let mut options = LoadOptions::new(caller.text(path, "path")?);
    options.weights_access_token = keys.weights_access_token;
    Ok((options, keys.with_optimizer))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_trainer_create(
    service: *mut Service,
    base_model: *const c_char,
    options_json: *const c_char,
    trainer: *mut *mut Trainer,
    error: *mut *mut Error,
) -> Status {
    let create = |caller: Caller| {
        let place = caller.new_place(trainer, "trainer")?;
        let service = &caller.handle(service, "service")?.client;
        let base_model = caller.text(base_model, "base_model")?;
        let keys: CreateOptions = json::read_optional(caller.optional_text(options_json, OPTIONS)?, OPTIONS)?;
        let mut options = TrainingOptions::from(keys.lora_config);
        if let Some(config) = keys.optimizer_config {
            options = options.optimizer_config(optimizer(config)?);
        }
        let options =
            keys.user_metadata.into_iter().fold(options, |options, (key, value)| options.user_metadata(key, value));
        place.put_new(Trainer::new(service.training_client().lora(base_model).options(options).create()?));
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, create) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_trainer_create_from_state(
    service: *mut Service,
    path: *const c_char,
    options_json: *const c_char,
    trainer: *mut *mut Trainer,
    error: *mut *mut Error,
) -> Status {
    let create = |caller: Caller| {
        let place = caller.new_place(trainer, "trainer")?;
        let service = &caller.handle(service, "service")?.client;
        let mut builder = service.training_client().from_state(caller.text(path, "path")?);
        let keys: FromStateOptions = json::read_optional(caller.optional_text(options_json, OPTIONS)?, OPTIONS)?;
        if keys.with_optimizer {
            builder = builder.with_optimizer();
        }
        if let Some(base_model) = keys.base_model {
            builder = builder.base_model(base_model);
        }
        if let Some(config) = keys.optimizer_config {
            builder = builder.optimizer_config(optimizer(config)?);
        }
        if let Some(token) = keys.weights_access_token {
            builder = builder.weights_access_token(token);
        }
        let builder =
            keys.user_metadata.into_iter().fold(builder, |builder, (key, value)| builder.user_metadata(key, value));
        place.put_new(Trainer::new(builder.create()?));
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, create) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_trainer_model_id(trainer: *const Trainer) -> *const c_char {
    // SAFETY: the header says what the pointer is.
    unsafe { border::read(trainer, std::ptr::null(), |trainer| trainer.model_id.as_ptr()) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_trainer_tokenizer(
    trainer: *mut Trainer,
    tokenizer: *mut *mut Tokenizer,
    error: *mut *mut Error,
) -> Status {
    let load = |caller: Caller| {
        let place = caller.new_place(tokenizer, "tokenizer")?;
        place.put_new(Tokenizer(caller.handle(trainer, "trainer")?.client.tokenizer()?));
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, load) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_trainer_get_sampler(
    trainer: *mut Trainer,
    sampler: *mut *mut Sampler,
    error: *mut *mut Error,
) -> Status {
    let save = |caller: Caller| {
        let place = caller.new_place(sampler, "sampler")?;
        let client = caller.handle(trainer, "trainer")?.client.save_weights_and_get_sampling_client()?;
        place.put_new(Sampler(client));
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, save) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_trainer_free(trainer: *mut Trainer) {
    // SAFETY: the header says what the pointer is.
    unsafe { border::free(trainer) }
}

/// Defines the two forms of an operation: one that blocks, and one that submits.
macro_rules! operation {
    ($blocking:ident $submitting:ident ($($argument:ident: $type:ty),*) |$caller:ident, $client:ident| {
        let $arguments:ident = $read:expr;
        $block:expr;
        $submit:expr;
    }) => {
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $blocking(
            trainer: *mut Trainer,
            $($argument: $type,)*
            result: *mut *mut Outcome,
            error: *mut *mut Error,
        ) -> Status {
            let run = |$caller: Caller| {
                finish($caller, result, || {
                    let $client = &$caller.handle(trainer, "trainer")?.client;
                    let $arguments = $read;
                    Ok($block?)
                })
            };
            // SAFETY: the header says what the pointers are.
            unsafe { border::call(error, run) }
        }

        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $submitting(
            trainer: *mut Trainer,
            $($argument: $type,)*
            pending: *mut *mut Pending,
            error: *mut *mut Error,
        ) -> Status {
            let run = |$caller: Caller| {
                submit($caller, pending, || {
                    let $client = &$caller.handle(trainer, "trainer")?.client;
                    let $arguments = $read;
                    Ok($submit?)
                })
            };
            // SAFETY: the header says what the pointers are.
            unsafe { border::call(error, run) }
        }
    };
}

pub(crate) use operation;

operation! {
    tinkex_trainer_forward tinkex_trainer_submit_forward
    (batch: *const Batch, loss_name: *const c_char, loss_config_json: *const c_char) |caller, client| {
        let pass = pass(caller, batch, loss_name, loss_config_json)?;
        client.forward(pass.0, pass.1);
        client.submit_forward(pass.0, pass.1);
    }
}

operation! {
    tinkex_trainer_forward_backward tinkex_trainer_submit_forward_backward
    (batch: *const Batch, loss_name: *const c_char, loss_config_json: *const c_char) |caller, client| {
        let pass = pass(caller, batch, loss_name, loss_config_json)?;
        client.forward_backward(pass.0, pass.1);
        client.submit_forward_backward(pass.0, pass.1);
    }
}

operation! {
    tinkex_trainer_optim_step tinkex_trainer_submit_optim_step
    (params_json: *const c_char) |caller, client| {
        let params = optim_params(caller, params_json)?;
        client.optim_step(params);
        client.submit_optim_step(params);
    }
}

operation! {
    tinkex_trainer_save_state tinkex_trainer_submit_save_state
    (name: *const c_char, options_json: *const c_char) |caller, client| {
        let options = save_options(caller, name, options_json)?;
        client.save_state(options);
        client.submit_save_state(options);
    }
}

operation! {
    tinkex_trainer_save_weights_for_sampler tinkex_trainer_submit_save_weights_for_sampler
    (name: *const c_char, options_json: *const c_char) |caller, client| {
        let options = sampler_save_options(caller, name, options_json)?;
        client.save_weights_for_sampler(options);
        client.submit_save_weights_for_sampler(options);
    }
}

operation! {
    tinkex_trainer_load_state tinkex_trainer_submit_load_state
    (path: *const c_char, options_json: *const c_char) |caller, client| {
        let options = load_options(caller, path, options_json)?;
        if options.1 { client.load_state_with_optimizer(options.0) } else { client.load_state(options.0) };
        if options.1 { client.submit_load_state_with_optimizer(options.0) } else { client.submit_load_state(options.0) };
    }
}

operation! {
    tinkex_trainer_unload_model tinkex_trainer_submit_unload_model
    () |caller, client| {
        let _nothing = ();
        client.unload_model();
        client.submit_unload_model();
    }
}
