//! `rl::Rollouts`, and log-probabilities of what was sampled.

use std::convert::Infallible;
use std::sync::{Barrier, Mutex};

use tinkex::rl::{Rollouts, Trajectory, Turn, compute_logprobs};
use tinkex::types::SampledSequence;

use super::*;

/// Sample i of a prompt is its token and i. A prompt of 13 fails.
fn groups(request: &RecordedRequest) -> Reply {
    match request.path.as_str() {
        "asample" => {
            let id = format!("{}:{}", asked(request), request.body["num_samples"]);
            Reply::ok(json!({"request_id": id}))
        }
        "retrieve_future" => {
            let (token, samples) = request.request_id().split_once(':').unwrap();
            let (token, samples): (u64, u64) = (token.parse().unwrap(), samples.parse().unwrap());
            let sequence = |sample| json!({"stop_reason": "stop", "tokens": [token, sample], "logprobs": [-0.5, -1.5]});
            match token {
                13 => Reply::ok(json!({"error": "unlucky", "category": "user"})),
                _ => Reply::ok(json!({"sequences": (0..samples).map(sequence).collect::<Vec<_>>()})),
            }
        }
        _ => healthy_service(request),
    }
}

fn prompts(tokens: impl IntoIterator<Item = u32>) -> Vec<ModelInput> {
    tokens.into_iter().map(|token| prompt(&[token])).collect()
}

fn first_token(_: usize, sequence: &SampledSequence) -> Result<f64, Infallible> {
    Ok(f64::from(sequence.tokens[0]))
}

#[test]
fn groups_have_the_order_of_the_prompts() {
    let service = Service::start(groups);
    let sampler = sampler(service.config());
    let prompts = prompts(100..130);
    let seen = Mutex::new(Vec::new());
    let rollouts = Rollouts::new(&sampler).group_size(3).max_in_flight(7).threads(4);
    let rollouts = rollouts.on_progress(|progress| seen.lock().unwrap().push(progress));
    let scored = rollouts.score(&prompts, first_token).unwrap();
    assert!(scored.failed.is_empty() && scored.groups.len() == 30);
    for (index, (group, prompt)) in scored.groups.iter().zip(&prompts).enumerate() {
        let token = 100 + index as u32;
        let tokens: Vec<_> = group.iter().map(|trajectory| trajectory.turns[0].sequence.tokens.clone()).collect();
        assert_eq!(tokens, [[token, 0], [token, 1], [token, 2]]);
        assert!(group.iter().all(|one| one.reward == f64::from(token) && one.turns[0].prompt == *prompt));
    }
    assert!((scored.mean_reward() - 114.5).abs() < 1e-9);
    let last = *seen.lock().unwrap().last().unwrap();
    assert_eq!((last.done, last.failed, last.sampled, last.total), (90, 0, 90, 90));
}

#[test]
fn failures_up_to_the_limit_are_listed() {
    let service = Service::start(groups);
    let sampler = sampler(service.config());
    let prompts = prompts([12, 13, 14, 15, 16]);
    let score = |index: usize, sequence: &SampledSequence| match (index, sequence.tokens[1]) {
        (2, 1) => Err("no grade".to_owned()),
        (3, 0) => Ok(f64::NAN),
        (4, 1) => panic!("grader bug"),
        _ => Ok(1.0),
    };
    let rollouts = |max| Rollouts::new(&sampler).group_size(2).max_failures(max);
    let scored = rollouts(5).score(&prompts, score).unwrap();
    assert_eq!(scored.groups.iter().map(Vec::len).collect::<Vec<_>>(), [2, 0, 1, 1, 1]);
    let failed: Vec<_> = scored.failed.iter().map(|one| (one.prompt, one.sample, one.error.kind())).collect();
    let lost = ErrorKind::RequestFailed;
    let (refused, invalid, panicked) = (ErrorKind::Callback, ErrorKind::InvalidInput, ErrorKind::Panicked);
    assert_eq!(failed, [(1, 0, lost), (1, 1, lost), (2, 1, refused), (3, 0, invalid), (4, 1, panicked)]);
    let cause = std::error::Error::source(&scored.failed[2].error).unwrap().to_string();
    assert_eq!(cause, "no grade");

    let error = rollouts(4).score(&prompts, score).unwrap_err().to_string();
    assert!(error.contains("5 of 10 rollouts failed, and 4 may"), "{error}");
}

#[test]
fn a_failure_too_many_waits_for_no_sample() {
    let gate = Arc::<Gate>::default();
    let held = Arc::clone(&gate);
    let service = Service::start(move |request| match request.path.as_str() {
        "retrieve_future" if request.request_id().starts_with("99:") => Reply::held(&held, groups(request)),
        _ => groups(request),
    });
    let sampler = sampler(service.config());
    let error = Rollouts::new(&sampler).score(&prompts([99, 1]), |_, _| Err::<f64, _>("no grade")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Callback);
    assert!(error.to_string().contains("sample 0 of prompt 1; 1 of 2 rollouts failed, and 0 may"), "{error}");
    gate.open();
}

#[test]
fn samples_are_scored_at_the_same_time() {
    let service = Service::start(groups);
    let sampler = sampler(service.config());
    let both = Barrier::new(2);
    let scored = Rollouts::new(&sampler).group_size(2).threads(2).score(&prompts([1]), |_, sequence| {
        both.wait();
        first_token(0, sequence)
    });
    assert_eq!(scored.unwrap().groups[0].len(), 2);
}

#[test]
fn a_rollout_may_sample_further_turns() {
    let service = Service::start(groups);
    let sampler = sampler(service.config());
    let scored = Rollouts::new(&sampler).group_size(2).run(&prompts([5]), |_, call| {
        let second = call.prompt.clone().append(&call.sequence.tokens).append([7]);
        let answer = sampler.sample(&second, 1, &SamplingParams::default())?.sequences.remove(0);
        let reward = f64::from(call.sequence.tokens[1]);
        Ok::<_, tinkex::Error>(Trajectory::new([call, Turn::new(second, answer)], reward))
    });
    let group = scored.unwrap().groups.remove(0);
    assert_eq!(group.iter().map(|trajectory| trajectory.reward).collect::<Vec<_>>(), [0.0, 1.0]);
    let examples = group[1].examples(1.0).unwrap();
    assert_eq!(examples.len(), 1);
    assert_eq!(examples[0].sequence().to_tokens().unwrap(), [5, 5, 1, 7, 5, 0]);
}

#[test]
fn scores_have_one_number_per_target() {
    let service = Service::start(|request: &RecordedRequest| match request.path.as_str() {
        "retrieve_future" => Reply::ok(json!({
            "sequences": [{"stop_reason": "length", "tokens": [1]}],
            "prompt_logprobs": [null, -0.25, -0.75],
        })),
        _ => healthy_service(request),
    });
    let sampler = sampler(service.config());
    let sequence = json!({"stop_reason": "stop", "tokens": [8, 9], "logprobs": [-0.5, -1.5]});
    let sequence: SampledSequence = serde_json::from_value(sequence).unwrap();
    let examples = Turn::new([7], sequence).scored(0.0).examples(0.0).unwrap();
    assert_eq!(compute_logprobs(&sampler, &examples).unwrap(), [[-0.25, -0.75]]);
    let sent = &service.requests_to("asample")[0].body["prompt"]["chunks"][0]["tokens"];
    assert_eq!(*sent, json!([7, 8, 9]));
}
