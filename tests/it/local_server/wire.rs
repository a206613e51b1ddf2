//! Passes and results in JSON and in protobuf: what is taken, what comes back, and that both are the same numbers.

use std::time::Duration;

use serde_json::{Value, json};
use tinkex::local::{LocalServer, WireFormats};
use tinkex::types::wire::protobuf::{self, prost::Message};
use tinkex::types::{
    AdamParams, Batch, Datum, ForwardBackwardOutput, LoraConfig, Loss, LossFn, ModelInput, SampleResponse,
    SamplingParams,
};
use tinkex::{Config, Proxy, SampleOptions, ServiceClient, Wire};

use super::client::{Client, forward_backward, optim_step, sample};
use super::models::Gated;

const BASE: &str = "tinkex/bytes-tiny";

fn datum(text: &[u8]) -> Datum {
    let tokens: Vec<u32> = text.iter().map(|&byte| byte.into()).collect();
    let count = tokens.len() - 1;
    let datum = Datum::new(ModelInput::from_tokens(&tokens[..count])).input("target_tokens", &tokens[1..]).unwrap();
    let datum = datum.input("weights", vec![0.7; count]).unwrap().input("advantages", vec![0.3; count]).unwrap();
    datum.input("logprobs", vec![-1.1; count]).unwrap()
}

fn data() -> [Datum; 2] {
    [datum(b"abcdefgh"), datum(b"xyz")]
}

fn service(server: &LocalServer, wire: Wire) -> ServiceClient {
    let config = Config::builder().base_url(server.base_url()).api_key("tml-wire").proxy(Proxy::Off);
    ServiceClient::connect(config.wire(wire).build_with(|_| None).unwrap()).unwrap()
}

/// Every bit of the numbers of a short training run.
#[derive(Debug, PartialEq)]
struct Numbers {
    passes: Vec<ForwardBackwardOutput>,
    samples: SampleResponse,
}

fn train(server: &LocalServer, wire: Wire) -> Numbers {
    let service = service(server, wire);
    let trainer = service.create_lora_training_client(BASE, LoraConfig::new().seed(7)).unwrap();
    let batch: Batch = data().into();
    let mut passes = Vec::new();
    for loss in [
        Loss::cross_entropy(),
        Loss::importance_sampling(),
        Loss::ppo().config("clip_low_threshold", 0.9).config("clip_high_threshold", 1.1),
        Loss::cispo().config("clip_high_threshold", 1.3),
        Loss::dro().config("beta", 0.1),
    ] {
        passes.push(trainer.forward(&batch, loss.clone()).unwrap());
        passes.push(trainer.forward_backward(&batch, loss).unwrap());
        trainer.optim_step(AdamParams::new().learning_rate(0.01)).unwrap();
    }
    let masked = datum(b"masked").input("sequence_ratio_mask", vec![0.0, 1.0, 1.0, 0.0, 1.0]).unwrap();
    passes.push(trainer.forward_backward([masked], LossFn::Gspo).unwrap());
    let sampler = trainer.save_weights_and_get_sampling_client().unwrap();
    let prompt = ModelInput::from_tokens([97, 98, 99]);
    let params = SamplingParams::default().max_tokens(5).seed(3);
    let options = SampleOptions::new(&prompt).num_samples(2).sampling_params(params);
    let mut samples = sampler.sample_with(options.prompt_logprobs(true).topk_prompt_logprobs(2)).unwrap();
    // Only the ids differ between servers.
    samples.sequences.iter_mut().for_each(|sequence| sequence.sequence_id = None);
    Numbers { passes, samples }
}

/// Samples of a model whose training has diverged.
fn diverged(wire: Wire) -> SampleResponse {
    let server = LocalServer::start().unwrap();
    let service = service(&server, wire);
    let trainer = service.create_lora_training_client(BASE, LoraConfig::new().seed(7)).unwrap();
    trainer.forward_backward(data(), LossFn::CrossEntropy).unwrap();
    trainer.optim_step(AdamParams::new().learning_rate(3e38)).unwrap();
    let pass = trainer.forward(data(), LossFn::CrossEntropy).unwrap();
    assert!(pass.metrics["loss:sum"].is_nan() && pass.loss_fn_outputs[1].logprobs().unwrap()[0].is_nan());
    let sampler = trainer.save_weights_and_get_sampling_client().unwrap();
    let prompt = ModelInput::from_tokens([97, 98, 99]);
    let params = SamplingParams::default().max_tokens(2).seed(3);
    let options = SampleOptions::new(&prompt).sampling_params(params).prompt_logprobs(true).topk_prompt_logprobs(2);
    sampler.sample_with(options.topk_sample_logprobs(2).prompt_alt_tokens_k(2)).unwrap()
}

