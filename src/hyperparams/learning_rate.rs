//! A learning rate to begin with.

use super::published::{self, SWEPT};
use super::without_context;
use crate::error::{Error, Result};

/// How much larger the learning rate of LoRA is than that of full fine-tuning: 10, whatever the model and the rank.
///
/// The factor of Tinker's cookbook (`get_lora_lr_over_full_finetune_lr`), found by experiments in
/// [LoRA Without Regret](https://thinkingmachines.ai/blog/lora/).
///
/// ```
/// use tinkex::hyperparams::LORA_RATE_FACTOR;
///
/// let full_fine_tuning = 2e-5;
/// assert!((full_fine_tuning * LORA_RATE_FACTOR - 2e-4_f64).abs() < 1e-12);
/// ```
pub const LORA_RATE_FACTOR: f64 = 10.0;

/// The learning rate of full fine-tuning of a model whose hidden size is [`REFERENCE_SIZE`].
const REFERENCE_RATE: f64 = 5e-5;
const REFERENCE_SIZE: f64 = 2000.0;

/// A learning rate of LoRA to begin with for this model, and for training by [`AdamParams`](crate::types::AdamParams).
///
/// For Llama and Qwen it is the formula of [`Family::learning_rate`]. For some other models it is the best of those that were tried.
/// It is for supervised training; for reinforcement learning, Tinker's tutorials begin with 1e-5.
///
/// # Errors
///
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a model of which nothing is published. The error says what to give instead.
///
/// ```
/// use tinkex::hyperparams::{RateBasis, learning_rate};
///
/// let qwen = learning_rate("Qwen/Qwen3-8B")?;
/// assert_eq!(((qwen.rate * 1e6).round(), qwen.basis), (473.0, RateBasis::Formula));
/// let deepseek = learning_rate("deepseek-ai/DeepSeek-V3.1")?;
/// assert_eq!((deepseek.rate, deepseek.basis), (4e-4, RateBasis::Sweep));
///
/// let error = learning_rate("acme/Nova-7B").unwrap_err();
/// assert!(error.to_string().starts_with("no learning rate is published for the model \"acme/Nova-7B\"; give one yourself"));
/// # Ok::<(), tinkex::Error>(())
/// ```
pub fn learning_rate(model: &str) -> Result<LearningRate> {
    let name = without_context(model);
    if let Some((_, rate)) = SWEPT.iter().find(|(swept, _)| *swept == name) {
        return Ok(LearningRate { rate: *rate, basis: RateBasis::Sweep });
    }
    match (Family::of(name), published::shape(name)) {
        (Some(family), Some(shape)) => {
            Ok(LearningRate { rate: family.learning_rate(shape.hidden_size), basis: RateBasis::Formula })
        }
        (Some(family), None) => Err(Error::invalid_input(format!(
            "the hidden size of the model {model:?} is not known"
        ))
        .with_hint(format!(
            "pass hidden_size of its config.json to Family::{family:?}.learning_rate, or give a learning rate yourself"
        ))),
        (None, _) => Err(Error::invalid_input(format!("no learning rate is published for the model {model:?}"))
            .with_hint("give one yourself: those of LoRA are between 1e-4 and 1e-3 for most models")),
    }
}

/// A learning rate, and where it is from. [`learning_rate()`] gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LearningRate {
    /// The learning rate.
    pub rate: f64,
    /// Where it is from.
    pub basis: RateBasis,
}

/// Where a [`LearningRate`] is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateBasis {
    /// The formula of a [`Family`].
    Formula,
    /// The best of about five that the cookbook's authors tried, in factors of two to three: tulu3, batches of 128, 780 steps.
    Sweep,
}

/// A family of models whose learning rates follow a formula.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Family {
    /// Llama 3: larger models need clearly smaller rates.
    Llama,
    /// Qwen 3 and later: the size hardly matters.
    Qwen,
}

