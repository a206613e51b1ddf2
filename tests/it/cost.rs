//! What a program counts, and what the server charges for.

use std::time::{Duration, SystemTime};

use tinkex::cost::{Meter, Price, Usage};
use tinkex::local::LocalServer;
use tinkex::toolkit::WeightedTokens;
use tinkex::types::{Batch, BillingEventType, LoraConfig, LossFn, ModelInput, SamplingParams, Timestamp};
use tinkex::{Config, Proxy, RestClient, ServiceClient};

const BASE: &str = "tinkex/bytes-tiny";

/// What the server says was used in the hours around now, and what it cost in dollars.
fn billed(rest: &RestClient) -> (Usage, f64) {
    let hour = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() / 3600;
    let [from, to] =
        [hour - 1, hour + 2].map(|hour| Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_secs(hour * 3600)));
    let (mut usage, mut cost) = (Usage::new(), 0.0);
    for event in rest.get_billing_usage(&from, &to).unwrap().data {
        let tokens = event.event_info.token_count.unwrap_or_default();
        usage += match (event.event_info.event_type, event.event_info.cached) {
            (BillingEventType::Training, _) => Usage::new().trained(tokens),
            (BillingEventType::SamplingPrefill, Some(true)) => Usage::new().cached(tokens),
            (BillingEventType::SamplingPrefill, _) => Usage::new().prefill(tokens),
            (BillingEventType::SamplingSample, _) => Usage::new().sampled(tokens),
            _ => continue,
        };
        cost += event.estimated_cost_usd.unwrap();
    }
    (usage, cost)
}

/// The prices that the local server has invented.
fn price() -> Price {
    let amount = |text: &str| text.parse().unwrap();
    Price::new(amount("0.50"), amount("1.50"), amount("1.00")).unwrap().with_cached_prefill(amount("0.05")).unwrap()
}

#[test]
fn a_meter_shows_what_the_server_charges() {
    let server = LocalServer::start().unwrap();
    let config = Config::builder()
        .api_key("tml-local")
        .base_url(server.base_url())
        .proxy(Proxy::Off)
        .build_with(|_| None)
        .unwrap();
    let service = ServiceClient::connect(config).unwrap();
    let trainer = service.create_lora_training_client(BASE, LoraConfig::new().seed(1)).unwrap();
    let sampler = service.create_sampling_client(BASE).unwrap();
    let rest = service.create_rest_client();
    let mut meter = Meter::new(price());

    let example = |prompt: &str, reply: &str| {
        let tokens = |text: &str| text.bytes().map(u32::from).collect::<Vec<_>>();
        WeightedTokens::new().context(tokens(prompt)).trained(tokens(reply)).datum().unwrap()
    };
    let batch: Batch = vec![example("two and two", " is four"), example("a", "b")].into();
    trainer.forward(&batch, LossFn::CrossEntropy).unwrap();
    trainer.forward_backward(&batch, LossFn::CrossEntropy).unwrap();
    meter.count(Usage::of_batch(&batch) * 2);
    meter.end_step();

    let prompt = ModelInput::from_tokens(vec![97; 200]);
    let params = SamplingParams::new().max_tokens(5).seed(1);
    for _ in 0..2 {
        let response = sampler.sample(&prompt, 3, &params).unwrap();
        meter.count(Usage::of_sample(&prompt, &response));
    }
    let other = ModelInput::from_tokens(vec![98; 40]);
    sampler.compute_logprobs(&other).unwrap();
    meter.count(Usage::of_sample_at_most(&other, 1, 1));
    meter.end_step();

    let (usage, cost) = billed(&rest);
    assert_eq!(meter.usage(), usage);
    assert!((meter.cost().as_f64() - cost).abs() < 1e-12, "{} and {cost}", meter.cost());
    assert!(usage.cached > 400, "the second prompt was not in the cache: {usage:?}");
}
