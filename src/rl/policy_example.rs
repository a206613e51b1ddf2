//! A training example of a policy, before it becomes a datum.

use crate::error::{Error, Result};
use crate::types::{Datum, ModelInput, ProvenanceSpan};

/// A training example for the losses of reinforcement learning, with N targets: what [`kl_penalty`](super::kl_penalty) and
/// [`PolicyMetrics`](super::PolicyMetrics) work on, and what becomes a [`Datum`]. Its lists have N items each, one for each token of
/// the model input. [`Trajectory::examples`](super::Trajectory::examples) makes it.
///
/// The fields are there to be changed, such as the advantages of single tokens:
///
/// ```
/// use tinkex::rl::Turn;
/// use tinkex::types::{LossFn, SampleResponse};
///
/// let sampled = r#"{"sequences": [{"stop_reason": "stop", "tokens": [12, 13], "logprobs": [-0.5, -1.5]}]}"#;
/// let mut sampled: SampleResponse = serde_json::from_str(sampled)?;
/// let turn = Turn::new([10, 11], sampled.sequences.remove(0));
/// let mut example = turn.scored(0.0).examples(0.0)?.remove(0);
/// assert_eq!(example.sequence().to_tokens()?, [10, 11, 12, 13]);
/// example.advantages[2] = 0.25;
///
/// let datum = example.datum()?;
/// assert_eq!(datum.model_input.to_tokens()?, [10, 11, 12]);
/// assert_eq!(datum.loss_fn_inputs["target_tokens"].as_i64(), Some(&[11, 12, 13][..]));
/// assert_eq!(datum.loss_fn_inputs["logprobs"].as_f32(), Some(&[0.0, -0.5, -1.5][..]));
/// assert_eq!(datum.loss_fn_inputs["advantages"].as_f32(), Some(&[0.0, 0.0, 0.25][..]));
/// datum.validate_for(&LossFn::ImportanceSampling)?;
/// example.gspo_datum()?.validate_for(&LossFn::Gspo)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PolicyExample {
    /// What the model reads: all tokens but the last.
    pub model_input: ModelInput,
    /// The token to predict after each token of the model input: all tokens but the first. 0 for the tokens of an image.
    pub target_tokens: Vec<u32>,
    /// The log-probability with which each target was sampled, in nats; 0 for those that were not.
    pub logprobs: Vec<f32>,
    /// The advantage of each target; 0 for those that were not sampled.
    pub advantages: Vec<f32>,
    /// Whether each target was sampled.
    pub mask: Vec<bool>,
    /// Where the tokens of the model input come from. Empty if a sequence had no id.
    pub model_input_spans: Vec<ProvenanceSpan>,
    /// Where the targets come from. Empty if a sequence had no id.
    pub target_spans: Vec<ProvenanceSpan>,
}

impl PolicyExample {
    /// All N + 1 tokens, the last one included: what another model scores, such as a reference or a teacher.
    #[must_use]
    pub fn sequence(&self) -> ModelInput {
        self.model_input.clone().append(self.target_tokens.last().copied().into_iter().collect::<Vec<u32>>())
    }

    /// The number of targets that were sampled.
    #[must_use]
    pub fn sampled_len(&self) -> usize {
        self.mask.iter().filter(|sampled| **sampled).count()
    }

    /// The datum for [`ImportanceSampling`](crate::types::LossFn::ImportanceSampling), [`Ppo`](crate::types::LossFn::Ppo),
    /// [`Cispo`](crate::types::LossFn::Cispo), [`Dro`](crate::types::LossFn::Dro) and
    /// [`StableReinforce`](crate::types::LossFn::StableReinforce), with the provenance of its tokens where it is known.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for lists of different lengths, and for numbers that are not finite.
    pub fn datum(&self) -> Result<Datum> {
        self.check()?;
        let datum = Datum::new(&self.model_input)
            .input("target_tokens", &self.target_tokens)?
            .input("logprobs", &self.logprobs)?
            .input("advantages", &self.advantages)?
            .with_provenance(self.model_input_spans.iter().cloned(), self.target_spans.iter().cloned());
        datum.validate()?;
        Ok(datum)
    }

    /// The datum for [`Gspo`](crate::types::LossFn::Gspo): [`datum`](PolicyExample::datum) with the mask as `sequence_ratio_mask`.
    ///
    /// # Errors
    ///
    /// As [`datum`](PolicyExample::datum).
    pub fn gspo_datum(&self) -> Result<Datum> {
        let mask: Vec<f32> = self.mask.iter().map(|sampled| f32::from(u8::from(*sampled))).collect();
        self.datum()?.input("sequence_ratio_mask", mask)
    }

    /// Checks that all lists have one item for each target.
    pub(super) fn check(&self) -> Result<()> {
        let targets = self.target_tokens.len();
        let lists =
            [("logprobs", self.logprobs.len()), ("advantages", self.advantages.len()), ("mask", self.mask.len())];
        match lists.into_iter().find(|(_, length)| *length != targets) {
            Some((name, length)) => {
                let message = format!("the {name} of a policy example have {length} items for {targets} targets");
                Err(Error::invalid_input(message).with_hint("give each target one"))
            }
            None => Ok(()),
        }
    }
}

/// The error of a mean over no sampled target.
pub(super) fn none_sampled(mean: &str) -> Error {
    Error::invalid_input(format!("none of the examples has a sampled target, so there is no {mean}"))
        .with_hint("pass the examples of a step, as policy_examples makes them")
}

/// Checks the examples, and that these are the log-probabilities of their targets: one list for each example, with one item for each
/// target. `whose` says whose they are.
pub(super) fn aligned<L: AsRef<[f32]>>(
    examples: &[PolicyExample],
    logprobs: impl IntoIterator<Item = L>,
    whose: &str,
) -> Result<Vec<L>> {
    examples.iter().try_for_each(PolicyExample::check)?;
    let logprobs: Vec<L> = logprobs.into_iter().collect();
    if logprobs.len() != examples.len() {
        let (lists, wanted) = (logprobs.len(), examples.len());
        let message = format!("there are {lists} lists of the {whose}'s log-probabilities for {wanted} examples");
        return Err(Error::invalid_input(message).with_hint("give one list for each example, in their order"));
    }
    let lengths =
        logprobs.iter().map(|list| list.as_ref().len()).zip(examples.iter().map(|example| example.mask.len()));
    match lengths.enumerate().find(|(_, (known, wanted))| known != wanted) {
        Some((index, (known, wanted))) => {
            let message =
                format!("the {whose} has {known} log-probabilities for the {wanted} targets of example {index}");
            Err(Error::invalid_input(message)
                .with_hint("give one for each target: those of a whole sequence without that of its first token"))
        }
        None => Ok(logprobs),
    }
}
