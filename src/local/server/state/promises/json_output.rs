//! Results in JSON, with numbers that are not finite.
//!
//! JSON has none, and null means "no value". The official clients read the words `NaN`, `Infinity` and `-Infinity` as floats, if
//! they are strings; a bare `NaN`, as Python writes it, is refused by 0.24.1.

use serde::Serialize;
use serde_json::Value;

use crate::types::{ForwardBackwardOutput, SampleResponse, TensorData, TokenLogprob};

/// A result in JSON, with words in place of some of its numbers.
pub(super) fn to_json(output: &impl Serialize, words: Words) -> serde_json::Result<Vec<u8>> {
    if words.0.is_empty() {
        return serde_json::to_vec(output);
    }
    let mut json = serde_json::to_value(output)?;
    for (pointer, word) in words.0 {
        if let Some(number) = json.pointer_mut(&pointer) {
            *number = Value::from(word);
        }
    }
    serde_json::to_vec(&json)
}

/// The numbers that are not finite: where they are, as a JSON pointer, and the word for each.
#[derive(Debug, Default)]
pub(super) struct Words(Vec<(String, &'static str)>);

impl Words {
    fn add(&mut self, place: impl FnOnce() -> String, number: f64) {
        let word = match number {
            number if number.is_nan() => "NaN",
            f64::INFINITY => "Infinity",
            f64::NEG_INFINITY => "-Infinity",
            _ => return,
        };
        self.0.push((place(), word));
    }

    fn add_list(&mut self, place: &str, numbers: impl IntoIterator<Item = f32>) {
        for (index, number) in numbers.into_iter().enumerate() {
            self.add(|| format!("{place}/{index}"), number.into());
        }
    }

    fn add_tensor(&mut self, place: &str, tensor: &TensorData) {
        self.add_list(&format!("{place}/data"), tensor.stored_values().as_f32().unwrap_or_default().iter().copied());
    }

    fn add_tops(&mut self, place: &str, tops: &[TokenLogprob]) {
        for (index, top) in tops.iter().enumerate() {
            self.add(|| format!("{place}/{index}/1"), top.logprob.into());
        }
    }
}

/// A key as a part of a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

pub(super) fn words_of_losses(losses: &ForwardBackwardOutput) -> Words {
    let mut words = Words::default();
    for (index, output) in losses.loss_fn_outputs.iter().enumerate() {
        for (name, tensor) in output {
            words.add_tensor(&format!("/loss_fn_outputs/{index}/{}", escaped(name)), tensor);
        }
    }
    for (name, &value) in &losses.metrics {
        words.add(|| format!("/metrics/{}", escaped(name)), value);
    }
    words
}

pub(super) fn words_of_samples(samples: &SampleResponse) -> Words {
    let mut words = Words::default();
    for (index, sequence) in samples.sequences.iter().enumerate() {
        let logprobs = sequence.logprobs.iter().flatten().copied();
        words.add_list(&format!("/sequences/{index}/logprobs"), logprobs);
        for (place, tops) in sequence.topk_logprobs.iter().flatten().enumerate() {
            words.add_tops(&format!("/sequences/{index}/topk_sampled_logprobs/{place}"), tops);
        }
    }
    // What has no value stays null.
    let prompt = samples.prompt_logprobs.iter().flatten().map(|logprob| logprob.unwrap_or_default());
    words.add_list("/prompt_logprobs", prompt);
    for (place, tops) in samples.topk_prompt_logprobs.iter().flatten().enumerate() {
        words.add_tops(&format!("/topk_prompt_logprobs/{place}"), tops.as_deref().unwrap_or_default());
    }
    if let Some(alternatives) = &samples.prompt_alt_tokens {
        words.add_tensor("/prompt_alt_tokens/logprobs", &alternatives.logprobs);
    }
    if let Some(targets) = &samples.target_prompt_logprobs {
        words.add_tensor("/target_prompt_logprobs", targets);
    }
    words
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::types::{LossFnOutput, SampledSequence};

    const NUMBERS: [f32; 4] = [f32::NAN, -0.5, f32::INFINITY, f32::NEG_INFINITY];

    fn written(output: &impl Serialize, words: Words) -> Value {
        serde_json::from_slice(&to_json(output, words).unwrap()).unwrap()
    }

    #[test]
    fn numbers_of_passes_are_words() {
        let mut losses = ForwardBackwardOutput::default();
        let tensor = TensorData::from(NUMBERS.to_vec());
        losses.loss_fn_outputs = vec![LossFnOutput::new(), [("a/b~c", tensor)].into_iter().collect()];
        losses.metrics.insert("loss/all:sum".to_owned(), f64::NAN);
        losses.metrics.insert("mfu:mean".to_owned(), 0.5);
        let written = written(&losses, words_of_losses(&losses));
        assert_eq!(written["loss_fn_outputs"][1]["a/b~c"]["data"], json!(["NaN", -0.5, "Infinity", "-Infinity"]));
        assert_eq!(written["metrics"], json!({ "loss/all:sum": "NaN", "mfu:mean": 0.5 }));
    }

    #[test]
    fn numbers_of_samples_are_words() {
        let sequence = json!({
            "stop_reason": "stop", "tokens": [1], "logprobs": [null], "topk_sampled_logprobs": [[[7, null], [8, -1.0]]],
        });
        let tensor = |dtype: &str| json!({ "data": [null], "dtype": dtype, "shape": [1, 1] });
        let mut alternatives = json!({ "tokens": tensor("int64"), "logprobs": tensor("float32") });
        alternatives["tokens"]["data"] = json!([5]);
        // Null is read as NaN.
        let mut samples: SampleResponse = serde_json::from_value(json!({
            "sequences": [serde_json::from_value::<SampledSequence>(sequence.clone()).unwrap()],
            "topk_prompt_logprobs": [null, [[3, null]]],
            "target_prompt_logprobs": tensor("float32"),
            "prompt_alt_tokens": alternatives,
        }))
        .unwrap();
        samples.prompt_logprobs = Some(vec![None, Some(f32::NAN), Some(-2.0)]);
        let written = written(&samples, words_of_samples(&samples));
        let sequence = &written["sequences"][0];
        assert_eq!(sequence["logprobs"], json!(["NaN"]));
        assert_eq!(sequence["topk_sampled_logprobs"], json!([[[7, "NaN"], [8, -1.0]]]));
        assert_eq!(written["prompt_logprobs"], json!([null, "NaN", -2.0]));
        assert_eq!(written["topk_prompt_logprobs"], json!([null, [[3, "NaN"]]]));
        assert_eq!(written["target_prompt_logprobs"]["data"], json!(["NaN"]));
        assert_eq!(written["prompt_alt_tokens"]["logprobs"]["data"], json!(["NaN"]));
    }
}
