//! This library's client on the local server, with each setting of the service and with faults everywhere: nothing is lost, and
//! nothing runs twice.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tinkex::local::{Faults, Flag, LocalServer};
use tinkex::types::{AdamParams, Batch, Datum, LoraConfig, LossFn, ModelInput, SamplingParams, Timestamp};
use tinkex::{Config, ConfigBuilder, Proxy, SamplingClient, ServiceClient, Wire};

const BASE: &str = "tinkex/bytes-tiny";

/// What the client asks for, except for what only leaves a trace if it is done twice (heartbeats, telemetry).
const ENDPOINTS: [&str; 13] = [
    "create_model",
    "forward",
    "forward_backward",
    "optim_step",
    "save_weights",
    "save_weights_for_sampler",
    "create_sampling_session",
    "join_sampling_session",
    "asample",
    "retrieve_future",
    "retrieve_futures",
    "cancel_future",
    "token",
];

const FAULTS: [&str; 6] =
    ["lost_response%8", "reset%6", "reset_during%4", "truncate%6", "reset_after%6", "503%6,retry_after_ms=1"];

fn chaos() -> Faults {
    // After a failed poll for many samples, a client waits for a second.
    let faults = |endpoint: &str| if endpoint == "retrieve_futures" { &FAULTS[..1] } else { &FAULTS };
    let rules =
        ENDPOINTS.iter().flat_map(|endpoint| faults(endpoint).iter().map(move |fault| format!("{endpoint}:{fault}")));
    rules.collect::<Vec<_>>().join(";").parse().unwrap()
}

fn config(server: &LocalServer, wire: Wire) -> ConfigBuilder {
    let config = Config::builder().base_url(server.base_url()).api_key("tml-chaos").proxy(Proxy::Off).wire(wire);
    config.retry_base(Duration::from_millis(1)).retry_cap(Duration::from_millis(2)).max_retries(1000)
}

fn batch() -> Batch {
    let datum = |text: &[u8]| {
        let tokens: Vec<u32> = text.iter().map(|&byte| byte.into()).collect();
        let (targets, count) = (&tokens[1..], tokens.len() - 1);
        let datum = Datum::new(ModelInput::from_tokens(&tokens[..count])).input("target_tokens", targets).unwrap();
        datum.input("weights", vec![1.0; count]).unwrap()
    };
    vec![datum(b"abcd"), datum(b"xyz"), datum(b"na na na")].into()
}

fn samples(sampler: &SamplingClient) -> Vec<Vec<u32>> {
    let params = |seed| SamplingParams::default().max_tokens(3).seed(seed);
    let prompt = ModelInput::from_tokens([97, 98]);
    let pending: Vec<_> = (0..6).map(|seed| sampler.submit_sample(&prompt, 2, &params(seed)).unwrap()).collect();
    let samples = pending.into_iter().flat_map(|sample| sample.wait().unwrap().sequences);
    samples.map(|sequence| sequence.tokens).collect()
}

/// What a client computes, and what the server has counted of it.
#[derive(Debug, PartialEq)]
struct Outcome {
    losses: Vec<f64>,
    samples: Vec<Vec<u32>>,
    checkpoints: usize,
    usage: BTreeMap<String, u64>,
}

fn outcome(wire: Wire, flags: &[&str], faults: Option<u64>) -> Outcome {
    // Chunks of one datum. Gradients are the same to the last bit only if they are added in the same order.
    let mut builder = LocalServer::builder();
    for flag in ["fwdbwd_max_chunk_len=1", "parallel_fwdbwd_chunks=false"].iter().chain(flags) {
        builder = builder.flag(flag.parse::<Flag>().unwrap());
    }
    if let Some(seed) = faults {
        builder = builder.faults(chaos()).fault_seed(seed);
    }
    // Sizes come before results.
    let server = builder.metadata_above(0).start().unwrap();
    let service = ServiceClient::connect(config(&server, wire).build().unwrap()).unwrap();
    let trainer = service.create_lora_training_client(BASE, LoraConfig::new().rank(2).seed(7)).unwrap();
    let mut losses = Vec::new();
    for _ in 0..2 {
        let pass = trainer.submit_forward_backward(batch(), LossFn::CrossEntropy).unwrap();
        let step = trainer.submit_optim_step(AdamParams::new().learning_rate(0.01)).unwrap();
        losses.push(pass.wait().unwrap().metrics["loss:sum"]);
        step.wait().unwrap();
    }
    losses.push(trainer.forward(batch(), LossFn::CrossEntropy).unwrap().metrics["loss:sum"]);
    trainer.save_state("state").unwrap();
    let sampler = trainer.save_weights_and_get_sampling_client().unwrap();
    let handle = sampler.get_sampler_handle().unwrap();
    let mut all = samples(&sampler);
    let clone = SamplingClient::from_sampler_handle(config(&server, wire).build().unwrap(), &handle).unwrap();
    all.extend(samples(&clone));

    let rest = service.create_rest_client();
    let hour = Duration::from_secs(3600);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 3600 * 3600;
    let [start, end] = [now - 3600, now + 3600].map(|time| Timestamp::from(UNIX_EPOCH + Duration::from_secs(time)));
    let end = Timestamp::from(end.system_time() + hour);
    let mut usage = BTreeMap::new();
    for event in rest.get_billing_usage(&start, &end).unwrap().data {
        let info = event.event_info;
        // How many tokens of a prompt were cached depends on the order of the samples.
        if let Some(amount) = info.token_count.or(info.count) {
            *usage.entry(format!("{:?}", info.event_type)).or_default() += amount;
        }
    }
    let checkpoints = rest.list_user_checkpoints(100, 0).unwrap().checkpoints.len();
    Outcome { losses, samples: all, checkpoints, usage }
}

#[test]
fn faults_change_nothing_in_any_wire() {
    let all = [
        "sample_use_retrieve_futures=true",
        "sample_join_sampling_session=true",
        "sample_cancel_enabled=true",
        "pjwt_auth_enabled=true",
        "proto_compress_fwdbwd=true",
    ];
    let calm = outcome(Wire::Auto, &[], None);
    assert_eq!(calm.samples.len(), 24);
    let alone = all.iter().map(|flag| (Wire::Protobuf, std::slice::from_ref(flag)));
    let together = [(Wire::Auto, &[][..]), (Wire::Json, &all), (Wire::Protobuf, &all)];
    for (seed, (wire, flags)) in together.into_iter().chain(alone).enumerate() {
        assert_eq!(outcome(wire, flags, Some(seed as u64)), calm, "{wire:?} {flags:?}");
    }
}
