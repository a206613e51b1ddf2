//! `tinkex proxy`: OpenAI's API in front of a service.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use tinkex::ServiceClient;
use tinkex::local::{OpenAiProxy, OpenAiProxyBuilder};

use crate::app::App;
use crate::chat_format;
use crate::failure::Failure;
use crate::listen::{self, ListenOptions};
use crate::sampled_model::SampledModel;

/// Serve OpenAI's API in front of a Tinker service, for programs that know only that API.
///
/// When the proxy is ready, it prints `listening on http://HOST:PORT/v1` on stdout. Set OPENAI_BASE_URL to that URL and
/// OPENAI_API_KEY to any text. Ctrl-C or SIGTERM stops the proxy, with exit code 0.
///
/// It answers /v1/chat/completions, /v1/completions and /v1/models, streamed or whole. The service gives whole samples: a stream
/// has an answer in one piece. Chats are written with the chat template of the model's tokenizer; without one, as `User: ...`.
///
/// The proxy uses plain HTTP, accepts any API key and samples with the key of this program: do not expose it to an untrusted network.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Base model, or path of sampler weights, such as tinker://RUN_ID/sampler_weights/NAME; can be repeated. Clients ask for it by
    /// NAME [default: the same text].
    #[arg(long = "model", value_name = "MODEL[=NAME]", required = true, value_parser = NonEmptyStringValueParser::new())]
    models: Vec<String>,
    #[command(flatten)]
    listen: ListenOptions,
    /// Tokenizer to use instead of the models' own: `bytes`, a tokenizer.json, its directory, or an ID on the Hugging Face Hub.
    #[arg(long, value_name = "PATH|ID")]
    tokenizer: Option<String>,
    /// Chat template to use instead of the models' own: a built-in one, such as chatml, a file, or the ID of a tokenizer that has one.
    #[arg(long, value_name = "NAME|PATH|ID")]
    template: Option<String>,
}

pub(crate) fn run(app: &App, options: &Options) -> Result<(), Failure> {
    let config = app.config()?;
    app.require_service(&config)?;
    App::in_session(config, |service| {
        let address = options.listen.address();
        let mut builder = OpenAiProxy::builder().addr(address.as_str());
        for origin in &options.listen.allowed_origins {
            builder = builder.allow_origin(origin);
        }
        for model in &options.models {
            builder = with_model(app, builder, service, options, model)?;
        }
        // Until then Ctrl-C ends the program at once: the service may be out of reach, and a download long.
        app.interrupt.catch();
        let proxy = builder.start().map_err(|error| listen::explain(error, &address))?;
        app.output.raw(&format_args!("listening on {}", proxy.base_url()))?;
        app.output.note(format_args!(
            "set OPENAI_BASE_URL={} and OPENAI_API_KEY to any text; press Ctrl-C to stop",
            proxy.base_url()
        ));
        app.interrupt.wait();
        proxy.stop();
        Ok(())
    })
}

/// Adds the model that an option names.
fn with_model(
    app: &App,
    builder: OpenAiProxyBuilder,
    service: &ServiceClient,
    options: &Options,
    model: &str,
) -> Result<OpenAiProxyBuilder, Failure> {
    let (model, name) = model.split_once('=').unwrap_or((model, model));
    let SampledModel { sampler, tokenizer, source } = SampledModel::find(service, model, options.tokenizer.as_deref())?;
    let format = chat_format::find(options.template.as_deref(), &tokenizer, &source)?;
    app.output.note(format_args!("{name} is {model}, with {}", format.origin));
    let renderer = format.renderer(&tokenizer)?;
    Ok(builder.model(name, sampler, renderer))
}
