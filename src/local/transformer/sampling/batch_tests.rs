//! Tests of requests that run together.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;

use crossbeam_channel::bounded;
use parking_lot::Mutex;
use quickcheck::{Arbitrary, Gen, QuickCheck};

use super::super::Transformer;
use super::super::splitmix::SplitMix64;
use super::admission::Limits;
use super::kv::KvShape;
use crate::local::model::{
    Adapter, AdapterOptions, Cancellation, FinishReason, GenerationOptions, KvNamespace, Model, Sample, Samples,
    SamplingContext,
};

fn text(seed: usize, length: usize) -> Vec<u32> {
    (0..length).map(|at| ((at + seed) * (at + 1) * 7 % 251) as u32).collect()
}

fn adapter(seed: u64) -> Arc<Adapter> {
    let mut adapter = Transformer::bytes_tiny().new_adapter(&AdapterOptions::new().rank(2).seed(seed));
    let mut random = SplitMix64::new(seed);
    adapter.tensors.values_mut().for_each(|tensor| *tensor = random.matrix(tensor.dim(), 0.1));
    Arc::new(adapter)
}

fn options(max_tokens: usize) -> GenerationOptions {
    GenerationOptions::new().max_tokens(max_tokens).seed(1).stop_at_end_of_text(false)
}

fn limited(sequences: usize, bytes: usize) -> Transformer {
    let mut model = Transformer::bytes_tiny();
    model.sampler.batch.limits = Limits { sequences, bytes };
    model
}

/// Runs `first`, and `others` that join it after its first token.
fn together<R: Send>(
    model: &Transformer,
    first: impl FnOnce(SamplingContext) -> R + Send,
    context: SamplingContext,
    others: Vec<Box<dyn FnOnce() -> R + Send + '_>>,
) -> Vec<R> {
    thread::scope(|scope| {
        let (begun, has_begun) = bounded(1);
        let (joined, have_joined) = bounded(1);
        let is_first = Mutex::new(true);
        let context = context.on_token(move |_| {
            if std::mem::take(&mut *is_first.lock()) {
                begun.send(()).unwrap();
                have_joined.recv().unwrap();
            }
        });
        let first = scope.spawn(|| first(context));
        has_begun.recv().unwrap();
        let count = others.len();
        let others: Vec<_> = others.into_iter().map(|other| scope.spawn(other)).collect();
        while model.sampler.batch.arrivals() < count {
            thread::yield_now();
        }
        joined.send(()).unwrap();
        [first].into_iter().chain(others).map(|thread| thread.join().unwrap()).collect()
    })
}

/// A context that notes its name whenever it is asked for its adapter: once for the prompt, then once for each step.
fn noted(name: char, notes: &Arc<Mutex<String>>) -> SamplingContext {
    let (notes, adapter) = (notes.clone(), adapter(1));
    SamplingContext::latest(move || {
        notes.lock().push(name);
        adapter.clone()
    })
}

#[test]
fn requests_share_their_steps() {
    let (model, notes) = (Transformer::bytes_tiny(), Arc::new(Mutex::new(String::new())));
    let sample = |context: SamplingContext| model.sample(&context, &text(0, 9), 3, &options(10));
    let others: Vec<Box<dyn FnOnce() -> Samples + Send>> =
        ['b', 'c'].map(|name| noted(name, &notes)).map(|context| Box::new(move || sample(context)) as _).into();
    together(&model, sample, noted('a', &notes), others);
    let mut steps = notes.lock().clone();
    // Each is asked once when its prompt begins, and then takes nine steps. A round begins one of the prompts that have joined.
    let lengths = [1, 1, 1, 2, 1].into_iter().chain([3; 7]).chain([2, 1]);
    let steps: Vec<String> = lengths
        .map(|length| {
            let rest = steps.split_off(length);
            let mut names: Vec<char> = std::mem::replace(&mut steps, rest).chars().collect();
            names.sort_unstable();
            names.into_iter().collect()
        })
        .collect();
    assert_eq!([&steps[0], &steps[1], &steps[12]], ["a", "a", "bc"]);
    assert_eq!(steps[5..12], ["abc"; 7]);
}

#[test]
fn a_prompt_is_computed_once_for_all() {
    let model = Transformer::bytes_tiny();
    let cached = |context: SamplingContext| model.sample(&context, &text(5, 100), 2, &options(2)).cached_tokens;
    let namespace = KvNamespace::new();
    let context = SamplingContext::new(adapter(1)).namespace(&namespace);
    let others: Vec<Box<dyn FnOnce() -> usize + Send>> =
        vec![context.clone(); 4].into_iter().map(|context| Box::new(move || cached(context)) as _).collect();
    let first = |context: SamplingContext| model.sample(&context, &text(0, 9), 1, &options(2)).cached_tokens;
    let cached = together(&model, first, SamplingContext::base(), others);
    // They take turns: what one of them computes, the others find.
    assert_eq!(cached.iter().sum::<usize>(), 3 * 100, "{cached:?}");
}

