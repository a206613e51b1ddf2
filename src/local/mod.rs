//! A Tinker server inside this process: the same protocol over loopback, with small models that really train, and with real ones.
//!
//! Use it in tests, to try a program without an API key, or on a device without a network.
//!
//! ```
//! use tinkex::local::LocalServer;
//!
//! # fn main() -> tinkex::Result<()> {
//! let server = LocalServer::start()?;
//! println!("export TINKER_BASE_URL={} TINKER_API_KEY=tml-local", server.base_url());
//! # Ok(())
//! # }
//! ```
//!
//! # Models
//!
//! The models of [`transformer`] need no file: their tokens are bytes, and their weights random. The feature `pretrained` adds real
//! models of the families Llama, Qwen 2, Qwen 3 and Mistral, from a directory in Hugging Face's format, a GGUF file or the hub. Both are
//! served side by side, each under its name, and trained and sampled in the same way. `local::pretrained` has an example.
//!
//! # Limits
//!
//! | what | limit | status beyond it |
//! |---|---|---|
//! | tokens of a sequence | the model's context length, 1024 for models of bytes | 400 |
//! | memory of a pass of a real model, for its longest datum | what is free | 400 |
//! | LoRA rank | 1024 | 400 |
//! | samples per request | 1024 | 400 |
//! | log-probabilities of each kind in a response: top-k, targets, alternatives | 4 194 304 | 400 |
//! | target tokens of a pass | 4 194 304; for each token of the input, the size of the vocabulary | 400 |
//! | `prompt_logprobs_last_n` | the length of the prompt, less one | 400 |
//! | name of a checkpoint | 240 bytes, percent-encoded | 400 |
//! | time to live of a checkpoint | 1 h ([`min_ttl`](LocalServerBuilder::min_ttl)) to 10 years | 400 |
//! | training runs in memory | the 64 that were used last ([`max_models`](LocalServerBuilder::max_models)); the others rest on the disk, if the server has a directory, and come back with their next request | 429 if each is at work |
//! | training runs that are not unloaded | 16 times as many | 400 |
//! | request body | 64 MiB ([`max_body`](LocalServerBuilder::max_body)) | 413 |
//! | connections | 4096 ([`max_connections`](LocalServerBuilder::max_connections)) | 503 |
//! | a session without a heartbeat | 10 min ([`session_time`](LocalServerBuilder::session_time)) | 404 |
//! | a session that its client finished | | 410 |
//! | a sample that nobody polls for | 10 min ([`session_time`](LocalServerBuilder::session_time)) | 410 |
//! | samples that wait for a processor | 10 000 | 429 |
//! | batches of passes that wait for a processor | about 1 GiB | 429 |
//! | requests that wait for a training run | 10 000 | 429 |
//! | id of a project | 256 bytes | 400 |
//! | sampling sessions on unnamed saves, of a session | the 64 that were used last; of more than 16 training runs, 4 for each | 410 |
//! | other sampling sessions, of a session | the 1024 that were used last | 410 |
//! | a result that its client acknowledged (`retrieve_futures`) | | 410 |
//! | a sequence number, after its result is gone | stays used | 410 |
//! | a result after it was retrieved; before | 10 min ([`result_time`](LocalServerBuilder::result_time)); 1 h | 410 |
//! | results that were retrieved | the 256 MiB that were retrieved last | 410 |
//!
//! The status is 422 for a malformed body, with the location of the error; 400 for an invalid value; 401 for a missing,
//! unknown or revoked API key, and for a forged or expired token; 403 for a resource of another key; 404 for one that does not exist. Each has a `detail` in words.
//!
//! # Statuses that clients repeat
//!
//! What the official clients do with a status, by their sources of 0.4.1, 0.16.1, 0.24.1 and 0.38.0:
//!
//! | status | a submission | a poll |
//! |---|---|---|
//! | 408, 409, 500 and above | repeated for 5 min, in rounds of 10 attempts, 1 to 30 s apart, without a word | 408, 500 and above: repeated for ever; 409: an error |
//! | 429 | the same; a sample is repeated for ever | an error (0.4.1), or repeated for ever |
//! | 402 | an error; repeated for as long as the service allows (0.38.0) | the same |
//! | 410 | an error | a sample is submitted again, anything else is an error |
//! | 400 | an error, unless its body is empty, as from a proxy (since 0.16.1) | an error, after three more polls (since 0.24.1) |
//! | 401, 403, 404, 405, 413, 415, 422, 431 | an error | an error |
//!
//! `x-should-retry: false` ends a round, and not the 5 min. So a refusal that is final never has one of the first two: a name that is
//! taken, a sequence number that belongs to another request, and what this server does not do, such as `create_custom_loss`, get 400.
//! These are temporary, or a fault of the server itself, and the client does well to repeat the request:
//!
//! | status | detail | over when |
//! |---|---|---|
//! | 408 | the request timed out | the client sends the whole request |
//! | 408 | the result of a promise is not ready | it is; not an error |
//! | 409 | checkpoint … is being overwritten | the save has finished |
//! | 429 | … models are in memory and at work | one of them is idle |
//! | 429 | … requests of … are waiting | some of them are done |
//! | 429 | … samples are waiting | some of them are done |
//! | 429 | … of batches are waiting | some of them are done |
//! | 500 | a record, checkpoint or archive could not be written | the disk has room; the other ones of 500 are faults of this server |
//! | 503 | too many connections | one is closed |
//! | 503 | a thread could not be started | the system has room |
//! | 503 | the server is stopping | it is started again |
//!
//! # Samples
//!
//! - `target_prompt_logprobs` has the layout of the request, dense or sparse, and 0 where that has −1.
//! - `prompt_alt_tokens` are drawn with the temperature and the seed of the request, without `top_k` and `top_p`.
//! - `stop: []` lets a sample go on after the end-of-text token; with any other `stop`, the token ends it, too.
//! - `prompt_cache_hit_tokens` counts the tokens of the prompt that the model had [kept](model::KvNamespace). All clients of a base
//!   model share them; a sampling session with other weights, snapshot or inflight, has its own, which its clones share. An inflight
//!   save moves the weights of running samples, too, and leaves the keys and values that are kept.
//! - `record_stability_info` is accepted and changes nothing.
//!
//! # Formats
//!
//! Passes over batches come in JSON or protobuf, as their `content-type` says. Results of passes and samples go out in protobuf to a
//! poll that accepts `application/x-protobuf`, and in JSON to any other; everything else is JSON.
//! Numbers that are not finite, as of a model whose training has diverged, are the strings `NaN`, `Infinity` and `-Infinity` in
//! JSON, which all official clients read as floats, and themselves in protobuf. Null means that there is no value.
//! In protobuf, NaN among the log-probabilities of a prompt means that, too: the Python clients since 0.24.1 read it as None.
//! [`wire`](LocalServerBuilder::wire) restricts the server to one of the formats. Bodies may be compressed with zstd
//! (`content-encoding: zstd`); their limit applies to what they contain, too. Another encoding gets 415.
//!
//! # Fields that are refused
//!
//! A field that the server does not know is refused by name (400) in the requests that compute or change something:
//!
//! | request | fields | status |
//! |---|---|---|
//! | `forward_backward` | in JSON: `forward_only`, for which there is `forward`; all but `model_id`, `seq_id`, `forward_backward_input` | 400 |
//! | `forward_backward` | in `forward_backward_input`: all but `data`, `loss_fn`, `loss_fn_config` | 400 |
//! | `forward_backward` | in each of `data` of `forward_backward_input`: all but `model_input`, `loss_fn_inputs`, `model_input_spans`, `loss_fn_input_spans`, `key` | 400 |
//! | `forward` | all but `model_id`, `seq_id`, `forward_input` | 400 |
//! | `forward` | in `forward_input`: all but `data`, `loss_fn`, `loss_fn_config` | 400 |
//! | `forward` | in each of `data` of `forward_input`: all but `model_input`, `loss_fn_inputs`, `model_input_spans`, `loss_fn_input_spans`, `key` | 400 |
//! | `forward_backward`, `forward` | in `model_input` of `data` of `forward_backward_input` or `forward_input`: all but `chunks` | 400 |
//! | `forward_backward`, `forward` | in `chunks` of `model_input` of `data` of `forward_backward_input` or `forward_input`: all but `tokens`, and `data`, `dmel`, `format`, `location`, `expected_tokens`, `height`, `width` of other chunks than text | 400 |
//! | `forward_backward`, `forward` | in a tensor of `loss_fn_inputs` of `data` of `forward_backward_input` or `forward_input`: all but `data`, `dtype`, `shape`, `sparse_crow_indices`, `sparse_col_indices` | 400 |
//! | `asample` | in `prompt`: all but `chunks`, and in `chunks` of `prompt` as in those of passes: all but `tokens`, `data`, `dmel`, `format`, `location`, `expected_tokens`, `height`, `width` | 400 |
//! | `asample` | in `target_prompt_logprobs`: all but `data`, `dtype`, `shape`, `sparse_crow_indices`, `sparse_col_indices` | 400 |
//! | passes, `asample` | chunks that are not text: images, with `expected_tokens` or without, and audio (`dmel`) | 400, audio 422 |
//! | `asample` | `base_model`, `model_path`: samples need a sampling session | 400 |
//! | `asample` | all but `sampling_session_id`, `seq_id`, `num_samples`, `prompt`, `sampling_params`, `prompt_logprobs`, `topk_prompt_logprobs`, `topk_sample_logprobs`, `target_prompt_logprobs`, `prompt_alt_tokens_k`, `prompt_logprobs_last_n`, `record_stability_info` | 400 |
//! | `asample` | in `sampling_params`: all but `max_tokens`, `seed`, `stop`, `temperature`, `top_k`, `top_p` | 400 |
//! | `optim_step` | all but `model_id`, `seq_id`, `adam_params`, `optimizer_params` | 400 |
//! | `optim_step` | in `adam_params`: all but `learning_rate`, `beta1`, `beta2`, `eps`, `weight_decay`, `grad_clip_norm` | 400 |
//! | `create_model` | all but `session_id`, `model_seq_id`, `base_model`, `user_metadata`, `lora_config`, `optimizer_config` | 400 |
//! | `create_model` | in `lora_config`: all but `rank`, `seed`, `train_unembed`, `train_mlp`, `train_attn` | 400 |
//! | `create_model`, `load_weights` | in `optimizer_config`: all but `type` and Dimuon's `version` | 400 |
//! | `create_model`, `load_weights` | `optimizer_config` of another optimizer than AdamW | 400 |
//! | `optim_step` | `optimizer_params`: the settings of AdamW are `adam_params` | 400 |
//! | `load_weights` | all but `model_id`, `seq_id`, `session_id`, `model_seq_id`, `base_model`, `user_metadata`, `path`, `optimizer`, `optimizer_config`, `weights_access_token` | 400 |
//! | `save_weights` | all but `model_id`, `seq_id`, `path`, `overwrite`, `ttl_seconds`, `user_metadata` | 400 |
//! | `save_weights_for_sampler` | all but `model_id`, `seq_id`, `path`, `kind`, `sampling_session_seq_id`, `ttl_seconds`, `user_metadata` | 400 |
//! | `save_weights_external` | all but `model_id`, `seq_id`, `path`, `ttl_seconds`, `age_encryption_recipients`, which may not be set | 400 |
//! | `create_sampling_session` | all but `session_id`, `sampling_session_seq_id`, `base_model`, `model_path` | 400 |
//! | `copy_weights` | all but `source_path`, `destination_project_id`, `ttl_seconds` | 400 |
//!
//! `type` is accepted everywhere, and null in any field. False and 0 are settings, too: they are accepted only where they switch off
//! what this server does not have, as `forward_only`, `min_p`, `frequency_penalty` and `presence_penalty`.
//! Other requests ignore what they do not know.
//! Provenance spans of a batch are checked, and ignored.
//!
//! # Checkpoints
//!
//! - The name of a checkpoint that exists gets 400, unless the save is one of training weights with `overwrite`. (The service says
//!   409, which the official clients repeat for 5 min.) The new checkpoint is not public, and has its own time to live and metadata.
//!   Until it is saved, changes of the old one get 409.
//! - A sampling session on a checkpoint samples from what its path has: after an overwrite from the new weights, after a deletion
//!   not at all. A sample that is being computed finishes with the weights that it began with.
//! - A model that is created from a checkpoint (`load_weights` with `session_id`) has its base model and adapter. Only training
//!   weights can be trained further.
//! - Weights whose tensors are not those of the model, as of another one that had its name before, are refused when they are loaded.
//! - A `weights_access_token`, and that of `copy_weights`, is an API key that may read the weights.
//! - A copy is a run of its own that cannot be trained. It shares the bytes of its source where the file system can, and outlives it.
//! - External weights are an adapter in PEFT's format, as in an archive, behind one signed URL for each file
//!   ([`link_time`](LocalServerBuilder::link_time)). They are not encrypted: `age_encryption_recipients` gets 400.
//! - The only optimizer is AdamW: Dimuon gets 400.
//!
//! # Tokenizers
//!
//! A [`Model`](model::Model) with a [`TextPackage`](model::TextPackage) brings its tokenizer and chat template along. `get_info`, the
//! capabilities and the descriptions of sampling sessions tell clients so
//! ([`TokenizerPackage`](crate::types::TokenizerPackage)), and [`SamplingClient::tokenizer`](crate::SamplingClient::tokenizer) then
//! needs no hub. For other programs the server is a hub of these files: set `HF_ENDPOINT` to its [`base_url`](LocalServer::base_url),
//! and, if the server [checks keys](LocalServerBuilder::api_key_check), `HF_TOKEN` to a key. The id is the model's name, without what
//! follows a `:`, or what the official clients [make of it](crate::Tokenizer::id_of_model); the only revision is `main`.
//!
//! Texts that end a sample (`stop`) are compared with the text of the sample, or with its bytes if the tokens are bytes.
//!
//! # Loss functions
//!
//! All of [`LossFn`](crate::types::LossFn) but `custom`. The formulas, their sources and the defaults of the settings are in the
//! table of [`Objective`](model::Objective).
//!
//! | loss function | settings (`loss_fn_config`) | loss inputs beside `target_tokens` |
//! |---|---|---|
//! | `cross_entropy` | in forward passes, all of the others, which are ignored | `weights` |
//! | `importance_sampling` | | `logprobs`, `advantages` |
//! | `ppo`, `cispo` | `clip_low_threshold`, `clip_high_threshold` | the same; `clip_low_threshold` and `clip_high_threshold`, if present, are the bounds of each token |
//! | `dro` | `beta` | `logprobs`, `advantages` |
//! | `gspo` | `clip_low_threshold`, `clip_high_threshold` | as `ppo`, and `sequence_ratio_mask` |
//! | `stable_reinforce` | `kl_coeff` | `logprobs`, `advantages`, and the provenance of the targets, which only requests in protobuf have |
//!
//! Settings are numbers of at least 0. A setting that the function does not have, or a bound or mask for each token that it does
//! not read, is refused by name (400), as is an input that no function has, such as `mask`; in forward passes of
//! `cross_entropy`, as for custom losses, all of these are ignored. So are inputs of other functions: one datum may be for several. `stable_reinforce` takes the old log-probabilities from `logprobs`, and does not look up the sequences that the provenance names.
//!
//! Loss inputs are tensors of the shape N, for as many tokens, or for `cross_entropy` also N × K, with K targets for each token;
//! they may be sparse, and the cells that a sparse one leaves out are 0. The outputs `logprobs` and `elementwise_loss` have the
//! shape of `target_tokens`, and are dense.
//!
//! # Keys, projects and prices
//!
//! - An API key is a user, and an organization of its own. `access_scope=accessible` adds the runs of other keys that have a published
//!   checkpoint, with those checkpoints, and their sessions without name and metadata.
//! - A project is any name. What was created without one is in `default`.
//! - Usage is counted when the work is done, by hour, and kept for 35 days; a server that is killed loses the last 10 s of it. Prices are
//!   invented, and the same for every model. In US dollars for a million tokens: training 1.00, prompts 0.50, cached prompts 0.05,
//!   samples 1.50; for a gigabyte (10⁹ bytes) and month (720 h) of checkpoints: 0.10. Saves cost nothing.
//! - The audit log has what was done with checkpoints (`checkpoint_create`, `read`, `publish`, `unpublish`, `ttl_set`, `delete`) and
//!   projects (`project_session_assign`). The key that owns the checkpoint or session reads it. The newest 10 000 events of all keys are kept.
//! - A session's trace has its newest requests since the server was started, of 20 000 in all. The first request for a trace, and the
//!   first one after the session has gone on, gets `pending`.
//! - A session whose heartbeats stopped has no status in a search. None is `cancelled` or `failed`.
//!
//! # Structure
//!
//! The server knows requests, promises and checkpoints; a [`Model`](model::Model) knows tokens and tensors. Either can be
//! understood, and replaced, without the other.

