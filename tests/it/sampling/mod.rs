//! Sampling through the public API: what is sent, how much at once, and what a 429 and an expired promise do.

mod again;
mod handles;
mod limits;
mod many;
mod open;
mod options;
mod requests;
mod rollouts;
mod sample_many;
mod service_limits;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use tinkex::clock::ManualClock;
use tinkex::types::{AdamParams, LoraConfig, ModelInput, SampleResponse, SamplingParams, Stop};
use tinkex::{ConfigBuilder, ErrorKind, Limit, Pending, RetryConfig, SampleOptions, SamplingClient, ServiceClient};

use crate::support::{Gate, Gauge, RecordedRequest, Reply, Service, healthy_service, result};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn sampler(config: ConfigBuilder) -> SamplingClient {
    let client = ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap();
    client.create_sampling_client("base").unwrap()
}

fn prompt(tokens: &[u32]) -> ModelInput {
    ModelInput::from_tokens(tokens.to_vec())
}

fn submit(sampler: &SamplingClient, token: u32) -> Pending<SampleResponse> {
    sampler.submit_sample(&prompt(&[token]), 1, &SamplingParams::default()).unwrap()
}

fn sample(sampler: &SamplingClient, token: u32) -> SampleResponse {
    sampler.sample(&prompt(&[token]), 1, &SamplingParams::default()).unwrap()
}

/// Makes a blocking call on its own thread, and returns the number of its request.
fn in_thread(sampler: &SamplingClient, token: u32) -> JoinHandle<u64> {
    let sampler = sampler.clone();
    thread::spawn(move || number(&sample(&sampler, token)))
}

/// The scripted sample is one token: the number of the request.
fn number(response: &SampleResponse) -> u64 {
    u64::from(response.sequences[0].tokens[0])
}

/// The number of a submitted sample, once its result is ready. Nobody counts as waiting for it, so that no poll is cut off for
/// it: the service counts such a poll for a moment longer than the client does.
fn ready(pending: &Pending<SampleResponse>) -> u64 {
    pending.ready().recv().unwrap();
    number(&pending.try_get().unwrap().unwrap())
}

fn is_sample(request: &RecordedRequest) -> bool {
    request.path == "retrieve_future" && request.request_id().starts_with("asample")
}

/// The prompt's first token, by which a test tells its calls apart.
fn asked(request: &RecordedRequest) -> u64 {
    request.body["prompt"]["chunks"][0]["tokens"][0].as_u64().unwrap()
}

/// A service that cannot say what became of a sample.
fn without_results(request: &RecordedRequest) -> Reply {
    match is_sample(request) {
        true => Reply::Json(503, json!({})),
        false => healthy_service(request),
    }
}

/// Asserts that a sampling client with a progress timeout of its own, of a second, gives up a sample of a service without results.
fn assert_own_progress_timeout(service: &Service) {
    let manual = ManualClock::new();
    let sampler = sampler(service.manual_config(&manual));
    let pending = submit(&sampler.with_retry_config(RetryConfig::default().timeout_progress(SECOND)), 5);
    for _ in 0..2 {
        manual.until_waiting(|waits| waits.first().is_some_and(|wait| *wait <= SECOND));
        manual.advance(SECOND);
    }
    assert_eq!(pending.wait().unwrap_err().kind(), ErrorKind::Timeout(Limit::Progress));
}

/// The service's view of many samples at once.
#[derive(Default)]
struct Crowd {
    polls: Gauge,
    submissions: Gauge,
    /// Let the first submissions and polls pile up.
    submit: Arc<Gate>,
    poll: Arc<Gate>,
}

fn crowd() -> (Service, Arc<Crowd>) {
    let crowd = Arc::<Crowd>::default();
    let observed = Arc::clone(&crowd);
    let service = Service::start(move |request| {
        let crowd = &observed;
        if request.path == "asample" {
            let _inside = crowd.submissions.enter();
            crowd.submit.pass();
        } else if is_sample(request) {
            let _inside = crowd.polls.enter();
            crowd.poll.pass();
        }
        healthy_service(request)
    });
    (service, crowd)
}

/// Asserts that each of the calls `0..count` was sent once, and that its result is that of its own request; `numbers` are
/// the results in the order of the calls.
fn none_lost_none_doubled(service: &Service, numbers: &[u64]) {
    let sent = service.requests_to("asample");
    assert_eq!(sent.len(), numbers.len());
    let mut seq_ids: Vec<_> = sent.iter().map(|request| request.seq_id().unwrap()).collect();
    for seen in &sent {
        assert_eq!(numbers[asked(seen) as usize], seen.seq_id().unwrap());
    }
    seq_ids.sort_unstable();
    assert_eq!(seq_ids, (0..numbers.len() as u64).collect::<Vec<_>>());
}