impl Family {
    /// The family of a model, by its name; `None` if it is of another one.
    ///
    /// ```
    /// use tinkex::hyperparams::Family;
    ///
    /// assert_eq!(Family::of("Qwen/Qwen3-14B"), Some(Family::Qwen));
    /// assert_eq!(Family::of("openai/gpt-oss-20b"), None);
    /// ```
    #[must_use]
    pub fn of(model: &str) -> Option<Family> {
        let name = model.to_lowercase();
        let families = [("llama", Family::Llama), ("qwen", Family::Qwen)];
        families.into_iter().find(|(word, _)| name.contains(word)).map(|(_, family)| family)
    }

    /// The learning rate of LoRA for a model of this family: 5 · 10⁻⁴ · (2000 / `hidden_size`)ᵖ, where *p* is 0.781 for Llama and 0.0775
    /// for Qwen. A size of 0 is taken for 1.
    ///
    /// The formula of Tinker's cookbook (`get_lr`); [its documentation](https://github.com/thinking-machines-lab/tinker-cookbook/blob/main/docs/supervised-learning/sl-hyperparams.mdx)
    /// says that it costs less than 0.5 % of the loss, compared with the best rate.
    ///
    /// ```
    /// use tinkex::hyperparams::Family;
    ///
    /// let in_millionths = |family: Family, size| (family.learning_rate(size) * 1e6).round();
    /// assert_eq!(in_millionths(Family::Llama, 8192), 166.0);
    /// assert_eq!(in_millionths(Family::Qwen, 5120), 465.0);
    /// ```
    #[must_use]
    pub fn learning_rate(self, hidden_size: u64) -> f64 {
        let exponent = match self {
            Family::Llama => 0.781,
            Family::Qwen => 0.0775,
        };
        REFERENCE_RATE * LORA_RATE_FACTOR * (REFERENCE_SIZE / hidden_size.max(1) as f64).powf(exponent)
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    /// The rates that the cookbook's formula gives, computed in Python.
    #[test]
    fn rates_are_those_of_the_cookbook() {
        for (model, rate) in [
            ("meta-llama/Llama-3.2-1B", 4.908_239e-4),
            ("meta-llama/Llama-3.2-3B", 3.576_008e-4),
            ("meta-llama/Llama-3.1-8B", 2.856_415e-4),
            ("meta-llama/Llama-3.3-70B-Instruct", 1.662_329e-4),
            ("Qwen/Qwen3-4B-Instruct-2507", 4.905_251e-4),
            ("Qwen/Qwen3-8B", 4.729_791e-4),
            ("Qwen/Qwen3-32B", 4.648_699e-4),
            ("Qwen/Qwen3-30B-A3B", 4.990_818e-4),
            ("Qwen/Qwen3.8-27B:peft:262144", 4.648_699e-4),
            ("openai/gpt-oss-20b", 1e-4),
            ("moonshotai/Kimi-K2.6:peft:131072", 3e-4),
        ] {
            let found = learning_rate(model).unwrap().rate;
            assert!((found / rate - 1.0).abs() < 1e-6, "{model}: {found}");
        }
    }

    #[test]
    fn unknown_models_say_what_to_give() {
        for (model, message, hint) in [
            ("Qwen/Qwen3-14B", "the hidden size of the model \"Qwen/Qwen3-14B\" is not known", "Family::Qwen"),
            ("thinkingmachines/Inkling", "no learning rate is published", "between 1e-4 and 1e-3"),
            ("", "no learning rate is published for the model \"\"", "give one yourself"),
        ] {
            let error = learning_rate(model).unwrap_err();
            assert!(error.message().contains(message) && error.hint().unwrap().contains(hint), "{error}");
        }
    }

    quickcheck! {
        fn larger_models_have_smaller_rates(size: u32, more: u16) -> bool {
            let (size, larger) = (u64::from(size).max(1), u64::from(size).max(1) + u64::from(more));
            [Family::Llama, Family::Qwen].into_iter().all(|family| {
                let rate = family.learning_rate(larger);
                rate > 0.0 && rate.is_finite() && rate <= family.learning_rate(size)
            })
        }
    }
}
