//! Turns whose prompts extend one another become one example.

use super::policy_example::PolicyExample;
use super::turn::Turn;
use crate::error::{Error, Result};
use crate::types::{EncodedTextChunk, ModelInput, ModelInputChunk, ProvenanceSpan};

/// The examples of these turns, with the same advantage for each sampled token.
pub(super) fn examples(turns: &[Turn], advantage: f32) -> Result<Vec<PolicyExample>> {
    let mut done = Vec::new();
    let mut open: Option<Tokens> = None;
    for (index, turn) in turns.iter().enumerate().filter(|(_, turn)| !turn.sequence.tokens.is_empty()) {
        check(turn).map_err(|error| error.with_detail(format_args!("turn {index}")))?;
        // One chunk for each run of text, however the prompt was put together.
        let prompt = ModelInput::new().append(&turn.prompt);
        let rest = open.as_ref().and_then(|tokens| rest(&tokens.all, &prompt));
        let (mut tokens, read) = match (rest, open.take()) {
            (Some(rest), Some(tokens)) => (tokens, rest),
            (_, before) => {
                done.extend(before.map(|tokens| tokens.example(advantage)));
                (Tokens::default(), prompt)
            }
        };
        tokens.add(read, turn);
        open = Some(tokens);
    }
    done.extend(open.map(|tokens| tokens.example(advantage)));
    Ok(done)
}

fn check(turn: &Turn) -> Result<()> {
    let (sampled, known) = (turn.sequence.tokens.len(), turn.sequence.logprobs.as_ref().map_or(0, Vec::len));
    let Some(length) = turn.prompt.known_len() else {
        return Err(Error::invalid_input("an image of a prompt does not say how many tokens it is")
            .with_hint("set its tokens, or its expected_tokens"));
    };
    if length == 0 {
        return Err(Error::invalid_input("the prompt of a trajectory is empty")
            .with_hint("pass the prompt that the sequence was sampled for"));
    }
    if known != sampled {
        let message = format!("a sampled sequence has {known} log-probabilities for {sampled} tokens");
        return Err(Error::invalid_input(message).with_hint("pass a sequence as the service sampled it"));
    }
    let logprobs = turn.sequence.logprobs.iter().flatten();
    match logprobs.enumerate().find(|(_, logprob)| !logprob.is_finite()) {
        Some((index, logprob)) => {
            let message = format!("the log-probability of the sampled token {index} is {logprob}");
            Err(Error::invalid_input(message).with_hint("leave out what a diverged model sampled"))
        }
        None => Ok(()),
    }
}

/// What follows `start` in `whole`, if `whole` begins with it. Both have one chunk for each run of text.
fn rest(start: &ModelInput, whole: &ModelInput) -> Option<ModelInput> {
    let Some((last, earlier)) = start.chunks.split_last() else { return Some(whole.clone()) };
    let (same, from) = whole.chunks.split_at_checked(earlier.len())?;
    let (first, more) = from.split_first()?;
    if same != earlier {
        return None;
    }
    let first = match (last, first) {
        (ModelInputChunk::EncodedText(last), ModelInputChunk::EncodedText(first)) => {
            let after = first.tokens.strip_prefix(&*last.tokens)?;
            (!after.is_empty()).then(|| EncodedTextChunk::new(after).into())
        }
        (last, first) => (last == first).then_some(None)?,
    };
    Some(first.into_iter().chain(more.iter().cloned()).collect())
}

/// All tokens of an example that is being put together, with what is known of each.
#[derive(Default)]
struct Tokens {
    all: ModelInput,
    /// The id of each token, 0 for those of images.
    ids: Vec<u32>,
    /// The log-probability of each sampled token.
    logprobs: Vec<Option<f32>>,
    /// Where the tokens come from.
    spans: Vec<ProvenanceSpan>,
    /// Whether a sequence had no id.
    has_unknown: bool,
}

impl Tokens {
    fn add(&mut self, read: ModelInput, turn: &Turn) {
        let (before, read_len, sampled) = (self.ids.len(), read.len(), &turn.sequence.tokens);
        for chunk in &read.chunks {
            match chunk {
                ModelInputChunk::EncodedText(text) => self.ids.extend(&text.tokens),
                image => self.ids.resize(self.ids.len() + image.len(), 0),
            }
        }
        self.ids.extend(sampled);
        self.logprobs.resize(before + read_len, None);
        self.logprobs.extend(turn.sequence.logprobs.iter().flatten().copied().map(Some));
        let all = std::mem::take(&mut self.all);
        self.all = all.append(read).append(sampled);
        match &turn.sequence.sequence_id {
            Some(id) => {
                self.spans.push(ProvenanceSpan::prompt(id, before as u64, read_len as u64));
                self.spans.push(ProvenanceSpan::sampled(id, 0, sampled.len() as u64));
            }
            None => self.has_unknown = true,
        }
    }

