//! Checkpoints that are asked by their paths.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use tinkex::clock::Clock;
use tinkex::local::LocalServer;
use tinkex::types::{AdamParams, Datum, LoraConfig, LossFn, ModelInput, SamplingParams, Timestamp};
use tinkex::{Config, ServiceClient, Tokenizer, TrainingOptions};

use super::client::Client;

const MODEL: &str = "tinkex/bytes-tiny";

fn service(server: &LocalServer, key: &str) -> ServiceClient {
    let config = Config::builder().base_url(server.base_url()).api_key(key).build_with(|_| None).unwrap();
    ServiceClient::connect(config).unwrap()
}

/// Trains a little, and saves; the path.
fn save(service: &ServiceClient, name: &str) -> String {
    let options = TrainingOptions::new().lora(LoraConfig::new().rank(4));
    let trainer = service.create_lora_training_client(MODEL, options).unwrap();
    let datum = Datum::new(ModelInput::from_tokens([65, 66])).input("target_tokens", vec![66_i64, 67]).unwrap();
    let datum = datum.input("weights", vec![1.0_f32; 2]).unwrap();
    trainer.forward_backward(vec![datum], LossFn::CrossEntropy).unwrap();
    trainer.optim_step(AdamParams::default().learning_rate(0.5)).unwrap();
    trainer.save_weights_for_sampler(name).unwrap().path
}

fn ask(client: &mut Client, model: &str) -> (u16, Value) {
    let body = json!({ "model": model, "prompt": [65, 66], "seed": 7, "max_tokens": 16, "logprobs": 2 });
    client.post("completions", &body)
}

#[test]
fn a_checkpoint_answers_as_it_samples() {
    let server = LocalServer::start().unwrap();
    let service = service(&server, "tml-test");
    let path = save(&service, "a");
    let sampler = service.create_sampling_client(&path).unwrap();
    let params = SamplingParams::default().seed(7).max_tokens(16);
    let sampled = sampler.sample(&ModelInput::from_tokens([65, 66]), 1, &params).unwrap();

    let mut client = Client::new(server.port());
    for _ in 0..2 {
        let (status, body) = ask(&mut client, &path);
        let text = Tokenizer::bytes().decode(&sampled.sequences[0].tokens).unwrap();
        assert_eq!((status, &body["choices"][0]["text"]), (200, &json!(text)));
        let logprobs = &body["choices"][0]["logprobs"]["token_logprobs"];
        for (theirs, ours) in logprobs.as_array().unwrap().iter().zip(sampled.sequences[0].logprobs.as_ref().unwrap()) {
            assert!((theirs.as_f64().unwrap() - f64::from(*ours)).abs() < 1e-6, "{theirs} {ours}");
        }
    }
    assert_ne!(
        ask(&mut client, MODEL).1["choices"][0]["logprobs"],
        ask(&mut client, &path).1["choices"][0]["logprobs"]
    );
}

#[test]
fn a_checkpoint_is_its_owners_until_published() {
    let server = LocalServer::start().unwrap();
    let owner = service(&server, "tml-test");
    // As a part of the hub's paths is named.
    let path = save(&owner, "resolve");
    let encoded = path.replace(':', "%3A").replace('/', "%2F");
    let (mut own, mut other) = (Client::new(server.port()), Client::new(server.port()).key("tml-other"));
    let lists = |client: &mut Client| {
        let (_, body) = client.get("models");
        body["data"].as_array().unwrap().iter().any(|model| model["id"] == path.as_str() && model["root"] == MODEL)
    };
    assert_eq!((lists(&mut own), lists(&mut other)), (true, false));
    assert_eq!((own.get(&format!("models/{encoded}")).0, other.get(&format!("models/{encoded}")).0), (200, 403));
    assert_eq!((ask(&mut own, &path).0, ask(&mut other, &path).0), (200, 403));
    owner.create_rest_client().publish_checkpoint_from_tinker_path(&path).unwrap();
    assert_eq!(ask(&mut other, &path).0, 200);
}

#[test]
fn answers_are_counted_as_samples_are() {
    let server = LocalServer::start().unwrap();
    let service = service(&server, "tml-test");
    let mut client = Client::new(server.port());
    let rest = service.create_rest_client();
    let at = |hours: i64| {
        let seconds =
            Clock::system().wall().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 / 3600 * 3600 + hours * 3600;
        Timestamp::from(UNIX_EPOCH + Duration::from_secs(seconds as u64))
    };
    let counted = || rest.get_billing_usage(&at(-1), &at(2)).unwrap().data.len();
    assert_eq!(counted(), 0);
    ask(&mut client, MODEL);
    // Tokens of the prompt, and tokens that were sampled.
    assert_eq!(counted(), 2);
}