pub mod adam;
mod builder;
mod checkpoint_files;
mod directory_lock;
#[cfg(feature = "pretrained")]
pub mod export;
mod kernel;
pub mod model;
mod objective;
#[cfg(feature = "pretrained")]
pub mod openai;
#[cfg(feature = "pretrained")]
pub mod pretrained;
#[cfg(feature = "pretrained")]
mod proxy;
pub(crate) mod server;
pub mod transformer;

use std::io;
use std::time::Duration;

pub use self::builder::LocalServerBuilder;
#[cfg(feature = "pretrained")]
pub use self::proxy::{OpenAiProxy, OpenAiProxyBuilder};
use self::server::Server;
pub use self::server::{Activity, Fault, Faults, Flag, LoggedRequest, ParseFaultsError, ParseFlagError, WireFormats};
use crate::error::{Error, ErrorKind, Result, system};

/// A Tinker server on a port of this machine.
///
/// It keeps everything in memory, unless it has a [`data_dir`](LocalServerBuilder::data_dir). Dropping it stops it at once: a
/// sample that is being computed is cut short, a training step finishes on a background thread, and their results are lost.
///
/// After a `fork` it goes on in the process that started it; in the fork, dropping it does nothing.
///
/// It serves plain HTTP and by default accepts any API key: do not expose it to an untrusted network.
#[derive(Debug)]
pub struct LocalServer(Server);