#[test]
fn numbers_that_are_not_finite_arrive_as_nan() {
    for wire in [Wire::Json, Wire::Protobuf] {
        let response = diverged(wire);
        let sequence = &response.sequences[0];
        assert!(sequence.logprobs.as_ref().unwrap().iter().all(|logprob| logprob.is_nan()), "{response:?}");
        let sampled = sequence.topk_logprobs.as_ref().unwrap()[0].clone();
        let of_prompt = response.topk_prompt_logprobs.as_ref().unwrap()[1].clone().unwrap();
        for top in [sampled, of_prompt] {
            assert!(top.len() == 2 && top.iter().all(|top| top.logprob.is_nan()), "{wire:?} {response:?}");
        }
        let alternatives = response.prompt_alt_tokens.unwrap().logprobs;
        assert!(alternatives.as_f32().unwrap().iter().all(|logprob| logprob.is_nan()));
        let prompt = response.prompt_logprobs.unwrap();
        assert!(prompt[0].is_none() && prompt[1].is_some_and(f32::is_nan), "{wire:?} {prompt:?}");
    }
}

fn content_types(server: &LocalServer) -> Vec<String> {
    let activity = server.activity();
    let passes = activity.requests().filter(|request| request.endpoint().starts_with("forward"));
    let mut types: Vec<_> = passes
        .map(|pass| {
            let encoding = pass.header("content-encoding").unwrap_or_default();
            format!("{} {encoding}", pass.header("content-type").unwrap()).trim_end().to_owned()
        })
        .collect();
    types.dedup();
    types
}

#[test]
fn all_wires_give_the_same_bits() {
    let compress = "proto_compress_fwdbwd=true".parse().unwrap();
    let [json, protobuf, compressed] = [
        (LocalServer::start().unwrap(), Wire::Json),
        (LocalServer::start().unwrap(), Wire::Protobuf),
        (LocalServer::builder().flag(compress).start().unwrap(), Wire::Protobuf),
    ]
    .map(|(server, wire)| (train(&server, wire), content_types(&server)));
    assert_eq!(json.1, ["application/json"]);
    assert_eq!(protobuf.1, ["application/x-protobuf"]);
    let encoding = if cfg!(feature = "zstd") { " zstd" } else { "" };
    assert_eq!(compressed.1, [format!("application/x-protobuf{encoding}")]);
    assert_eq!(json.0, protobuf.0);
    assert_eq!(json.0, compressed.0);
    let losses: Vec<f64> = json.0.passes.iter().map(|pass| pass.metrics["loss:sum"]).collect();
    assert!(losses.windows(2).any(|pair| pair[0] != pair[1]), "{losses:?}");
}

#[test]
fn our_client_finds_the_format_of_each_mode() {
    for (formats, expected) in [
        (WireFormats::Both, &["application/json"][..]),
        (WireFormats::Json, &["application/json"]),
        (WireFormats::Protobuf, &["application/json", "application/x-protobuf"]),
    ] {
        let server = LocalServer::builder().wire(formats).start().unwrap();
        let trainer = service(&server, Wire::Auto).create_lora_training_client(BASE, LoraConfig::new()).unwrap();
        trainer.forward_backward(data(), LossFn::CrossEntropy).unwrap();
        trainer.forward(data(), LossFn::CrossEntropy).unwrap();
        assert_eq!(content_types(&server), expected, "{formats:?}");
    }
}

fn pass(model_id: &str, seq_id: u64, forward_only: bool) -> Vec<u8> {
    protobuf::pass_request(&data(), &Loss::cross_entropy(), model_id, seq_id, forward_only).unwrap()
}

