//! The base model of a sampling client, and its tokenizer.

use super::SamplingClient;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Limits, Purpose, Request, encode_segment};
use crate::rules::tokenizer_id;
use crate::tokenizer::Tokenizer;
#[cfg(feature = "tokenizers")]
use crate::tokenizer::TokenizerSource;
use crate::types::{SamplerResponse, TokenizerPackage};

impl SamplingClient {
    /// The name of the base model. Blocks for one request the first time, unless the client was opened on a base model.
    ///
    /// # Errors
    ///
    /// Any error of a request; status 404 from servers without information about samplers, such as those of the protocol 0.4.1.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(service: tinkex::ServiceClient) -> tinkex::Result<()> {
    /// let sampler = service.create_sampling_client("tinker://run-1/sampler_weights/0100")?;
    /// println!("an adapter of {}", sampler.get_base_model()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_base_model(&self) -> Result<String> {
        self.base_model("get_base_model")
    }

    /// The id of the model's tokenizer, which the Python client derives from the name of the base model. Blocks for one request
    /// the first time, unless the client was opened on a base model.
    ///
    /// # Errors
    ///
    /// As [`get_base_model`](SamplingClient::get_base_model).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(sampler: tinkex::SamplingClient) -> tinkex::Result<()> {
    /// println!("{}", sampler.tokenizer_id()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn tokenizer_id(&self) -> Result<String> {
        Ok(tokenizer_id::of_model(&self.base_model("tokenizer_id")?))
    }

    /// The model's tokenizer, from where [`TrainingClient::tokenizer`](crate::TrainingClient::tokenizer) gets it. Not cached:
    /// keep the returned tokenizer.
    ///
    /// # Errors
    ///
    /// As [`TrainingClient::tokenizer`](crate::TrainingClient::tokenizer) and [`tokenizer_id`](SamplingClient::tokenizer_id).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(sampler: tinkex::SamplingClient) -> tinkex::Result<()> {
    /// use tinkex::types::ModelInput;
    ///
    /// let tokenizer = sampler.tokenizer()?;
    /// let prompt = ModelInput::from_text(&tokenizer, "The weather today is")?;
    /// println!("{} tokens", prompt.len());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "get_tokenizer")]
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let deadline = self.blocking().deadline();
        let operation = "tokenizer";
        let (id, package) = (self.tokenizer_id()?, self.tokenizer_package(operation)?);
        Tokenizer::named(&id, self.session.config(), package, deadline, operation)
    }

    /// Where [`tokenizer`](SamplingClient::tokenizer) looks: as
    /// [`TrainingClient::tokenizer_source`](crate::TrainingClient::tokenizer_source). Blocks for one request the first time, unless
    /// the client was opened on a base model.
    ///
    /// # Errors
    ///
    /// As [`get_base_model`](SamplingClient::get_base_model).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # #[cfg(feature = "chat")]
    /// # fn f(sampler: tinkex::SamplingClient) -> Result<(), Box<dyn std::error::Error>> {
    /// use tinkex::chat::{ChatTemplate, Renderer};
    ///
    /// let tokenizer = sampler.tokenizer()?;
    /// let template = ChatTemplate::load(tokenizer.id(), &sampler.tokenizer_source()?)?.ok_or("it is no chat model")?;
    /// let renderer = Renderer::new(template, tokenizer)?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tokenizers")]
    pub fn tokenizer_source(&self) -> Result<TokenizerSource> {
        let package = self.tokenizer_package("tokenizer_source")?;
        Ok(TokenizerSource::of_service(self.session.config(), package))
    }

    /// What the service says of the tokenizer's files. One that never says anything is not asked.
    fn tokenizer_package(&self, operation: &'static str) -> Result<Option<TokenizerPackage>> {
        if let Some(known) = self.sampler.tokenizer_package() {
            return Ok(known.clone());
        }
        // Of a handle, the base model alone is known.
        let says_more = self.session.http().client_config().tokenizer_packages;
        if self.sampler.base_model().is_some() && !says_more {
            return Ok(None);
        }
        Ok(self.describe(operation)?.tokenizer_package)
    }

    pub(super) fn base_model(&self, operation: &'static str) -> Result<String> {
        match self.sampler.base_model() {
            Some(known) => Ok(known.to_owned()),
            None => Ok(self.describe(operation)?.base_model),
        }
    }

    /// Asks the service for the base model, and what it says of its tokenizer.
    fn describe(&self, operation: &'static str) -> Result<SamplerResponse> {
        let path = format!("samplers/{}", encode_segment(self.sampling_session_id()));
        let http = self.session.http();
        let limits = Limits { deadline: self.blocking().deadline(), ..http.limits(operation, Purpose::Session) };
        let sampler: SamplerResponse = http.send(&Request::get(path), &limits)?.json(operation)?;
        if sampler.base_model.trim().is_empty() {
            let error = Error::new(ErrorKind::Decode, "the service does not name the base model");
            return Err(error.with_operation(operation).with_hint("load the tokenizer by its id or from a file"));
        }
        self.sampler.know_base_model(sampler.base_model.clone());
        self.sampler.know_tokenizer_package(sampler.tokenizer_package.clone());
        Ok(sampler)
    }
}
