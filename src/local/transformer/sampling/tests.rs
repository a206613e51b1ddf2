//! Tests of prompts, of what is reported about them, and of samples that end early.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::splitmix::SplitMix64;
use super::super::{END_OF_TEXT, Transformer};
use crate::local::model::{
    Adapter, AdapterOptions, Cancellation, FinishReason, GenerationOptions, KvNamespace, Model, PromptLogprobs,
    PromptOptions, Sample, Samples, SamplingContext,
};

fn text(length: usize) -> Vec<u32> {
    (0..length).map(|at| (at * at * 7 % 251) as u32).collect()
}

fn adapter(model: &Transformer, seed: u64) -> Arc<Adapter> {
    let mut adapter = model.new_adapter(&AdapterOptions::new().rank(2).seed(seed));
    let mut random = SplitMix64::new(seed);
    adapter.tensors.values_mut().for_each(|tensor| *tensor = random.matrix(tensor.dim(), 0.1));
    Arc::new(adapter)
}

fn options() -> GenerationOptions {
    GenerationOptions::new().max_tokens(5).seed(3).topk_logprobs(2).stop_at_end_of_text(false)
}

fn everything(length: usize) -> PromptOptions {
    let targets = (0..length as u32).map(|at| vec![at, 7]).collect();
    PromptOptions::new().top_k(3).targets(targets).alternatives(2).seed(1)
}

#[test]
fn the_prefix_cache_changes_no_bit() {
    let (cached, plain) = (Transformer::bytes_tiny(), Transformer::bytes_tiny().prompt_cache(0));
    let adapter = adapter(&cached, 1);
    let context = SamplingContext::new(adapter).namespace(&KvNamespace::new());
    let mut all = text(200);
    let mut hits = 0;
    for (length, changed) in [
        (70, None),
        (70, None),
        (100, None),
        (33, None),
        (32, None),
        (31, None),
        (1, None),
        (200, Some(65)),
        (199, None),
    ] {
        if let Some(changed) = changed {
            all[changed] += 1;
        }
        let prompt = &all[..length];
        let [expected, samples] = [&plain, &cached].map(|model| model.sample(&context, prompt, 2, &options()));
        assert_eq!(samples.sequences, expected.sequences, "{length}");
        assert_eq!(expected.cached_tokens, 0);
        hits += samples.cached_tokens;
        let [expected, about] =
            [&plain, &cached].map(|model| model.prompt_logprobs(&context, prompt, &everything(length)));
        assert_eq!(about.cached_tokens, length);
        assert_eq!(PromptLogprobs { cached_tokens: 0, ..about }, expected, "{length}");
    }
    // A repeated prompt wholly, others up to the last whole block: 70 of 70, 64 of 100, 32 of 33, 32, 64 of 200, 192 of 199.
    assert_eq!(hits, 70 + 64 + 32 + 32 + 64 + 192);
}

#[test]
fn prompts_are_kept_by_namespace() {
    let model = Transformer::bytes_tiny();
    let cached = |context: &SamplingContext| model.sample(context, &text(40), 1, &options()).cached_tokens;
    let adapter = adapter(&model, 1);
    let unnamed = SamplingContext::new(adapter);
    assert_eq!([cached(&unnamed), cached(&unnamed)], [0, 0]);
    assert_eq!([cached(&SamplingContext::base()), cached(&SamplingContext::base())], [0, 40]);
    let [one, other] = [KvNamespace::new(), KvNamespace::new()].map(|namespace| unnamed.clone().namespace(&namespace));
    assert_eq!([cached(&one), cached(&one), cached(&other), cached(&one)], [0, 40, 0, 40]);
    assert_eq!(model.sample(&SamplingContext::base(), &[], 1, &options()).cached_tokens, 0);
    assert_eq!(model.sample(&SamplingContext::base(), &[], 1, &options()).cached_tokens, 0);
}