    fn example(self, advantage: f32) -> PolicyExample {
        let Tokens { mut all, ids, logprobs, spans, has_unknown } = self;
        // The last token was sampled, so it is at the end of a text.
        if let Some(ModelInputChunk::EncodedText(text)) = all.chunks.last_mut() {
            text.tokens.pop();
        }
        let is_empty =
            |chunk: &ModelInputChunk| matches!(chunk, ModelInputChunk::EncodedText(text) if text.tokens.is_empty());
        all.chunks.retain(|chunk| !is_empty(chunk));
        let spans = if has_unknown { Vec::new() } else { spans };
        let sampled = &logprobs[1..];
        PolicyExample {
            model_input: all,
            target_tokens: ids[1..].to_vec(),
            logprobs: sampled.iter().map(|logprob| logprob.unwrap_or(0.0)).collect(),
            advantages: sampled.iter().map(|logprob| if logprob.is_some() { advantage } else { 0.0 }).collect(),
            mask: sampled.iter().map(Option::is_some).collect(),
            model_input_spans: without_last(spans.clone()),
            target_spans: without_first(spans),
        }
    }
}

/// The runs without their first token. Those of length 0 are left out.
fn without_first(mut spans: Vec<ProvenanceSpan>) -> Vec<ProvenanceSpan> {
    if let Some(first) = spans.iter_mut().find(|span| span.length > 0) {
        (first.offset, first.length) = (first.offset + 1, first.length - 1);
    }
    spans.retain(|span| span.length > 0);
    spans
}

