//! The server that computes nothing.

use std::time::Duration;

use serde_json::json;
use tinkex::local::{LocalServer, WireFormats};
use tinkex::types::{AdamParams, Batch, Datum, LoraConfig, LossFn, ModelInput, SamplingParams};
use tinkex::{Config, ErrorKind, Proxy, SampleOptions, ServiceClient, Wire};

use super::client::{Client, PATIENCE, forward_backward, optim_step, sample};

const BASE: &str = "tinkex/bytes-tiny";
const NEVER: Duration = Duration::from_secs(3600);

fn datum(targets: usize) -> Datum {
    let datum = Datum::new(ModelInput::from_tokens(vec![1; targets]));
    datum.input("target_tokens", vec![2; targets]).unwrap().input("weights", vec![0.5; targets]).unwrap()
}

#[test]
fn results_have_the_size_of_the_request() {
    for (formats, wire) in [(WireFormats::Both, Wire::Json), (WireFormats::Protobuf, Wire::Protobuf)] {
        let server = LocalServer::builder().stub(Duration::ZERO).wire(formats).start().unwrap();
        let config = Config::builder().base_url(server.base_url()).api_key("tml-stub").proxy(Proxy::Off).wire(wire);
        let service = ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap();
        let trainer = service.create_lora_training_client(BASE, LoraConfig::default()).unwrap();
        let batch: Batch = [3, 3, 1, 3].map(datum).into();
        for output in [
            trainer.forward(&batch, LossFn::CrossEntropy).unwrap(),
            trainer.forward_backward(&batch, LossFn::CrossEntropy).unwrap(),
        ] {
            let lengths = output.loss_fn_outputs.iter().map(|output| output.logprobs().unwrap().len());
            assert_eq!(lengths.collect::<Vec<_>>(), [3, 3, 1, 3], "{wire:?}");
            assert_eq!(output.metrics["tokens:sum"], 10.0);
        }
        trainer.optim_step(AdamParams::default()).unwrap();
        let sampler = trainer.save_weights_and_get_sampling_client().unwrap();
        let (prompt, params) = (ModelInput::from_tokens([1, 2, 3]), SamplingParams::default().max_tokens(5));
        let options = SampleOptions::new(&prompt).num_samples(2).sampling_params(params);
        let samples = sampler.sample_with(options.prompt_logprobs(true)).unwrap();
        let lengths = |sequence: &tinkex::types::SampledSequence| {
            (sequence.tokens.len(), sequence.logprobs.as_ref().unwrap().len())
        };
        assert_eq!(samples.sequences.iter().map(lengths).collect::<Vec<_>>(), [(5, 5); 2]);
        assert_eq!(samples.prompt_logprobs.unwrap().len(), 3);
    }
}

#[test]
fn samples_cannot_be_polled_together() {
    let flag = "sample_use_retrieve_futures=true".parse().unwrap();
    let error = LocalServer::builder().flag(flag).stub(Duration::ZERO).start().unwrap_err();
    assert!(
        error.kind() == ErrorKind::Config && error.hint().unwrap().contains("sample_use_retrieve_futures"),
        "{error:?}"
    );
}

/// A request outside the API.
fn stub(client: &mut Client, method: &str, path: &str) -> super::client::Response {
    client.write(format!("{method} {path} HTTP/1.1\r\ncontent-length: 0\r\n\r\n")).unwrap();
    client.receive().unwrap()
}

#[test]
fn results_come_late_or_when_they_are_released() {
    let server = LocalServer::builder().stub(Duration::from_millis(1)).start().unwrap();
    let mut client = Client::new(&server);
    assert_eq!(client.call("optim_step", optim_step("any", 1, 0.1)), json!({ "metrics": {} }));

    let server = LocalServer::builder().stub(NEVER).hold_time(Duration::ZERO).start().unwrap();
    let mut client = Client::new(&server);
    let id = client.promise("optim_step", optim_step("any", 1, 0.1));
    let response = client.post("retrieve_future", json!({ "request_id": id }));
    assert_eq!((response.status, response.json()), (408, json!({ "queue_state": "active" })));

    let server = LocalServer::builder().stub(NEVER).start().unwrap();
    let (mut client, mut other) = (Client::new(&server), Client::new(&server));
    let id = client.promise("asample", sample("any", 0, "abc", json!({ "max_tokens": 3 })));
    assert_ne!(client.promise("asample", sample("any", 0, "abc", json!({ "max_tokens": 3 }))), id);
    client.send("POST", "retrieve_future", &json!({ "request_id": id }).to_string());
    assert!(server.wait_until(PATIENCE, |activity| activity.held_polls() == 1));
    assert_eq!(stub(&mut other, "POST", "/stub/release").status, 204);
    assert_eq!(client.receive().unwrap().json()["sequences"].as_array().unwrap().len(), 1);
    let step = other.promise("optim_step", optim_step("any", 1, 0.1));
    assert_eq!(other.result(&step), json!({ "metrics": {} }));
}

#[test]
fn requests_bytes_and_connections_are_counted() {
    let server = LocalServer::builder().stub(Duration::ZERO).start().unwrap();
    let (mut client, mut other) = (Client::new(&server), Client::new(&server));
    let text = "a".repeat(1000);
    client.call("forward_backward", forward_backward("any", 1, &text));
    // The counts of a request are there before the next one is handled.
    stub(&mut other, "GET", "/stub");
    let counts = stub(&mut other, "GET", "/stub").json();
    let count = |name: &str| counts[name].as_u64().unwrap();
    assert_eq!((count("requests"), count("promises"), count("accepted"), count("connections")), (4, 1, 2, 2));
    let (received, sent) = (count("received"), count("sent"));
    assert!((4000..20_000).contains(&received) && (1000..40_000).contains(&sent), "{counts}");
    let activity = server.activity();
    assert!(activity.received() >= received && activity.sent() >= sent && activity.accepted() == 2);
    assert_eq!(activity.requests().count(), 0, "the log is off");
}

#[test]
fn what_is_no_work_is_answered_as_usual() {
    let server = LocalServer::builder().stub(Duration::ZERO).wire(WireFormats::Protobuf).start().unwrap();
    let mut client = Client::new(&server);
    assert_eq!(client.post("forward_backward", forward_backward("any", 1, "abc")).status, 415);
    for damaged in ["request-1", "stub-", "stub-1-1-pass-9999999x9999999", "stub-1-x-step"] {
        assert_ne!(client.post("retrieve_future", json!({ "request_id": damaged })).status, 200, "{damaged}");
    }
    assert_eq!(client.post("asample", json!({})).status, 422);
    let huge = sample("any", 0, "abc", json!({ "max_tokens": 1_000_000_000 }));
    assert_eq!(client.post("asample", huge).status, 400);
    let promise = client.ok("asample", sample("any", 0, "abc", json!({})));
    assert_eq!(promise["sample_sequence_ids"], json!(["stub-0:0"]));

    let usual = LocalServer::start().unwrap();
    let mut client = Client::new(&usual);
    client.write("GET /stub HTTP/1.1\r\nx-api-key: k\r\n\r\n").unwrap();
    assert_eq!(client.receive().unwrap().status, 404);
}
