//! The options of `tinkex train`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use tinkex::chat::TrainOn;

use super::plan::Schedule;
use super::record::ResumeFrom;
use super::too_long::TooLong;
use crate::conversation_options::ConversationOptions;
use crate::number::{self, at_least, within};

/// This catches typing errors: the batch of a step is in memory as a whole.
const MAX_BATCH: usize = 1_000_000;

/// Fine-tune a model with LoRA on a file of examples.
///
/// Ctrl-C finishes the current steps, saves a checkpoint, prints the command that resumes the run, and exits with code 130. A
/// second Ctrl-C stops immediately. A run that fails after a step saves a checkpoint as well, unless its loss is no longer a
/// number. At its end, the run unloads its model from the service.
#[derive(Args, Debug)]
#[command(after_long_help = FORMATS)]
pub(crate) struct Options {
    /// Training data in JSON Lines format: one example per line.
    pub(super) data: PathBuf,
    /// Print the first N examples with what is trained in color, or between ⟦ and ⟧ without color, and exit. Trains nothing; with
    /// --base-model or --tokenizer it needs no service.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least(1_usize), conflicts_with = "resume")]
    pub(super) show: Option<usize>,
    /// What is trained of a conversation [default: all_assistant_messages].
    #[arg(long, value_name = "MODE", value_parser = train_on())]
    pub(super) train_on: Option<TrainOn>,
    #[command(flatten)]
    pub(super) conversation: ConversationOptions,
    /// Base model to fine-tune; optional if the service has only one.
    #[arg(long, alias = "model", value_name = "NAME")]
    pub(super) base_model: Option<String>,
    /// Name of the run, and prefix of its checkpoints' names [default: name of the data file].
    #[arg(long, value_name = "NAME", value_parser = run_name)]
    pub(super) name: Option<String>,
    /// Output directory for metrics.jsonl, checkpoints.jsonl and loss.svg [default: runs/NAME].
    #[arg(long, value_name = "DIR")]
    pub(super) output: Option<PathBuf>,
    /// Number of training steps, instead of epochs.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least(1_u64), conflicts_with = "epochs")]
    pub(super) steps: Option<u64>,
    /// Number of epochs: passes over the training examples.
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = within(1..=999_999_u64))]
    pub(super) epochs: u64,
    /// Batch size: number of examples per step.
    #[arg(long, value_name = "N", default_value_t = 8, allow_negative_numbers = true, value_parser = within(1..=MAX_BATCH))]
    pub(super) batch_size: usize,
    /// Peak learning rate.
    #[arg(long, value_name = "RATE", default_value_t = 1e-4, allow_negative_numbers = true, value_parser = number::positive)]
    pub(super) learning_rate: f64,
    /// Weight decay (AdamW): each step multiplies every weight by 1 - learning rate x W.
    #[arg(long, value_name = "W", default_value_t = 0.0, allow_negative_numbers = true, value_parser = number::not_negative)]
    pub(super) weight_decay: f64,
    /// Maximum norm of the gradient, to which a longer one is scaled down; 0 for no clipping.
    #[arg(long, value_name = "NORM", default_value_t = 0.0, allow_negative_numbers = true, value_parser = number::not_negative)]
    pub(super) grad_clip_norm: f64,
    /// Learning-rate schedule.
    #[arg(long, value_name = "SCHEDULE", value_enum, default_value_t)]
    pub(super) schedule: Schedule,
    /// Number of warmup steps, over which the learning rate rises linearly to its peak.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, value_parser = at_least(0_u64))]
    pub(super) warmup_steps: u64,
    /// LoRA rank.
    #[arg(long, value_name = "N", default_value_t = 32, allow_negative_numbers = true, value_parser = at_least(1_u32))]
    pub(super) rank: u32,
    /// Random seed for the order of the examples, the evaluation split and the initial LoRA weights.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, value_parser = at_least(0_u64))]
    pub(super) seed: u64,
    /// Fraction of the examples to hold out for evaluation, such as 0.1, in addition to lines with `"split": "test"`.
    #[arg(long, value_name = "FRACTION", default_value_t = 0.0, allow_negative_numbers = true, value_parser = number::fraction)]
    pub(super) eval_fraction: f64,
    /// Evaluate every N steps and after the last step; 0 for the last step only.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, value_parser = at_least(0_u64))]
    pub(super) eval_every: u64,
    /// Save a checkpoint every N steps and after the last step; 0 for the last step only.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, value_parser = at_least(0_u64))]
    pub(super) save_every: u64,
    /// Maximum length of an example: number of tokens before its last one, which is only predicted [default: the model's context,
    /// if the service tells it].
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least(1_usize))]
    pub(super) max_length: Option<usize>,
    /// What to do with examples that are too long. They are found and named before the first step.
    #[arg(long, value_name = "ACTION", value_enum, default_value_t)]
    pub(super) too_long: TooLong,
    /// Resume a run from a checkpoint: `latest` or the path of a checkpoint. Data, batch size, seed, evaluation fraction, tokenizer,
    /// chat template, what is trained and the limit of lengths must be those of the run; the base model and the LoRA rank are taken from the checkpoint.
    #[arg(long, value_name = "PATH|latest")]
    pub(super) resume: Option<ResumeFrom>,
    /// Tokenizer to use instead of the model's own: `bytes`, a tokenizer.json, its directory, or an ID on the Hugging Face Hub.
    #[arg(long, value_name = "PATH|ID")]
    pub(super) tokenizer: Option<String>,
    /// Log progress every N steps; a terminal shows a progress bar instead.
    #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true, value_parser = at_least(1_u64))]
    pub(super) log_every: u64,
}