/// The runs without their last token. Those of length 0 are left out.
fn without_last(mut spans: Vec<ProvenanceSpan>) -> Vec<ProvenanceSpan> {
    if let Some(last) = spans.iter_mut().rfind(|span| span.length > 0) {
        last.length -= 1;
    }
    spans.retain(|span| span.length > 0);
    spans
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;
    use serde_json::json;

    use super::*;
    use crate::types::{ImageChunk, ImageFormat, LossFn, SampledSequence};

    fn sequence(tokens: &[u32], logprobs: Option<&[f32]>, id: Option<&str>) -> SampledSequence {
        let json = json!({"stop_reason": "stop", "tokens": tokens, "logprobs": logprobs, "sequence_id": id});
        serde_json::from_value(json).unwrap()
    }

    fn turn(prompt: &[u32], sampled: &[u32]) -> Turn {
        let logprobs: Vec<f32> = sampled.iter().map(|token| -(*token as f32)).collect();
        Turn::new(prompt, sequence(sampled, Some(&logprobs), None))
    }

    fn tokens(examples: &[PolicyExample]) -> Vec<Vec<u32>> {
        examples.iter().map(|example| example.sequence().to_tokens().unwrap()).collect()
    }

    #[test]
    fn turns_merge_where_prompts_extend_them() {
        let first = || turn(&[1, 2], &[3]);
        for (second, merged) in [
            (turn(&[1, 2, 3, 4], &[5, 6]), vec![vec![1, 2, 3, 4, 5, 6]]),
            // Nothing was read in between.
            (turn(&[1, 2, 3], &[4]), vec![vec![1, 2, 3, 4]]),
            (turn(&[1, 2, 7, 4], &[5]), vec![vec![1, 2, 3], vec![1, 2, 7, 4, 5]]),
            // Without the sampled token, and the same prompt again.
            (turn(&[1, 2], &[5]), vec![vec![1, 2, 3], vec![1, 2, 5]]),
            (turn(&[9], &[5]), vec![vec![1, 2, 3], vec![9, 5]]),
            // Nothing was sampled.
            (turn(&[9], &[]), vec![vec![1, 2, 3]]),
        ] {
            assert_eq!(tokens(&examples(&[first(), second.clone()], 1.0).unwrap()), merged, "{second:?}");
        }
    }

    #[test]
    fn a_merged_example_by_hand() {
        let example = examples(&[turn(&[1], &[2]), turn(&[1, 2, 3], &[4, 5])], -0.5).unwrap().remove(0);
        assert_eq!(example.model_input.to_tokens().unwrap(), [1, 2, 3, 4]);
        assert_eq!(example.target_tokens, [2, 3, 4, 5]);
        assert_eq!(example.mask, [true, false, true, true]);
        assert_eq!(example.logprobs, [-2.0, 0.0, -4.0, -5.0]);
        assert_eq!(example.advantages, [-0.5, 0.0, -0.5, -0.5]);
        assert_eq!(example.sampled_len(), 3);
        let mask = example.gspo_datum().unwrap().loss_fn_inputs["sequence_ratio_mask"].as_f32().unwrap().to_vec();
        assert_eq!(mask, [1.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn provenance_is_kept_where_it_is_known() {
        let named = |prompt: &[u32], sampled: &[u32], id| {
            Turn::new(prompt, sequence(sampled, Some(&vec![-1.0; sampled.len()]), id))
        };
        let turns = [named(&[1], &[2], Some("a")), named(&[1, 2, 3], &[4, 5], Some("b"))];
        let example = examples(&turns, 1.0).unwrap().remove(0);
        let (a, b) = (ProvenanceSpan::sampled("a", 0, 1), ProvenanceSpan::prompt("b", 2, 1));
        let first = ProvenanceSpan::prompt("a", 0, 1);
        assert_eq!(example.model_input_spans, [first, a.clone(), b.clone(), ProvenanceSpan::sampled("b", 0, 1)]);
        assert_eq!(example.target_spans, [a, b, ProvenanceSpan::sampled("b", 0, 2)]);
        example.datum().unwrap().validate_for(&LossFn::StableReinforce).unwrap();
        let half = examples(&[turns[0].clone(), named(&[1, 2, 3], &[4], None)], 1.0).unwrap().remove(0);
        assert!(half.model_input_spans.is_empty() && half.target_spans.is_empty());
    }

    #[test]
    fn images_stay_where_they_are() {
        let image = ImageChunk::from_parts(vec![7], ImageFormat::Png, None, None, Some(2));
        let prompt = ModelInput::from_tokens([1]).append(image.clone());
        let first = Turn::new(&prompt, sequence(&[2], Some(&[-0.5]), None));
        let longer = prompt.append([2, 3]).append(image.clone()).append([4]);
        let second = Turn::new(&longer, sequence(&[5], Some(&[-1.5]), None));
        let example = examples(&[first, second], 1.0).unwrap().remove(0);
        assert_eq!(example.model_input, longer);
        assert_eq!(example.target_tokens, [0, 0, 2, 3, 0, 0, 4, 5]);
        assert_eq!(example.mask, [false, false, true, false, false, false, false, true]);
        example.datum().unwrap();

        let unknown = ModelInput::from_tokens([1]).append(ImageChunk { tokens: None, ..image });
        let error = examples(&[Turn::new(&unknown, sequence(&[2], Some(&[-0.5]), None))], 1.0).unwrap_err();
        assert!(error.to_string().contains("how many tokens it is (turn 0)"), "{error}");
    }

    #[test]
    fn incomplete_turns_are_refused() {
        for (turn, why) in [
            (Turn::new(ModelInput::new(), sequence(&[2], Some(&[-0.5]), None)), "is empty (turn 0)"),
            (Turn::new([1], sequence(&[2], None, None)), "0 log-probabilities for 1 tokens"),
            (Turn::new([1], sequence(&[2, 3], Some(&[-0.5]), None)), "1 log-probabilities for 2 tokens"),
            (Turn::new([1], sequence(&[2], Some(&[f32::NAN]), None)), "of the sampled token 0 is NaN"),
        ] {
            let error = examples(&[turn], 1.0).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let error = turn(&[1], &[2]).scored(0.0).examples(1e300).unwrap_err().to_string();
        assert!(error.contains("1e300") || error.contains("is 1000"), "{error}");
    }

    /// Turns that extend one another, or forget what came before.
    fn conversation(parts: Vec<(Vec<u8>, Vec<u8>, bool)>) -> Vec<Turn> {
        let mut before: Vec<u32> = Vec::new();
        let mut turns = Vec::new();
        for (read, sampled, forgets) in parts {
            if forgets {
                before.clear();
            }
            before.push(300);
            before.extend(read.into_iter().map(u32::from));
            let sampled: Vec<u32> = sampled.into_iter().map(u32::from).collect();
            turns.push(turn(&before, &sampled));
            before.extend(sampled);
        }
        turns
    }

    quickcheck! {
        fn every_sampled_token_is_a_target_once(parts: Vec<(Vec<u8>, Vec<u8>, bool)>) -> bool {
            let turns = conversation(parts);
            let examples = examples(&turns, 1.0).unwrap();
            let targets = examples.iter().flat_map(|example| example.target_tokens.iter().zip(&example.mask));
            let sampled: Vec<u32> = targets.filter(|(_, sampled)| **sampled).map(|(token, _)| *token).collect();
            sampled == turns.iter().flat_map(|turn| turn.sequence.tokens.clone()).collect::<Vec<_>>()
        }

        fn every_list_has_as_many_items(parts: Vec<(Vec<u8>, Vec<u8>, bool)>) -> bool {
            examples(&conversation(parts), 1.0).unwrap().iter().all(|example| {
                let lengths = [example.logprobs.len(), example.advantages.len(), example.mask.len(), example.model_input.len()];
                let sampled = |index: usize| example.mask[index] == (example.advantages[index] == 1.0)
                    && (example.mask[index] || example.logprobs[index] == 0.0)
                    && (!example.mask[index] || example.logprobs[index] == -(example.target_tokens[index] as f32));
                lengths == [example.target_tokens.len(); 4] && (0..example.mask.len()).all(sampled) && example.datum().is_ok()
            })
        }

        fn turns_that_extend_make_one_example(parts: Vec<(Vec<u8>, Vec<u8>)>) -> bool {
            let turns = conversation(parts.into_iter().map(|(read, sampled)| (read, sampled, false)).collect());
            let any = turns.iter().any(|turn| !turn.sequence.tokens.is_empty());
            examples(&turns, 1.0).unwrap().len() == usize::from(any)
        }
    }
}
