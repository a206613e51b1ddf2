//! What most training programs need beside the calls: datums from tokens, the loss per token, and files that record a
//! run.
//!
//! | to | use |
//! |---|---|
//! | make a datum of a prompt and its completion, or of a chat | [`WeightedTokens`] |
//! | get the mean loss per token, in nats | [`nats_per_token`]; [`TokenLoss`] for several batches |
//! | set the learning rate of each step | [`hyperparams::Schedule`](crate::hyperparams::Schedule) |
//! | record metrics, or anything, as lines of JSON | [`JsonLines`] |
//! | record checkpoints, and resume from the last one | [`JsonLines`] of [`SavedCheckpoint`] |
//!
//! ```no_run
//! use tinkex::hyperparams::Schedule;
//! use tinkex::toolkit::{JsonLines, SavedCheckpoint, WeightedTokens, nats_per_token};
//! use tinkex::types::{AdamParams, Batch, LoraConfig, LossFn};
//! use tinkex::{Config, ServiceClient};
//!
//! let service = ServiceClient::connect(Config::from_env()?)?;
//! let trainer = service.create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default())?;
//! let tokenizer = trainer.tokenizer()?;
//! let datum = WeightedTokens::new()
//!     .context(tokenizer.encode("green ->")?)
//!     .trained(tokenizer.encode_continuation(" eengray\n")?)
//!     .datum()?;
//! let batch = Batch::from(datum);
//!
//! let schedule = Schedule::linear(1e-4, 100).warmup(10);
//! let mut metrics = JsonLines::open("metrics.jsonl")?;
//! let mut checkpoints = JsonLines::open("checkpoints.jsonl")?;
//! for step in 1..=100 {
//!     let pass = trainer.submit_forward_backward(&batch, LossFn::CrossEntropy)?;
//!     let update = trainer.submit_optim_step(AdamParams::new().learning_rate(schedule.rate(step)))?;
//!     let loss = nats_per_token(&batch, &pass.wait()?)?;
//!     update.wait()?;
//!     metrics.push(&serde_json::json!({"step": step, "loss": loss}))?;
//! }
//! let saved = trainer.save_state("0100")?;
//! checkpoints.push(&SavedCheckpoint::new(100, saved.path))?;
//! # Ok::<(), tinkex::Error>(())
//! ```

mod json_lines;
mod loss;
mod saved_checkpoint;
mod weighted_tokens;

pub use json_lines::JsonLines;
pub use loss::{TokenLoss, nats_per_token};
pub use saved_checkpoint::SavedCheckpoint;
pub use weighted_tokens::WeightedTokens;