#[test]
fn prompt_reports_agree_with_each_other() {
    let model = Transformer::bytes_tiny();
    let prompt = text(50);
    let about = model.prompt_logprobs(&SamplingContext::base(), &prompt, &everything(50));
    assert_eq!((about.logprobs[0], &about.targets[0], &about.alternatives[0]), (None, &vec![], &vec![]));
    for position in 1..50 {
        let all = model.prompt_logprobs(&SamplingContext::base(), &prompt, &PromptOptions::new().top_k(257));
        let of = |token: u32| {
            let mut row = all.top_k[position].as_ref().unwrap().iter();
            row.find(|top| top.token == token).unwrap().logprob
        };
        assert_eq!(about.logprobs[position], Some(of(prompt[position])));
        assert_eq!(about.targets[position], [of(position as u32), of(7)]);
        assert_eq!(about.alternatives[position].len(), 2);
        for drawn in &about.alternatives[position] {
            assert_eq!(drawn.logprob, of(drawn.token));
        }
    }
    let first = |position: usize| about.top_k[position].as_ref().unwrap()[0];
    let greedy = PromptOptions::new().alternatives(3).temperature(0.0);
    let greedy = model.prompt_logprobs(&SamplingContext::base(), &prompt, &greedy);
    assert!((1..50).all(|position| greedy.alternatives[position] == [first(position); 3]));
}

#[test]
fn last_tokens_are_reported_alone() {
    let model = Transformer::bytes_tiny();
    let about = |options| model.prompt_logprobs(&SamplingContext::base(), &text(50), &options);
    let all = about(PromptOptions::new().top_k(2));
    for last in [0, 1, 16, 49, 50, 99] {
        let some = about(PromptOptions::new().top_k(2).last_n(last));
        for position in 0..50 {
            let is_last = position >= 50_usize.saturating_sub(last);
            assert_eq!(some.logprobs[position], all.logprobs[position].filter(|_| is_last), "{last} {position}");
            assert_eq!(some.top_k[position], all.top_k[position].clone().filter(|_| is_last));
        }
    }
}

#[test]
fn most_probable_tokens_are_reported_with_samples() {
    let model = Transformer::bytes_tiny();
    let sample =
        |options: &GenerationOptions| model.sample(&SamplingContext::base(), &text(9), 1, options).sequences.remove(0);
    let greedy = sample(&options().temperature(0.0));
    assert_eq!(greedy.topk_logprobs.iter().map(|row| row[0].token).collect::<Vec<_>>(), greedy.tokens);
    let all = sample(&options().topk_logprobs(300));
    for ((row, token), logprob) in all.topk_logprobs.iter().zip(&all.tokens).zip(&all.logprobs) {
        assert_eq!(row.len(), 257);
        assert!(row.iter().any(|top| (top.token, top.logprob) == (*token, *logprob)));
    }
    let none = sample(&options().topk_logprobs(0));
    assert_eq!(none, Sample { topk_logprobs: Vec::new(), ..all });
}

#[test]
fn a_sample_can_pass_the_end_of_text() {
    let model = Transformer::bytes_tiny();
    let options = GenerationOptions::new().temperature(1e6).max_tokens(60).seed(6).stop_at_end_of_text(false);
    let sample = model.sample(&SamplingContext::base(), &[1], 1, &options).sequences.remove(0);
    let end = sample.tokens.iter().position(|&token| token == END_OF_TEXT).unwrap();
    assert_eq!((sample.tokens.len(), sample.finish_reason), (60, FinishReason::Length));
    let stopped = model.sample(&SamplingContext::base(), &[1], 1, &options.stop_at_end_of_text(true));
    assert_eq!(stopped.sequences[0].tokens, sample.tokens[..=end]);
}

/// A context that asks for its adapter, and calls this with the number of times that it was asked before.
fn watched(adapter: impl Fn(usize) -> Arc<Adapter> + Send + Sync + 'static) -> SamplingContext {
    let asked = AtomicUsize::new(0);
    SamplingContext::latest(move || adapter(asked.fetch_add(1, Ordering::Relaxed)))
}