#[test]
fn a_cancelled_request_leaves_at_once() {
    // One sequence at a time: the other request waits until the first is over.
    for limits in [64, 1] {
        let model = limited(limits, usize::MAX);
        let cancellation = Cancellation::new();
        let alone = Transformer::bytes_tiny().sample(&SamplingContext::base(), &text(0, 9), 1, &options(30));
        let other = SamplingContext::new(adapter(1)).cancellation(&cancellation);
        let (model, cancel) = (&model, &cancellation);
        let seen = Mutex::new(Vec::new());
        let first = |context: SamplingContext| {
            let samples = model.sample(&context, &text(0, 9), 1, &options(30));
            seen.lock().push("first");
            samples
        };
        let others: Vec<Box<dyn FnOnce() -> Samples + Send>> = vec![Box::new(|| {
            cancel.cancel();
            let samples = model.sample(&other, &text(0, 200), 1, &options(500));
            seen.lock().push("other");
            samples
        })];
        let results = together(model, first, SamplingContext::base(), others);
        assert_eq!(results, [alone, Samples::default()]);
    }
}

#[test]
fn a_panic_ends_its_own_request_alone() {
    let model = Transformer::bytes_tiny();
    let alone = Transformer::bytes_tiny().sample(&SamplingContext::base(), &text(0, 9), 1, &options(30));
    let first = |context: SamplingContext| Ok(model.sample(&context, &text(0, 9), 1, &options(30)));
    let asked = Mutex::new(0);
    let latest = {
        let adapter = adapter(1);
        SamplingContext::latest(move || {
            *asked.lock() += 1;
            assert!(*asked.lock() < 4, "no adapter");
            adapter.clone()
        })
    };
    let listening = SamplingContext::base().on_token(|sampled| assert!(sampled.sequence == 0, "no listener"));
    let others = [latest, listening].map(|context| {
        let model = &model;
        Box::new(move || {
            let sample = || model.sample(&context, &text(0, 40), 2, &options(30));
            catch_unwind(AssertUnwindSafe(sample)).map_err(|panic| crate::threads::panic_text(&*panic).to_owned())
        }) as Box<dyn FnOnce() -> Result<Samples, String> + Send>
    });
    let results = together(&model, first, SamplingContext::base(), others.into());
    assert_eq!(results, [Ok(alone), Err("no adapter".to_owned()), Err("no listener".to_owned())]);
    assert_eq!(model.sample(&SamplingContext::base(), &text(0, 9), 1, &options(3)).sequences[0].tokens.len(), 3);
}

#[test]
fn sequences_that_are_too_many_take_turns() {
    let sample = |model: &Transformer| model.sample(&SamplingContext::base(), &text(0, 50), 7, &options(16)).sequences;
    let expected = sample(&Transformer::bytes_tiny());
    let lengths = |samples: &[Sample]| samples.iter().map(|sample| sample.tokens.len()).collect::<Vec<_>>();
    assert_eq!(lengths(&expected), [16; 7]);
    for (sequences, bytes) in [(1, usize::MAX), (3, usize::MAX), (64, 0), (64, 150_000)] {
        assert_eq!(sample(&limited(sequences, bytes)), expected, "{sequences} {bytes}");
    }
}

#[test]
fn requests_without_a_limit_run_together() {
    // Room for the whole context of two sequences.
    let mut model = limited(64, KvShape::new(&Transformer::bytes_tiny().config).bytes(2 * 2500));
    model.config.context_length = 2500;
    let model = &model;
    let cancellation = Cancellation::new();
    let options = GenerationOptions::new().seed(1).stop_at_end_of_text(false);
    let sample = |context: SamplingContext| model.sample(&context, &text(0, 9), 1, &options).sequences[0].tokens.len();
    let begun = Arc::new(AtomicUsize::new(0));
    let base = SamplingContext::base().cancellation(&cancellation);
    let others = (0..7).map(|_| {
        let (begun, cancellation, is_first) = (begun.clone(), cancellation.clone(), AtomicBool::new(true));
        let context = base.clone().on_token(move |_| {
            if is_first.swap(false, Ordering::Relaxed) && begun.fetch_add(1, Ordering::Relaxed) == 6 {
                cancellation.cancel();
            }
        });
        Box::new(move || sample(context)) as Box<dyn FnOnce() -> usize + Send>
    });
    // The first one has not come far when the last one begins.
    let lengths = together(model, sample, base.clone(), others.collect());
    assert!(lengths.iter().all(|&length| length < 20), "{lengths:?}");
}

