//! What the results of passes, samples and steps consist of, as text in the id of their promise: nothing is kept until the poll.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::local::server::state::{TaskOutput, tagged};
use crate::rules::wire_format::WireFormat;
use crate::types::wire::protobuf::prost::Message;
use crate::types::wire::protobuf::prost::bytes::Bytes;
use crate::types::wire::protobuf::{ForwardBackwardRequest, Tensor, size_of_dtype, tensor};
use crate::types::{
    ForwardBackwardOutput, LossFnOutput, OptimStepResponse, SampleResponse, SampledSequence, StopReason, TensorData,
};

/// A result has at most so many numbers: the length is the client's word.
const MAX_NUMBERS: usize = 1 << 24;

/// The tokens of a sample whose request names no maximum.
const TOKENS: usize = 16;

/// What a result consists of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Outcome {
    Step,
    /// Runs of datums with as many targets each: targets, datums.
    Pass(Vec<(usize, usize)>),
    /// `prompt` is the number of log-probabilities of the prompt, if they are wanted.
    Sample {
        sequences: usize,
        tokens: usize,
        prompt: Option<usize>,
    },
}

impl Outcome {
    /// What the pass of this body results in; `None` if it is malformed.
    pub(super) fn of_pass(body: Vec<u8>, format: WireFormat) -> Option<Self> {
        let targets: Vec<usize> = match format {
            WireFormat::Json => {
                let pass: Pass = serde_json::from_slice(&body).ok()?;
                pass.input.data.into_iter().map(|datum| datum.loss_fn_inputs.target_tokens.data.len()).collect()
            }
            WireFormat::Protobuf => {
                // Its tensors share the memory of the body.
                let pass = ForwardBackwardRequest::decode(Bytes::from(body)).ok()?;
                let targets = |inputs: BTreeMap<String, Tensor>| inputs.get("target_tokens").map_or(0, length);
                pass.data.into_iter().map(|datum| targets(datum.loss_fn_inputs)).collect()
            }
        };
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for targets in targets {
            match runs.last_mut() {
                Some((length, datums)) if *length == targets => *datums += 1,
                _ => runs.push((targets, 1)),
            }
        }
        Some(Outcome::Pass(runs))
    }

    /// What the sample of this body results in; `None` if it is malformed.
    pub(super) fn of_sample(body: &[u8]) -> Option<Self> {
        let sample: Sample = serde_json::from_slice(body).ok()?;
        let prompt = || sample.prompt.chunks.iter().map(|chunk| chunk.tokens.len()).sum();
        Some(Outcome::Sample {
            sequences: sample.num_samples.unwrap_or(1),
            tokens: sample.sampling_params.max_tokens.unwrap_or(TOKENS),
            prompt: sample.prompt_logprobs.unwrap_or_default().then(prompt),
        })
    }

    /// What the text says; `None` if it says nothing, or more than a result may have.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once('-').map_or((text, None), |(kind, rest)| (kind, Some(rest)));
        let pair = |text: &str| {
            let (each, count) = text.split_once('x')?;
            Some((each.parse().ok()?, count.parse().ok()?))
        };
        let outcome = match (kind, rest) {
            ("step", None) => Outcome::Step,
            ("pass", None) => Outcome::Pass(Vec::new()),
            ("pass", Some(runs)) => Outcome::Pass(runs.split('.').map(pair).collect::<Option<_>>()?),
            ("sample", Some(rest)) => {
                let (each, prompt) = match rest.split_once('.') {
                    Some((each, prompt)) => (each, Some(prompt.parse().ok()?)),
                    None => (rest, None),
                };
                let (tokens, sequences) = pair(each)?;
                Outcome::Sample { sequences, tokens, prompt }
            }
            _ => return None,
        };
        outcome.is_allowed().then_some(outcome)
    }

    /// Whether the result is not too large.
    pub(super) fn is_allowed(&self) -> bool {
        self.numbers().is_some_and(|numbers| numbers <= MAX_NUMBERS)
    }

    /// How many numbers the result has, or could have in the memory of its parts; `None` if they are too many to count.
    pub(super) fn numbers(&self) -> Option<usize> {
        let product = |each: usize, count: usize| each.max(64).checked_mul(count);
        match self {
            Outcome::Step => Some(0),
            Outcome::Pass(runs) => {
                runs.iter().try_fold(0_usize, |sum, &(targets, datums)| sum.checked_add(product(targets, datums)?))
            }
            Outcome::Sample { sequences, tokens, prompt } => {
                product(*tokens, *sequences)?.checked_add(prompt.unwrap_or_default())
            }
        }
    }

    /// The result, with numbers that mean nothing.
    pub(super) fn output(&self) -> TaskOutput {
        match self {
            Outcome::Step => TaskOutput::OptimStep(OptimStepResponse { metrics: Some(BTreeMap::new()) }),
            Outcome::Pass(runs) => {
                let mut tokens = 0;
                let lengths = runs.iter().flat_map(|&(targets, datums)| std::iter::repeat_n(targets, datums));
                let outputs = lengths.map(|targets| {
                    let logprobs: Vec<f32> = (tokens..tokens + targets).map(logprob).collect();
                    tokens += targets;
                    LossFnOutput::from_iter([("logprobs", TensorData::from(logprobs))])
                });
                let loss_fn_outputs = outputs.collect();
                let metrics = [("loss:sum".to_owned(), tokens as f64), ("tokens:sum".to_owned(), tokens as f64)];
                TaskOutput::Losses(ForwardBackwardOutput {
                    loss_fn_output_type: "ArrayRecord".to_owned(),
                    loss_fn_outputs,
                    metrics: metrics.into(),
                })
            }
            &Outcome::Sample { sequences, tokens, prompt } => {
                let sequence = |index: usize| SampledSequence {
                    stop_reason: StopReason::Length,
                    tokens: (0..tokens).map(|place| noise(index * tokens + place) % 100_000).collect(),
                    logprobs: Some((0..tokens).map(|place| logprob(index * tokens + place)).collect()),
                    topk_logprobs: None,
                    sequence_id: None,
                };
                let of_prompt = |tokens: usize| (0..tokens).map(|place| (place > 0).then(|| logprob(place))).collect();
                let samples = SampleResponse {
                    sequences: (0..sequences).map(sequence).collect(),
                    prompt_logprobs: prompt.map(of_prompt),
                    ..SampleResponse::default()
                };
                TaskOutput::Samples(tagged("sample", samples))
            }
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Step => f.write_str("step"),
            Outcome::Pass(runs) => {
                f.write_str("pass")?;
                runs.iter().enumerate().try_for_each(|(index, (targets, datums))| {
                    write!(f, "{}{targets}x{datums}", if index == 0 { '-' } else { '.' })
                })
            }
            Outcome::Sample { sequences, tokens, prompt } => {
                write!(f, "sample-{tokens}x{sequences}")?;
                prompt.map_or(Ok(()), |prompt| write!(f, ".{prompt}"))
            }
        }
    }
}

