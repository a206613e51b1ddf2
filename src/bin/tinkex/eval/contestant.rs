//! A model that is evaluated.

use tinkex::chat::{Prompt, Renderer};
use tinkex::types::{ModelInput, SampledSequence, SamplingParams};
use tinkex::{SamplingClient, ServiceClient, Tokenizer};

use super::{Options, Questions};
use crate::app::App;
use crate::chat_format;
use crate::failure::Failure;
use crate::sampled_model::SampledModel;

pub(super) struct Contestant {
    pub(super) model: String,
    pub(super) sampler: SamplingClient,
    /// The prompts of the tasks, in their order.
    pub(super) inputs: Vec<ModelInput>,
    pub(super) params: SamplingParams,
    tokenizer: Tokenizer,
    /// With `--chat`.
    reader: Option<(Renderer, Vec<Prompt>)>,
}

impl Contestant {
    pub(super) fn new(
        app: &App,
        service: &ServiceClient,
        options: &Options,
        model: &str,
        questions: &Questions,
        params: &SamplingParams,
    ) -> Result<Self, Failure> {
        let SampledModel { sampler, tokenizer, source } =
            SampledModel::find(service, model, options.tokenizer.as_deref())?;
        let mut params = params.clone();
        let (inputs, reader) = match questions {
            Questions::Texts(texts) => {
                let inputs = texts.iter().map(|text| ModelInput::from_text(&tokenizer, text));
                (inputs.collect::<tinkex::Result<_>>()?, None)
            }
            Questions::Chats { conversations, beginning } => {
                let format = chat_format::find(options.conversation.template.as_deref(), &tokenizer, &source)?;
                app.output.note(format_args!("using {} for {model}", format.origin));
                format.check_options(beginning)?;
                let renderer = format.renderer(&tokenizer)?;
                params = params.stop(options.sampling.stop_of_reply(renderer.stop(), &tokenizer)?);
                let prompts = conversations.iter().map(|conversation| renderer.prompt(conversation));
                let prompts = prompts.collect::<tinkex::Result<Vec<_>>>()?;
                (prompts.iter().map(|prompt| prompt.input.clone()).collect(), Some((renderer, prompts)))
            }
        };
        Ok(Contestant { model: model.to_owned(), sampler, inputs, params, tokenizer, reader })
    }

    /// The text of an answer. That of a chat is the content of the reply, without its reasoning.
    pub(super) fn answer(&self, task: usize, sequence: &SampledSequence) -> tinkex::Result<String> {
        match &self.reader {
            None => self.tokenizer.decode(&sequence.tokens),
            Some((renderer, prompts)) => Ok(renderer.parse_reply(&prompts[task], &sequence.tokens).message.text()),
        }
    }
}