#[test]
fn a_listener_cannot_sample_from_its_model() {
    let model = Arc::new(Transformer::bytes_tiny());
    let inner = model.clone();
    let context = SamplingContext::base().on_token(move |_| {
        inner.sample(&SamplingContext::base(), &[1], 1, &options(1));
    });
    let sample = |context: &SamplingContext| model.sample(context, &text(0, 9), 1, &options(3));
    let panic = catch_unwind(AssertUnwindSafe(|| sample(&context))).unwrap_err();
    let why = crate::threads::panic_text(&*panic);
    assert!(why.starts_with("a listener or a source of adapters samples from the model that waits for it"), "{why}");
    assert_eq!(sample(&SamplingContext::base()).sequences[0].tokens.len(), 3);
}

#[test]
fn a_listener_hears_each_token() {
    let heard = Arc::new(Mutex::new(vec![Sample::new(Vec::new(), Vec::new(), FinishReason::Length); 3]));
    let shared = heard.clone();
    let context = SamplingContext::base().on_token(move |sampled| {
        let sample = &mut shared.lock()[sampled.sequence];
        sample.tokens.push(sampled.token);
        sample.logprobs.push(sampled.logprob);
        sample.topk_logprobs.push(sampled.topk_logprobs.to_vec());
        sample.finish_reason = sampled.finish_reason.unwrap_or(FinishReason::Stop);
    });
    let model = Transformer::bytes_tiny();
    let options = options(12).topk_logprobs(2);
    let samples = model.sample(&context, &text(0, 9), 3, &options).sequences;
    assert_eq!(*heard.lock(), samples);
    // The second sample ends with its fifth token.
    let stop = samples[1].tokens[3..5].to_vec();
    let stopped = model.sample(&context, &text(0, 9), 3, &options.stop_sequences(vec![stop])).sequences;
    assert_eq!((stopped[1].tokens.len(), stopped[1].finish_reason), (5, FinishReason::Stop));
}

/// A request, as numbers.
#[derive(Clone, Debug)]
struct Request {
    prompt: Vec<u32>,
    /// The base model, or one of two adapters.
    adapter: u64,
    has_namespace: bool,
    count: usize,
    options: GenerationOptions,
}

impl Arbitrary for Request {
    fn arbitrary(g: &mut Gen) -> Self {
        let mut below = |limit: usize| usize::arbitrary(g) % limit;
        let options = GenerationOptions::new()
            .max_tokens(below(20))
            .seed(below(3) as u64)
            .temperature([0.0, 0.7, 1.0][below(3)])
            .top_p([1.0, 0.9][below(2)])
            .topk_logprobs(below(3));
        Request {
            prompt: text(below(2), below(80)),
            adapter: below(3) as u64,
            has_namespace: below(2) == 0,
            count: below(4),
            options,
        }
    }
}

impl Request {
    fn sample(&self, model: &Transformer, namespaces: &[KvNamespace]) -> Vec<Sample> {
        static ADAPTERS: LazyLock<[Arc<Adapter>; 2]> = LazyLock::new(|| [adapter(1), adapter(2)]);
        let mut context = match self.adapter {
            0 => SamplingContext::base(),
            seed => SamplingContext::new(ADAPTERS[seed as usize - 1].clone()),
        };
        if self.has_namespace && self.adapter > 0 {
            context = context.namespace(&namespaces[self.adapter as usize]);
        }
        model.sample(&context, &self.prompt, self.count, &self.options).sequences
    }
}

#[test]
fn company_changes_no_bit_of_a_sample() {
    // It keeps nothing of a request.
    static ALONE: LazyLock<Transformer> = LazyLock::new(|| Transformer::bytes_tiny().prompt_cache(0));

    fn holds(requests: Vec<Request>, sequences: u8) -> bool {
        let requests = &requests[..requests.len().min(6)];
        let namespaces = [(); 3].map(|()| KvNamespace::new());
        let model = limited(usize::from(sequences % 8) + 1, 1 << 20);
        let results: Vec<_> = thread::scope(|scope| {
            let (model, namespaces) = (&model, &namespaces);
            let threads: Vec<_> =
                requests.iter().map(|request| scope.spawn(move || request.sample(model, namespaces))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        requests.iter().zip(results).all(|(request, samples)| request.sample(&ALONE, &namespaces) == samples)
    }
    QuickCheck::new().tests(8).quickcheck(holds as fn(Vec<Request>, u8) -> bool);
}