#[test]
fn each_mode_refuses_like_its_generation() {
    for (formats, json, forward, protobuf, protobuf_as_text) in [
        (WireFormats::Both, 200, 200, 200, 422),
        (WireFormats::Json, 200, 200, 422, 422),
        (WireFormats::Protobuf, 415, 404, 200, 422),
    ] {
        let server = LocalServer::builder().wire(formats).start().unwrap();
        let mut client = Client::new(&server);
        let model = client.model(BASE);
        let body = forward_backward(&model, 1, "abc");
        let forward_body = json!({ "forward_input": body["forward_backward_input"], "model_id": model, "seq_id": 2 });
        let statuses = [
            client.post("forward_backward", body).status,
            client.post("forward", forward_body).status,
            client.post_protobuf("forward_backward", &pass(&model, 3, false)).status,
            client.post_protobuf("forward_backward", b"text").status,
        ];
        assert_eq!(statuses, [json, forward, protobuf, protobuf_as_text], "{formats:?}");
        // A refused request was not run: its number is free.
        assert_eq!(client.post("optim_step", optim_step(&model, if json == 415 { 1 } else { 4 }, 0.1)).status, 200);
    }
}

/// No message has one, and what is counted would end before it.
#[test]
fn a_group_is_no_pass() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let model = client.model(BASE);
    let body = [&[0x7b, 0x7c][..], &pass(&model, 1, false)].concat();
    let response = client.post_protobuf("forward_backward", &body);
    assert_eq!(response.status, 422);
    assert!(String::from_utf8_lossy(&response.body).contains("the field 15 is a group"));
}

#[test]
fn other_endpoints_take_json_only() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    for endpoint in ["forward", "optim_step", "asample", "create_session", "retrieve_future"] {
        let response = client.post_protobuf(endpoint, b"\x0a\x01m");
        assert_eq!(response.status, 415, "{endpoint}");
        assert!(response.detail().contains("JSON only"));
    }
}

fn content_type(response: &super::client::Response) -> &str {
    response.header("content-type").unwrap_or_default()
}

#[test]
fn only_passes_and_samples_come_as_protobuf() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let model = client.model(BASE);
    let sampler = client.sampler(BASE);
    let pass = client.promise("forward_backward", forward_backward(&model, 1, "abcd"));
    let step = client.promise("optim_step", optim_step(&model, 2, 0.1));
    let samples = client.promise("asample", sample(&sampler, 0, "abc", json!({ "max_tokens": 2, "seed": 1 })));
    let failing = json!({ "model_id": model, "path": "tinker://gone/weights/x", "optimizer": false, "seq_id": 3 });
    let failed = client.promise("load_weights", failing);

    let json_of: Value = client.result(&pass);
    let response = client.poll_protobuf(&pass);
    assert_eq!((response.status, content_type(&response)), (200, protobuf::CONTENT_TYPE));
    let message = protobuf::ForwardBackwardOutput::decode(&*response.body).unwrap();
    let expected: ForwardBackwardOutput = serde_json::from_value(json_of).unwrap();
    assert_eq!(ForwardBackwardOutput::try_from(message).unwrap(), expected);
    assert_eq!(client.poll_protobuf(&pass).body, response.body, "a repeated poll gets the same bytes");

    let json_of: Value = client.result(&samples);
    let response = client.poll_protobuf(&samples);
    assert_eq!(content_type(&response), protobuf::CONTENT_TYPE);
    let message = protobuf::SampleResponse::decode(&*response.body).unwrap();
    let expected: SampleResponse = serde_json::from_value(json_of).unwrap();
    assert_eq!(SampleResponse::try_from(message).unwrap().sequences[0].tokens, expected.sequences[0].tokens);

    client.result(&step);
    let response = client.poll_protobuf(&step);
    assert_eq!(content_type(&response), "application/json");
    assert!(response.json()["metrics"].is_object());
    client.result(&failed);
    assert_eq!(client.poll_protobuf(&failed).json()["category"], "user");
    let unknown = client.poll_protobuf("request-99");
    assert_eq!((unknown.status, content_type(&unknown)), (404, "application/json"));
}