impl LocalServer {
    /// Starts a server on a free port of the loopback interface, with the models `tinkex/bytes-tiny`,
    /// `tinkex/bytes-small` and `tinkex/bytes-medium`, whose sizes are in [`transformer`].
    ///
    /// # Errors
    ///
    /// A socket could not be opened or a thread not started ([`ErrorKind::Io`]).
    pub fn start() -> Result<LocalServer> {
        LocalServer::builder().start()
    }

    /// Configures a server.
    pub fn builder() -> LocalServerBuilder {
        LocalServerBuilder::default()
    }

    /// The value for `TINKER_BASE_URL`, such as `http://127.0.0.1:40123`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.0.address())
    }

    /// The port that the server listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.address().port()
    }

    /// The logged requests in the order of arrival: at most the newest
    /// [`log_capacity`](LocalServerBuilder::log_capacity).
    #[must_use]
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.0.activity().read(|activity| activity.requests().cloned().collect())
    }

    /// A snapshot: the requests received so far, and the open connections and polls.
    ///
    /// ```
    /// use tinkex::local::LocalServer;
    /// use tinkex::{Config, ServiceClient};
    ///
    /// # fn main() -> tinkex::Result<()> {
    /// let server = LocalServer::start()?;
    /// let config = Config::builder().base_url(server.base_url()).api_key("tml-local").build()?;
    /// ServiceClient::connect(config)?.get_server_capabilities()?;
    ///
    /// let activity = server.activity();
    /// let request = activity.requests_to("get_server_capabilities").next().expect("one request arrived");
    /// assert_eq!((request.method.as_str(), request.attempt), ("GET", Some(0)));
    /// assert_eq!(request.header("x-api-key"), Some("…"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn activity(&self) -> Activity {
        self.0.activity().read(Clone::clone)
    }

    /// Blocks until a condition on the server's activity holds, up to `timeout`. Returns whether it holds.
    ///
    /// The condition is evaluated at every change, under a lock: it should be fast, and must not call this server.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # let server = tinkex::local::LocalServer::start().unwrap();
    /// assert!(server.wait_until(Duration::from_secs(10), |activity| activity.held_polls() == 2));
    /// // Two polls are pending: now a test can close the client.
    /// ```
    #[must_use]
    pub fn wait_until(&self, timeout: Duration, condition: impl FnMut(&Activity) -> bool) -> bool {
        self.0.activity().wait_until(timeout, condition)
    }

    /// Adds a fault rule, after the existing ones.
    pub fn inject(&self, fault: Fault) {
        self.0.faults().add(fault);
    }

    /// Stops listening and closes every connection, like a server that is down, but keeps its state and finishes its queued
    /// tasks. New connections are refused until [`resume`](LocalServer::resume).
    ///
    /// # Errors
    ///
    /// The server is already paused, or it could not keep its port ([`ErrorKind::Io`]).
    pub fn pause(&self) -> Result<()> {
        self.0.pause().map_err(|error| io_error("LocalServer::pause", "pause", error))
    }

    /// Listens again, on the same port.
    ///
    /// # Errors
    ///
    /// The server is not paused, or its port is no longer available ([`ErrorKind::Io`]).
    pub fn resume(&self) -> Result<()> {
        self.0.resume().map_err(|error| io_error("LocalServer::resume", "resume", error))
    }

    /// Stops the server, like dropping it.
    pub fn stop(self) {
        drop(self);
    }
}

fn io_error(operation: &'static str, verb: &str, error: io::Error) -> Error {
    let failed = Error::new(ErrorKind::Io, format!("failed to {verb} the local server"));
    let failed = match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable => {
            failed.with_hint("use another address, or port 0 for any free port")
        }
        io::ErrorKind::ResourceBusy => failed.with_hint("stop the other server, or use a different data directory"),
        io::ErrorKind::PermissionDenied => {
            failed.with_hint("use an address and a data directory that this user may use")
        }
        io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            failed.with_hint("use a data directory that can be created and written")
        }
        io::ErrorKind::InvalidData => failed.with_hint("restore that file, or use a different data directory"),
        _ => system::start_hint(&error).into_iter().fold(failed, |failed, hint| failed.with_hint(hint)),
    };
    failed.with_operation(operation).with_source(error)
}
