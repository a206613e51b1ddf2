//! From requests of the protocol to the inputs of a model, with every check that a model may rely on.

mod loss_inputs;
mod loss_settings;
mod memory;
mod optimizer;
mod pass;
mod pass_request;
mod sample;
mod weights;

pub(super) use self::memory::check_pass;
pub(super) use self::optimizer::{OptimStep, optimizer};
pub(super) use self::pass::batch;
pub(super) use self::pass_request::pass_request;
pub(super) use self::sample::sample_params;
pub(super) use self::weights::{checkpoint_name, lora_config, ttl};
use super::body::bad_request;
use crate::local::model::Model;
use crate::local::server::http1::Response;
use crate::types::ModelInput;

/// The maximum length of a project's id, in bytes.
const MAX_PROJECT_ID: usize = 256;

/// Checks the name of a project, which comes into being when something is put into it.
pub(super) fn check_project_id(field: &str, id: &str) -> Result<(), Response> {
    match id.len() {
        0 => Err(bad_request(format!("{field} is empty: name the project"))),
        1..=MAX_PROJECT_ID => Ok(()),
        length => {
            Err(bad_request(format!("{field} has {length} bytes, more than {MAX_PROJECT_ID}: use a shorter one")))
        }
    }
}

fn tokens(model: &dyn Model, input: &ModelInput) -> Result<Vec<u32>, String> {
    let tokens = input.to_tokens().map_err(|error| error.to_string())?;
    tokens.iter().try_for_each(|&token| check_token(model, token.into()).map(drop))?;
    Ok(tokens)
}

fn check_token(model: &dyn Model, token: i64) -> Result<u32, String> {
    let id = u32::try_from(token).ok().filter(|&id| (id as usize) < model.vocab_size());
    id.ok_or_else(|| format!("token {token} is outside the vocabulary of {} tokens", model.vocab_size()))
}
