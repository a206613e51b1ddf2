//! A model to sample from, with its tokenizer: what `sample`, `eval`, `chat` and `proxy` begin with.

use tinkex::{SamplingClient, ServiceClient, Tokenizer, TokenizerSource};

use crate::failure::Failure;
use crate::{offered, tokenizer_choice};

pub(crate) struct SampledModel {
    pub(crate) sampler: SamplingClient,
    pub(crate) tokenizer: Tokenizer,
    /// Where the chat template of the tokenizer is.
    pub(crate) source: TokenizerSource,
}

impl SampledModel {
    /// The model of this name or path, with the tokenizer that `--tokenizer` names, or else its own.
    pub(crate) fn find(service: &ServiceClient, model: &str, tokenizer: Option<&str>) -> Result<Self, Failure> {
        let sampler = service.create_sampling_client(model).map_err(|error| offered::explain(error, service, model))?;
        let of_model = || Ok((sampler.tokenizer()?, sampler.tokenizer_source()?));
        let (tokenizer, source) = tokenizer_choice::load(tokenizer, service.config(), of_model)?;
        Ok(SampledModel { sampler, tokenizer, source })
    }
}
