//! What a policy read and sampled, turn by turn.

use super::merge;
use super::policy_example::PolicyExample;
use super::turn::Turn;
use crate::error::{Error, Result};

/// The turns of one episode, and its reward.
///
/// A tool's result comes between two samples; the second prompt begins with the first one and its sample:
///
/// ```
/// use tinkex::rl::{Trajectory, Turn};
/// use tinkex::types::{LossFn, SampleResponse};
///
/// let sampled = |text: &str| serde_json::from_str::<SampleResponse>(text).map(|mut sampled| sampled.sequences.remove(0));
/// let call = sampled(r#"{"sequences": [{"stop_reason": "stop", "tokens": [12], "logprobs": [-0.5]}]}"#)?;
/// let answer = sampled(r#"{"sequences": [{"stop_reason": "stop", "tokens": [15, 16], "logprobs": [-1.5, -0.25]}]}"#)?;
/// let trajectory = Trajectory::new([Turn::new([10, 11], call), Turn::new([10, 11, 12, 14], answer)], 1.0);
///
/// let examples = trajectory.examples(0.75)?;
/// assert_eq!(examples.len(), 1);
/// assert_eq!(examples[0].model_input.to_tokens()?, [10, 11, 12, 14, 15]);
/// assert_eq!(examples[0].target_tokens, [11, 12, 14, 15, 16]);
/// assert_eq!(examples[0].mask, [false, true, false, true, true]);
/// assert_eq!(examples[0].logprobs, [0.0, -0.5, 0.0, -1.5, -0.25]);
/// assert_eq!(examples[0].advantages, [0.0, 0.75, 0.0, 0.75, 0.75]);
/// examples[0].datum()?.validate_for(&LossFn::Ppo)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Trajectory {
    /// The turns, in order.
    pub turns: Vec<Turn>,
    /// The reward of the whole, in any unit: only differences within a group count.
    pub reward: f64,
}

impl Trajectory {
    /// A trajectory of these turns.
    #[must_use]
    pub fn new(turns: impl IntoIterator<Item = Turn>, reward: f64) -> Self {
        Trajectory { turns: turns.into_iter().collect(), reward }
    }

    /// The training examples of the trajectory, with this advantage for each sampled token.
    ///
    /// A turn whose prompt begins with everything before it, samples included, continues the same example. Any other prompt begins a
    /// new one, for instance where a conversation was shortened. So each sampled token is a target exactly once. A turn without a
    /// sampled token is left out. Images of prompts stay, and count as many tokens as they say.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an empty prompt, an image that does not say how many tokens it is, a
    /// sequence without the log-probability of each token, and for an advantage that is not a finite float32. The error names the
    /// turn.
    pub fn examples(&self, advantage: f64) -> Result<Vec<PolicyExample>> {
        let narrow = advantage as f32;
        if !narrow.is_finite() {
            return Err(Error::invalid_input(format!("the advantage of a trajectory is {advantage}"))
                .with_hint("advantages are finite float32 numbers"));
        }
        merge::examples(&self.turns, narrow)
    }
}

impl Turn {
    /// The trajectory of this turn alone.
    #[must_use]
    pub fn scored(self, reward: f64) -> Trajectory {
        Trajectory::new([self], reward)
    }
}
