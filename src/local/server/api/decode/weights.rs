//! The adapters of new training runs, and the names of checkpoints.

use std::time::Duration;

use crate::local::server::api::body::bad_request;
use crate::local::server::http1::Response;
use crate::local::server::path_segment::encode;
use crate::rules::ttl::MAX_SECONDS;
use crate::types::LoraConfig;

/// A larger rank is a mistake: an adapter is much narrower than its model.
const MAX_RANK: u32 = 1024;

/// Maximum length of the file name of a checkpoint, in bytes: common file systems allow 255, and a temporary name is longer.
const MAX_FILE_NAME: usize = 240;

/// The adapter of a new training run; defaults if the request has none.
pub(in crate::local::server::api) fn lora_config(config: Option<LoraConfig>) -> Result<LoraConfig, Response> {
    let config = config.unwrap_or_default();
    config.validate().map_err(|error| bad_request(error.to_string()))?;
    if config.rank > MAX_RANK {
        return Err(bad_request(format!("the LoRA rank is {}, more than {MAX_RANK}", config.rank)));
    }
    Ok(config)
}

/// Checks how long a checkpoint is to be kept. `None` keeps it until it is deleted.
pub(in crate::local::server::api) fn ttl(seconds: Option<u64>, min: Duration) -> Result<(), Response> {
    let allowed = min.as_secs()..=MAX_SECONDS;
    match seconds.filter(|seconds| !allowed.contains(seconds)) {
        None => Ok(()),
        Some(seconds) => Err(bad_request(format!(
            "ttl_seconds is {seconds}: use {} to {MAX_SECONDS}, or null to keep the checkpoint until it is deleted",
            allowed.start()
        ))),
    }
}

/// Checks the name of a checkpoint, which becomes one segment of its path.
pub(in crate::local::server::api) fn checkpoint_name(name: Option<&str>) -> Result<&str, Response> {
    let name = name.ok_or_else(|| bad_request("path is missing: it is the name of the checkpoint"))?;
    if name.is_empty() || name.contains(['/', '?', '#']) || name.chars().any(char::is_control) {
        return Err(bad_request(format!(
            "{name:?} is not a valid checkpoint name: use one path segment without /, ?, # and control characters"
        )));
    }
    if encode(name).len() > MAX_FILE_NAME {
        let limit = "240 bytes, with three for each byte that is not a letter, digit, -, _ or .";
        return Err(bad_request(format!("the checkpoint name is too long: the maximum is {limit}")));
    }
    Ok(name)
}