const FORMATS: &str = r#"Data format:
  Each line is one of
      {"prompt": "green", "completion": "eengray"}
      {"messages": [{"role": "user", "content": "Hi"},
                    {"role": "assistant", "content": "Hello!"}]}     on one line
  The roles are system, developer, user, assistant and tool. Content may also be
  a list of parts of the type "text". A message may have "reasoning_content" (or
  "reasoning", "thinking"), "tool_calls", "tool_call_id" and "name", and a line
  "tools" and "chat_template_kwargs", all as in OpenAI's API. Lines with
  "split": "test" (or eval, evaluation, validation, valid, val, dev) are held
  out for evaluation; "train" and "training" are not. Values that are not
  understood are errors; other keys that the chat template does not read are
  named in a warning. The file is UTF-8, its lines end with LF or CR LF, and it
  is read as needed: memory hardly grows with it.

Conversations:
  Messages are formatted by the chat template of the model's tokenizer, or by
  that of --template. `plain`, for models without one, formats them as `User:
  text`, `Assistant: text` and so on, with an empty line between messages. A
  text that looks like a special token, such as <|im_end|>, stays a text.

  The loss covers what --train-on says:
      last_assistant_message        the assistant's last message
      last_assistant_turn           its messages after the user's last one
      all_assistant_messages        all messages of the assistant
      all_messages                  all messages, without their headers
      all_tokens                    everything
      all_user_and_system_messages  all messages of user and system
      customized                    messages with "trainable": true
  A message's loss includes the token that ends it, and not what the template
  writes before a reply. One with "weight": 0 is never trained. Where a template
  changes earlier messages later on, as those that drop the reasoning of earlier
  turns do, a conversation becomes several examples. `--show 2` prints two
  examples with what is trained.

Completions:
  Prompt and completion are joined with a line break, unless one of them has
  white space there. The loss covers the completion and the end-of-sequence
  token after it.

Metrics:
  Each line of metrics.jsonl describes a step:
      step               number of the step, from 1
      loss               nats per trained token, before the update
      eval_loss          the same for held-out examples, after the update; only
                         if the step was evaluated
      learning_rate      learning rate of the update
      tokens             number of tokens in the batch
      trained_tokens     number of trained tokens in the batch
      tokens_per_second  throughput"#;

fn train_on() -> impl TypedValueParser<Value = TrainOn> {
    PossibleValuesParser::new(TrainOn::ALL.map(TrainOn::as_str)).try_map(|name| name.parse::<TrainOn>())
}

fn run_name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match !text.is_empty() && !text.starts_with('.') && text.bytes().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err("expected letters, digits, `-`, `_` and `.`, not beginning with `.`".to_owned()),
    }
}