#[test]
fn polls_get_the_format_of_greater_weight() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let sampler = client.sampler(BASE);
    let id = client.promise("asample", sample(&sampler, 0, "ab", json!({ "max_tokens": 1 })));
    client.result(&id);
    let body = json!({ "request_id": id }).to_string();
    for (accepted, expected) in [
        (&["application/x-protobuf"][..], protobuf::CONTENT_TYPE),
        (&["application/json", "application/x-protobuf; q=1.0"], protobuf::CONTENT_TYPE),
        (&["application/x-protobuf;q=0"], "application/json"),
        (&["application/json, application/x-protobuf;q=0.5"], "application/json"),
        (&["application/x-protobuffer"], "application/json"),
        (&["*/*"], "application/json"),
    ] {
        let headers: Vec<_> = accepted.iter().map(|types| ("accept", *types)).collect();
        client.send_with("POST", "retrieve_future", &headers, body.as_bytes());
        assert_eq!(content_type(&client.receive().unwrap()), expected, "{accepted:?}");
    }
}

#[test]
fn held_polls_get_what_they_accept() {
    let (model, gate) = Gated::new(BASE);
    let server = LocalServer::builder().model(model).start().unwrap();
    let mut client = Client::new(&server);
    let run = client.model(BASE);
    let id = client.promise("forward_backward", forward_backward(&run, 1, "abc"));
    let (mut json, mut protobuf) = (Client::new(&server), Client::new(&server));
    let body = json!({ "request_id": id }).to_string();
    json.send("POST", "retrieve_future", &body);
    protobuf.send_with("POST", "retrieve_future", &[("accept", "Application/X-Protobuf, */*")], body.as_bytes());
    assert!(server.wait_until(Duration::from_secs(60), |activity| activity.held_polls() == 2));
    drop(gate);
    assert!(json.receive().unwrap().json()["metrics"].is_object());
    assert_eq!(content_type(&protobuf.receive().unwrap()), protobuf::CONTENT_TYPE);

    let server = LocalServer::builder().wire(WireFormats::Json).start().unwrap();
    let mut client = Client::new(&server);
    let run = client.model(BASE);
    let id = client.promise("forward_backward", forward_backward(&run, 1, "abc"));
    client.result(&id);
    assert_eq!(content_type(&client.poll_protobuf(&id)), "application/json");
}

#[test]
fn a_forward_pass_leaves_the_gradient() {
    let gradient_of = |forward_passes: &[bool]| {
        let server = LocalServer::start().unwrap();
        let mut client = Client::new(&server);
        let model = client.model(BASE);
        let mut seq = 0;
        let mut run = |client: &mut Client, forward_only| {
            seq += 1;
            let response = client.post_protobuf("forward_backward", &pass(&model, seq, forward_only));
            assert_eq!(response.status, 200);
            client.result(response.json()["request_id"].as_str().unwrap())["metrics"]["loss:sum"].as_f64().unwrap()
        };
        for &forward_only in forward_passes {
            run(&mut client, forward_only);
        }
        client.call("optim_step", json!({ "model_id": model, "adam_params": { "learning_rate": 0.01 } }));
        run(&mut client, true)
    };
    let once = gradient_of(&[false]);
    assert_eq!(gradient_of(&[true, false, true]), once);
    assert_ne!(gradient_of(&[true]), once);
}

#[test]
fn compressed_bodies_are_bounded() {
    let server = LocalServer::builder().max_body(10_000).start().unwrap();
    let mut client = Client::new(&server);
    let model = client.model(BASE);
    let body = pass(&model, 1, false);
    let bomb = zstd::encode_all(&*vec![0; 10_001], 0).unwrap();
    assert!(bomb.len() < 100);
    let types = ("content-type", protobuf::CONTENT_TYPE);
    for (encoding, body, status) in [
        ("zstd", bomb, 413),
        ("zstd", body.clone(), 400),
        ("gzip", body.clone(), 415),
        ("zstd", zstd::encode_all(&*body, 0).unwrap(), 200),
    ] {
        client.send_with("POST", "forward_backward", &[types, ("content-encoding", encoding)], &body);
        assert_eq!(client.receive().unwrap().status, status, "{encoding}");
    }
    let logged = server.activity().requests_to("forward_backward").last().cloned().unwrap();
    assert_eq!((logged.seq, logged.subject), (Some(1), Some(model)));
}
