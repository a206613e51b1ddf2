//! What a run costs: tokens, prices and money.
//!
//! | to | use |
//! |---|---|
//! | count the tokens of a batch or a sample | [`Usage`] |
//! | get the price of a model's tokens | [`PriceTable`], [`Price`] |
//! | know what a client has cost so far, and each step | [`Meter`] |
//! | calculate with money | [`Dollars`], which are exact |
//!
//! Before a run, an estimate:
//!
//! ```
//! use tinkex::cost::{Dollars, PriceTable, Usage};
//! use tinkex::toolkit::WeightedTokens;
//!
//! let examples = vec![WeightedTokens::new().context([1; 400]).trained([2; 101]).datum()?; 1000];
//! let epochs = 3;
//! let usage = Usage::of_batch(&examples) * epochs;
//! assert_eq!(usage.trained, 1_500_000);
//!
//! let price = PriceTable::built_in().price("Qwen/Qwen3-8B")?;
//! assert_eq!(price.cost(&usage).to_string(), "$0.66");
//! assert!(price.cost(&usage) < "5usd".parse::<Dollars>()?);
//! # Ok::<(), tinkex::Error>(())
//! ```
//!
//! During a run, a meter for each client, since each has its model:
//!
//! ```no_run
//! # fn f(trainer: tinkex::TrainingClient, sampler: tinkex::SamplingClient, batch: tinkex::types::Batch) -> tinkex::Result<()> {
//! use tinkex::cost::{Dollars, Meter, PriceTable, Usage};
//! use tinkex::types::{AdamParams, LossFn, ModelInput, SamplingParams};
//!
//! let prices = PriceTable::open("models.json")?; // downloaded from Tinker's documentation
//! let mut training = Meter::new(prices.price("Qwen/Qwen3-8B")?);
//! let mut sampling = training;
//! let budget: Dollars = "5usd".parse()?;
//!
//! let prompt = ModelInput::from_tokens([1, 2, 3]);
//! while training.cost() + sampling.cost() < budget {
//!     let response = sampler.sample(&prompt, 4, &SamplingParams::new().max_tokens(64))?;
//!     sampling.count(Usage::of_sample(&prompt, &response));
//!     trainer.forward_backward(&batch, LossFn::CrossEntropy)?;
//!     training.count(Usage::of_batch(&batch));
//!     trainer.optim_step(AdamParams::new().learning_rate(1e-4))?;
//!     println!("this step cost {:.4}", training.end_step() + sampling.end_step());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is charged
//!
//! | tokens | price |
//! |---|---|
//! | of the model inputs of a pass, forward only or with backward, whatever their weights | train |
//! | of a prompt, also for its log-probabilities | prefill |
//! | of a prompt that the service had in its cache: [`prompt_cache_hit_tokens`](crate::types::SampleResponse::prompt_cache_hit_tokens) | cached prefill |
//! | that were sampled | sample |
//!
//! Optimizer steps and saves cost nothing; checkpoints cost what their storage costs, $0.10 for a gigabyte and month in autumn 2026, which is not
//! counted here. Requests that failed, and those that were sent twice, are not charged twice. The service's own account is
//! [`RestClient::get_billing_usage`](crate::RestClient::get_billing_usage); it has the last word, some hours later.

mod built_in;
mod dollars;
mod meter;
mod price;
mod price_table;
mod usage;

pub use built_in::BUILT_IN_PRICES_AS_OF;
pub use dollars::Dollars;
pub use meter::Meter;
pub use price::Price;
pub use price_table::PriceTable;
pub use usage::Usage;
