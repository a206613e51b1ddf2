//! Where the tokens of a training example come from.

use crate::error::{Error, Result};

/// A run of tokens of a training example, and the sample that read or made them. [`Datum::with_provenance`] takes them.
///
/// [`Datum::with_provenance`]: super::Datum::with_provenance
///
/// ```
/// use tinkex::types::{Datum, ModelInput, ProvenanceSpan};
///
/// // A sample of the prompt 10, 11 made 12, 13. The model reads 10, 11, 12 and predicts 11, 12, 13.
/// let datum = Datum::new(ModelInput::from_tokens([10, 11, 12]))
///     .input("target_tokens", [11, 12, 13])?
///     .with_provenance(
///         [ProvenanceSpan::prompt("sequence-1", 0, 2), ProvenanceSpan::sampled("sequence-1", 0, 1)],
///         [ProvenanceSpan::prompt("sequence-1", 1, 1), ProvenanceSpan::sampled("sequence-1", 0, 2)],
///     );
/// datum.validate()?;
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ProvenanceSpan {
    /// Whether the tokens were read or made.
    pub source: ProvenanceSource,
    /// The id of the sampled sequence: [`SampledSequence::sequence_id`](super::SampledSequence::sequence_id).
    pub sequence_id: String,
    /// The index of the first token, in the prompt or among the sampled tokens.
    pub offset: u64,
    /// The number of tokens.
    pub length: u64,
}

/// What a [`ProvenanceSpan`] is a part of, which has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProvenanceSource {
    /// The prompt of the sample.
    Prompt,
    /// The sampled tokens.
    Sampled,
}

impl ProvenanceSpan {
    /// A run of tokens of the prompt that this sequence was sampled from.
    #[doc(alias = "PromptProvenanceSpan")]
    #[must_use]
    pub fn prompt(sequence_id: impl Into<String>, offset: u64, length: u64) -> Self {
        ProvenanceSpan { source: ProvenanceSource::Prompt, sequence_id: sequence_id.into(), offset, length }
    }

    /// A run of the tokens of this sampled sequence.
    #[doc(alias = "SampledProvenanceSpan")]
    #[must_use]
    pub fn sampled(sequence_id: impl Into<String>, offset: u64, length: u64) -> Self {
        ProvenanceSpan { source: ProvenanceSource::Sampled, sequence_id: sequence_id.into(), offset, length }
    }
}

/// Checks that these runs cover this number of tokens. None is allowed, too: the provenance is unknown.
pub(super) fn check(spans: &[ProvenanceSpan], tokens: usize, what: &dyn std::fmt::Display) -> Result<()> {
    if spans.is_empty() {
        return Ok(());
    }
    if spans.iter().any(|span| span.sequence_id.is_empty()) {
        return Err(Error::invalid_input(format!("a provenance span of {what} has no sequence id")));
    }
    let is_long = |span: &ProvenanceSpan| i64::try_from(span.offset.saturating_add(span.length)).is_err();
    let covered = spans.iter().fold(0_u64, |covered, span| covered.saturating_add(span.length));
    if covered != tokens as u64 || spans.iter().any(is_long) {
        return Err(Error::invalid_input(format!(
            "the provenance spans of {what} cover {covered} tokens, but there are {tokens}"
        ))
        .with_hint("the spans must cover all tokens, in order"));
    }
    Ok(())
}