/// The same mixture of digits on every run.
fn noise(index: usize) -> u32 {
    let mut bits = (index as u32).wrapping_mul(2_654_435_761);
    bits ^= bits >> 15;
    bits.wrapping_mul(2_246_822_519)
}

fn logprob(index: usize) -> f32 {
    -(noise(index) as f32) / 1e9
}

/// How many numbers a tensor has.
fn length(tensor: &Tensor) -> usize {
    let of_shape = || tensor.shape.iter().try_fold(1_usize, |all, &side| all.checked_mul(usize::try_from(side).ok()?));
    match &tensor.encoding {
        Some(tensor::Encoding::Dense(numbers)) if tensor.shape.is_empty() => {
            size_of_dtype(tensor.dtype, "target_tokens").map_or(0, |size| numbers.len() / size)
        }
        _ => of_shape().unwrap_or_default(),
    }
}

/// The parts of a pass in JSON that say how many numbers its result has. Those are counted, not read.
#[derive(Deserialize)]
struct Pass {
    #[serde(alias = "forward_input", rename = "forward_backward_input")]
    input: Input,
}

#[derive(Deserialize)]
struct Input {
    data: Vec<Datum>,
}

#[derive(Deserialize)]
struct Datum {
    loss_fn_inputs: LossFnInputs,
}

#[derive(Deserialize)]
struct LossFnInputs {
    #[serde(default)]
    target_tokens: Targets,
}

#[derive(Default, Deserialize)]
struct Targets {
    data: Vec<IgnoredAny>,
}

/// Those of a sample.
#[derive(Deserialize)]
struct Sample {
    num_samples: Option<usize>,
    prompt_logprobs: Option<bool>,
    prompt: Prompt,
    sampling_params: Params,
}

#[derive(Deserialize)]
struct Prompt {
    chunks: Vec<Chunk>,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    tokens: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
struct Params {
    max_tokens: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_a_text() {
        let sample = |sequences, tokens, prompt| Outcome::Sample { sequences, tokens, prompt };
        for (outcome, text) in [
            (Outcome::Step, "step"),
            (Outcome::Pass(Vec::new()), "pass"),
            (Outcome::Pass(vec![(4096, 76)]), "pass-4096x76"),
            (Outcome::Pass(vec![(1, 2), (0, 3)]), "pass-1x2.0x3"),
            (sample(4, 16, None), "sample-16x4"),
            (sample(1, 8, Some(3)), "sample-8x1.3"),
            (Outcome::Pass(vec![(MAX_NUMBERS, 1)]), "pass-16777216x1"),
        ] {
            assert_eq!((outcome.to_string().as_str(), Outcome::parse(text)), (text, Some(outcome)));
        }
        for text in [
            "",
            "other",
            "pass-",
            "step-1",
            "pass-1",
            "pass-1x",
            "pass-1x1.",
            "pass-16777216x2",
            "pass-0x16777217",
            "sample",
            "sample-1x1.",
            "sample-1x1.x",
            "sample-1x16777216.1",
            "pass-9999999999x9999999999",
            "pass--1x1",
        ] {
            assert_eq!(Outcome::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_sample_has_what_was_asked_for() {
        for (fields, expected) in [
            (r#""sampling_params":{}"#, "sample-16x1"),
            (r#""num_samples":3,"sampling_params":{"max_tokens":5}"#, "sample-5x3"),
            (r#""prompt_logprobs":true,"sampling_params":{"max_tokens":5}"#, "sample-5x1.3"),
        ] {
            let body = format!(r#"{{"prompt":{{"chunks":[{{"tokens":[1,2]}},{{"tokens":[3]}}]}},{fields}}}"#);
            assert_eq!(Outcome::of_sample(body.as_bytes()).map(|it| it.to_string()).as_deref(), Some(expected));
        }
        assert_eq!(Outcome::of_sample(b"{}"), None);
    }
}