#[test]
fn a_sample_is_cancelled_between_tokens() {
    let model = Transformer::bytes_tiny();
    let (adapter, cancellation) = (adapter(&model, 1), Cancellation::new());
    let cancel = cancellation.clone();
    let context = watched(move |asked| {
        // The first tokens need one adapter, the further token of all sequences one more.
        if asked == 3 {
            cancel.cancel();
        }
        adapter.clone()
    });
    let samples = model.sample(&context.cancellation(&cancellation), &text(9), 5, &options().max_tokens(500));
    assert_eq!(samples.sequences.iter().map(|sample| sample.tokens.len()).collect::<Vec<_>>(), [4; 5]);
    let context = SamplingContext::base().cancellation(&cancellation);
    assert_eq!(model.sample(&context, &text(9), 5, &options()), Samples::default());
    assert_eq!(model.prompt_logprobs(&context, &text(9), &PromptOptions::new()), PromptLogprobs::default());
}

#[test]
fn replaced_weights_change_the_rest_of_a_sample() {
    let model = Transformer::bytes_tiny();
    let [old, new] = [1, 2].map(|seed| adapter(&model, seed));
    let sample =
        |context: &SamplingContext| model.sample(context, &text(9), 1, &options().max_tokens(20)).sequences.remove(0);
    let before = sample(&SamplingContext::new(old.clone()));
    let moved = sample(&watched(move |asked| if asked < 10 { old.clone() } else { new.clone() }));
    assert_eq!(moved.logprobs[..10], before.logprobs[..10]);
    assert_ne!(moved.logprobs[10], before.logprobs[10]);
    assert_eq!(moved.tokens.len(), 20);
}

#[test]
fn reports_come_from_the_latest_weights() {
    let model = Transformer::bytes_tiny();
    let [old, new] = [1, 2].map(|seed| adapter(&model, seed));
    let namespace = KvNamespace::new();
    let context = |adapter: &Arc<Adapter>| {
        let adapter = adapter.clone();
        SamplingContext::latest(move || adapter.clone()).namespace(&namespace)
    };
    let cached = |context: &SamplingContext, options: &PromptOptions| {
        let PromptLogprobs { logprobs, cached_tokens, .. } = model.prompt_logprobs(context, &text(100), options);
        (logprobs, cached_tokens)
    };
    let last = PromptOptions::new().last_n(10);
    assert_eq!(cached(&context(&old), &last).1, 0);
    // The blocks of the old weights come before those of the new ones.
    let (mixed, hits) = cached(&context(&new), &last);
    assert_eq!(hits, 64);
    let alone = SamplingContext::new(new.clone());
    assert_ne!(mixed, cached(&alone, &last).0);
    assert_eq!(model.sample(&context(&new), &text(100), 1, &options()).cached_tokens, 100);
    // With all tokens reported, nothing of the old weights is left.
    let (all, hits) = cached(&context(&new), &PromptOptions::new());
    assert_eq!((all, hits), (cached(&alone, &PromptOptions::new()).0, 0));
    assert_eq!(cached(&context(&new), &PromptOptions::new()).1, 100);
}

#[test]
fn fixed_weights_use_only_their_own_blocks() {
    let model = Transformer::bytes_tiny();
    let [one, other] = [1, 2].map(|seed| adapter(&model, seed));
    let namespace = KvNamespace::new();
    for (weights, hits) in [(&one, 0), (&one, 100), (&other, 0), (&other, 100), (&one, 0)] {
        let alone = SamplingContext::new(weights.clone());
        let samples = model.sample(&alone.clone().namespace(&namespace), &text(100), 2, &options());
        assert_eq!(samples.cached_tokens, hits);
        assert_eq!(samples.sequences, model.sample(&alone, &text(100), 2, &options()).sequences);
    }
}
