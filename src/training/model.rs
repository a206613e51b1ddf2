//! The model of a training client: what the service says about it, its tokenizer, and its end.

use super::TrainingClient;
use crate::error::Result;
use crate::http::{Limits, Purpose, Request};
use crate::observer::WaitKind;
use crate::pending::Pending;
use crate::rules::tokenizer_id;
use crate::tokenizer::Tokenizer;
#[cfg(feature = "tokenizers")]
use crate::tokenizer::TokenizerSource;
use crate::types::wire::GetInfoRequest;
use crate::types::{GetInfoResponse, UnloadModelResponse};

impl TrainingClient {
    /// Frees the model on the service, after all calls that were submitted before. Unsaved weights are lost, and later calls
    /// fail. Blocks.
    ///
    /// # Errors
    ///
    /// Any error of a request.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// trainer.save_state("last")?;
    /// trainer.unload_model()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn unload_model(&self) -> Result<UnloadModelResponse> {
        self.queue_unload_model(self.blocking())?.wait()
    }

    /// Submits [`unload_model`](TrainingClient::unload_model).
    ///
    /// # Errors
    ///
    /// As [`submit_forward_backward`](TrainingClient::submit_forward_backward).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// let unloaded = trainer.submit_unload_model()?;
    /// println!("{}", unloaded.wait()?.model_id);
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit_unload_model(&self) -> Result<Pending<UnloadModelResponse>> {
        self.queue_unload_model(self.submitting())
    }

    /// The service's information about the model. Blocks for one request, the first time; later calls of this client and its
    /// clones return the same information without a request.
    ///
    /// # Errors
    ///
    /// Any error of a request.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// let info = trainer.get_info()?;
    /// println!("{:?}, rank {:?}", info.model_name, info.lora_rank);
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_info(&self) -> Result<GetInfoResponse> {
        if let Some(info) = self.core.info.get() {
            return Ok(info.clone());
        }
        let http = self.core.session.http();
        let limits = Limits {
            deadline: self.blocking().deadline(),
            waits_for: Some(WaitKind::Request),
            ..http.limits("get_info", Purpose::Training)
        };
        let body = GetInfoRequest { model_id: (&*self.core.model_id).into() };
        let info: GetInfoResponse = http.send_json(Request::reading("get_info", &[]), &limits, &body)?;
        Ok(self.core.info.get_or_init(|| info).clone())
    }

    /// The id of the model's tokenizer: the service's, or else the one that the Python client derives from the model's name.
    /// Blocks for one request, the first time.
    ///
    /// # Errors
    ///
    /// Any error of a request.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// println!("{}", trainer.tokenizer_id()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn tokenizer_id(&self) -> Result<String> {
        let info = self.get_info()?;
        let model_name = info.model_data.model_name.or(info.model_name);
        tokenizer_id::of_info(info.model_data.tokenizer_id, model_name)
            .map_err(|error| error.with_operation("tokenizer_id"))
    }

    /// The model's tokenizer. Not cached: keep the returned tokenizer. Blocks for one request and, unless it is the tokenizer of
    /// bytes, for reading its file or downloading it to the cache.
    ///
    /// If the service says that it has the tokenizer itself, as the local server does of real models, it comes from there. Otherwise
    /// the environment decides where to look for it (`TokenizerSource::from_env`). To look elsewhere, pass the
    /// [`tokenizer_id`](TrainingClient::tokenizer_id) to your own `TokenizerSource`, or read a file with
    /// `Tokenizer::from_path`.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) in a build without the feature `tokenizers`, for any but the tokenizer of bytes; the
    /// errors of `TokenizerSource::load`; otherwise any error of a request.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// let tokenizer = trainer.tokenizer()?;
    /// let tokens = tokenizer.encode("The weather today is")?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "get_tokenizer")]
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let deadline = self.blocking().deadline();
        let (id, package) = (self.tokenizer_id()?, self.get_info()?.model_data.tokenizer_package);
        Tokenizer::named(&id, self.core.session.config(), package, deadline, "tokenizer")
    }

    /// Where [`tokenizer`](TrainingClient::tokenizer) looks, to load the chat template or another file from the same place: at the
    /// service, if it says that it has the files of the model's tokenizer itself, and then where the environment says. Blocks for
    /// one request, the first time.
    ///
    /// # Errors
    ///
    /// Any error of a request.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// let config = trainer.tokenizer_source()?.load_file(&trainer.tokenizer_id()?, "tokenizer_config.json")?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tokenizers")]
    pub fn tokenizer_source(&self) -> Result<TokenizerSource> {
        Ok(TokenizerSource::of_service(self.core.session.config(), self.get_info()?.model_data.tokenizer_package))
    }
}
