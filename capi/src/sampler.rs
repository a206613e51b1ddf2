//! The sampling client.

use std::ffi::c_char;

use serde::Deserialize;
use tinkex::types::{ModelInput, SamplingParams, TensorData};
use tinkex::{SampleOptions, SamplingClient};

use crate::border::{self, Caller};
use crate::error::{Error, Status};
use crate::json;
use crate::outcome::Outcome;
use crate::pending::{Pending, finish, submit};
use crate::service::Service;
use crate::tokenizer::Tokenizer;

/// `tinkex_sampler`.
#[derive(Debug)]
pub struct Sampler(pub(crate) SamplingClient);

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SampleKeys {
    prompt: Option<ModelInput>,
    num_samples: Option<u32>,
    #[serde(deserialize_with = "json::object")]
    sampling_params: SamplingParams,
    prompt_logprobs: bool,
    topk_prompt_logprobs: u32,
    topk_sample_logprobs: u32,
    prompt_alt_tokens_k: u32,
    prompt_logprobs_last_n: Option<u32>,
    target_prompt_logprobs: Option<TensorData>,
}

/// The prompt and the options of a sample.
struct Sample {
    prompt: ModelInput,
    keys: SampleKeys,
}

impl Sample {
    fn read(caller: Caller, tokens: *const u32, count: usize, options_json: *const c_char) -> Result<Self, Error> {
        let name = "options_json";
        let tokens = caller.list(tokens, count, "prompt")?;
        let mut keys: SampleKeys = json::read_optional(caller.optional_text(options_json, name)?, name)?;
        let prompt = match keys.prompt.take() {
            Some(_) if !tokens.is_empty() => {
                return Err(Error::invalid("both prompt and the key \"prompt\" of options_json have one; give one"));
            }
            Some(prompt) => prompt,
            None => tokens.into(),
        };
        Ok(Sample { prompt, keys })
    }

    fn options(&self) -> SampleOptions<'_> {
        let keys = &self.keys;
        let mut options = SampleOptions::new(&self.prompt)
            .num_samples(keys.num_samples.unwrap_or(1))
            .sampling_params(keys.sampling_params.clone())
            .prompt_logprobs(keys.prompt_logprobs)
            .topk_prompt_logprobs(keys.topk_prompt_logprobs)
            .topk_sample_logprobs(keys.topk_sample_logprobs)
            .prompt_alt_tokens_k(keys.prompt_alt_tokens_k);
        if let Some(last_n) = keys.prompt_logprobs_last_n {
            options = options.prompt_logprobs_last_n(last_n);
        }
        if let Some(targets) = &keys.target_prompt_logprobs {
            options = options.target_prompt_logprobs(targets.clone());
        }
        options
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_sampler_create(
    service: *mut Service,
    model: *const c_char,
    sampler: *mut *mut Sampler,
    error: *mut *mut Error,
) -> Status {
    let create = |caller: Caller| {
        let place = caller.new_place(sampler, "sampler")?;
        let service = &caller.handle(service, "service")?.client;
        place.put_new(Sampler(service.create_sampling_client(caller.text(model, "model")?)?));
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, create) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_sampler_tokenizer(
    sampler: *mut Sampler,
    tokenizer: *mut *mut Tokenizer,
    error: *mut *mut Error,
) -> Status {
    let load = |caller: Caller| {
        let place = caller.new_place(tokenizer, "tokenizer")?;
        place.put_new(Tokenizer(caller.handle(sampler, "sampler")?.0.tokenizer()?));
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, load) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_sampler_sample(
    sampler: *mut Sampler,
    prompt: *const u32,
    count: usize,
    options_json: *const c_char,
    result: *mut *mut Outcome,
    error: *mut *mut Error,
) -> Status {
    let sample = |caller: Caller| {
        finish(caller, result, || {
            let client = &caller.handle(sampler, "sampler")?.0;
            let sample = Sample::read(caller, prompt, count, options_json)?;
            Ok(client.sample_with(sample.options())?)
        })
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, sample) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_sampler_submit_sample(
    sampler: *mut Sampler,
    prompt: *const u32,
    count: usize,
    options_json: *const c_char,
    pending: *mut *mut Pending,
    error: *mut *mut Error,
) -> Status {
    let sample = |caller: Caller| {
        submit(caller, pending, || {
            let client = &caller.handle(sampler, "sampler")?.0;
            let sample = Sample::read(caller, prompt, count, options_json)?;
            Ok(client.submit_sample_with(sample.options())?)
        })
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, sample) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_sampler_compute_logprobs(
    sampler: *mut Sampler,
    tokens: *const u32,
    count: usize,
    logprobs: *mut f32,
    has_logprob: *mut u8,
    error: *mut *mut Error,
) -> Status {
    let compute = |caller: Caller| {
        let client = &caller.handle(sampler, "sampler")?.0;
        let prompt = ModelInput::from(caller.list(tokens, count, "tokens")?);
        let space = caller.space(logprobs, count, "logprobs")?;
        let marks = caller.space(has_logprob, if has_logprob.is_null() { 0 } else { count }, "has_logprob")?;
        let values = client.compute_logprobs(&prompt)?;
        if values.len() != space.len() {
            let (given, wanted) = (values.len(), space.len());
            return Err(Error::decode(format!("the service sent {given} logprobs for {wanted} tokens")));
        }
        marks.fill(values.iter().map(|value| value.is_some().into()));
        space.fill(values.into_iter().map(|value| value.unwrap_or(f32::NAN)));
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, compute) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_sampler_free(sampler: *mut Sampler) {
    // SAFETY: the header says what the pointer is.
    unsafe { border::free(sampler) }
}
