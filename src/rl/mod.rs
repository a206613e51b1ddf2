//! Reinforcement learning: from samples and their rewards to the datums of a step, and what the step did to the policy.
//!
//! | to | use |
//! |---|---|
//! | sample N prompts × G times, and score each sample | [`Rollouts`] |
//! | turn rewards into advantages | [`advantages()`] |
//! | turn groups of trajectories into training examples | [`policy_examples`]; [`Trajectory::examples`] for a single one |
//! | keep the policy near a reference model | [`kl_penalty`], [`compute_logprobs`] |
//! | see how far the learner is from the sampler | [`PolicyMetrics`] |
//!
//! Everything but [`Rollouts`] and [`compute_logprobs`] is a pure function of plain data. Log-probabilities are natural logarithms, so
//! a divergence is in nats. A *group* is the trajectories of one prompt; only the differences of their rewards count.
//!
//! ```no_run
//! use tinkex::rl::{AdvantageScale, PolicyExample, PolicyMetrics, Rollouts, policy_examples};
//! use tinkex::types::{AdamParams, LoraConfig, LossFn, LossFnOutput, ModelInput, SamplingParams};
//! use tinkex::{Config, ServiceClient};
//!
//! let service = ServiceClient::connect(Config::from_env()?)?;
//! let trainer = service.create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default())?;
//! let tokenizer = trainer.tokenizer()?;
//! let prompts = [ModelInput::from_text(&tokenizer, "17 + 25 =")?];
//! for step in 0..100 {
//!     let sampler = trainer.save_weights_and_get_sampling_client()?;
//!     let rollouts = Rollouts::new(&sampler).group_size(16).sampling_params(SamplingParams::new().max_tokens(64));
//!     let scored = rollouts.score(&prompts, |_, sequence| {
//!         tokenizer.decode(&sequence.tokens).map(|text| if text.contains("42") { 1.0 } else { 0.0 })
//!     })?;
//!     let examples = policy_examples(&scored.groups, AdvantageScale::Unscaled)?;
//!     if examples.is_empty() {
//!         continue; // All samples of each prompt have the same reward.
//!     }
//!     let data = examples.iter().map(PolicyExample::datum).collect::<tinkex::Result<Vec<_>>>()?;
//!     let output = trainer.forward_backward(data, LossFn::ImportanceSampling)?;
//!     trainer.optim_step(AdamParams::new().learning_rate(4e-5))?;
//!     let learner = output.loss_fn_outputs.iter().filter_map(LossFnOutput::logprobs);
//!     let metrics = PolicyMetrics::of(&examples, learner, 0.8..=1.2)?;
//!     println!("{step}: reward {}, KL {}", scored.mean_reward(), metrics.kl_sample_train_v1);
//! }
//! # Ok::<(), tinkex::Error>(())
//! ```

mod advantages;
mod logprobs;
mod merge;
mod metrics;
mod policy_example;
mod reference;
mod rollouts;
mod trajectory;
mod turn;

pub use advantages::{AdvantageScale, advantages, policy_examples};
pub use logprobs::compute_logprobs;
pub use metrics::PolicyMetrics;
pub use policy_example::PolicyExample;
pub use reference::kl_penalty;
pub(crate) use reference::{Centre, add_reverse_kl};
pub use rollouts::{FailedRollout, RolloutProgress, Rollouts, ScoredRollouts};
pub use trajectory::Trajectory;
pub use turn::Turn;
