//! Samples that are polled together, or given up, by this library's client on the local server.

use std::time::Duration;

use tinkex::local::{Flag, LocalServer, LocalServerBuilder};
use tinkex::types::{ModelInput, SamplingParams};
use tinkex::{Config, Proxy, SamplingClient, ServiceClient};

const BASE: &str = "tinkex/bytes-tiny";

/// Long enough for a loaded machine; a passing test never waits this long.
const PATIENCE: Duration = Duration::from_secs(60);

fn sampler(builder: LocalServerBuilder) -> (LocalServer, ServiceClient, SamplingClient) {
    let server = builder.start().unwrap();
    let config = Config::builder().api_key("tml-local").base_url(server.base_url()).proxy(Proxy::Off);
    let service = ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap();
    let sampler = service.create_sampling_client(BASE).unwrap();
    (server, service, sampler)
}

fn flag(text: &str) -> LocalServerBuilder {
    LocalServer::builder().flag(text.parse::<Flag>().unwrap())
}

fn prompt() -> ModelInput {
    ModelInput::from_tokens(vec![97, 98])
}

#[test]
fn polling_together_gives_the_same_samples() {
    let sampled = |builder| {
        let (server, service, sampler) = sampler(builder);
        let params = |seed| SamplingParams::default().max_tokens(8).seed(seed);
        let pending: Vec<_> = (0..20).map(|seed| sampler.submit_sample(&prompt(), 2, &params(seed)).unwrap()).collect();
        let samples: Vec<_> = pending.into_iter().map(|sample| sample.wait().unwrap().sequences).collect();
        let tokens: Vec<_> = samples.iter().flatten().map(|sample| sample.tokens.clone()).collect();
        let polls = server.activity().requests_to("retrieve_futures").count();
        drop(service);
        (tokens, polls)
    };
    let (alone, polls) = sampled(LocalServer::builder());
    assert_eq!((alone.len(), polls), (40, 0));
    let (together, polls) = sampled(flag("sample_use_retrieve_futures=true"));
    assert!(polls > 0);
    assert_eq!(together, alone);
}

#[test]
fn a_given_up_sample_is_cancelled() {
    let (server, _service, sampler) = sampler(flag("sample_cancel_enabled=true"));
    let long = SamplingParams::default().stop(Vec::<String>::new());
    let given_up: Vec<_> = (0..4).map(|_| sampler.submit_sample(&prompt(), 8, &long).unwrap()).collect();
    assert!(server.wait_until(PATIENCE, |activity| activity.requests_to("retrieve_future").count() >= 4));
    given_up.into_iter().for_each(|sample| sample.cancel());
    assert!(server.wait_until(PATIENCE, |activity| activity.requests_to("cancel_future").count() == 4));
    let short = SamplingParams::default().max_tokens(1);
    assert_eq!(sampler.sample(&prompt(), 1, &short).unwrap().sequences.len(), 1);
}
