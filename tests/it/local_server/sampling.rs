//! What the local server reports about samples and their prompts, and what it keeps of prompts.

use std::sync::Arc;

use serde_json::{Value, json};
use tinkex::local::LocalServer;
use tinkex::local::transformer::Transformer;
use tinkex::types::{ModelInput, SampleResponse, SamplingParams, TensorData};
use tinkex::{Config, Proxy, SampleOptions, ServiceClient};

use super::client::{Client, PATIENCE, forward_backward, optim_step, sample};
use super::models::{Endless, Gated};

const BASE: &str = "tinkex/bytes-tiny";
const PROMPT: &str = "a prompt of forty tokens, more or less ..";

fn connect(server: &LocalServer) -> ServiceClient {
    let config = Config::builder().api_key("tml-local").base_url(server.base_url()).proxy(Proxy::Off);
    ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap()
}

fn prompt() -> ModelInput {
    ModelInput::from_tokens(PROMPT.bytes().map(u32::from).collect::<Vec<_>>())
}

/// Asks our own client for a sample of a base model.
fn ask(change: impl FnOnce(SampleOptions<'_>) -> SampleOptions<'_>) -> tinkex::Result<SampleResponse> {
    let server = LocalServer::start().unwrap();
    let sampler = connect(&server).create_sampling_client(BASE)?;
    let (prompt, params) = (prompt(), SamplingParams::default().max_tokens(3).seed(1));
    sampler.sample_with(change(SampleOptions::new(&prompt).num_samples(2).sampling_params(params)))
}

#[test]
fn samples_have_their_most_probable_tokens() {
    let response = ask(|options| options.topk_sample_logprobs(3)).unwrap();
    assert_eq!(response.sequences.len(), 2);
    for sequence in &response.sequences {
        let rows = sequence.topk_logprobs.as_ref().unwrap();
        assert_eq!(rows.iter().map(Vec::len).collect::<Vec<_>>(), [3; 3]);
        assert!(sequence.sequence_id.is_some());
    }
    assert_ne!(response.sequences[0].sequence_id, response.sequences[1].sequence_id);
}

#[test]
fn targets_are_scored_dense_or_sparse() {
    let rows = PROMPT.len() - 1;
    // The next token of the prompt, and the letter e in place of the last token.
    let mut ids: Vec<i64> = PROMPT.bytes().skip(1).flat_map(|byte| [i64::from(byte), -1]).collect();
    ids[2 * rows - 1] = 101;
    let dense = TensorData::new(ids).unwrap().with_shape([rows, 2]).unwrap();
    let sparse = dense.clone().into_sparse(-1_i64).unwrap();
    let [dense, sparse] = [dense, sparse]
        .map(|targets| ask(|options| options.prompt_logprobs(true).target_prompt_logprobs(targets)).unwrap());
    let (of_dense, of_sparse) = (dense.target_prompt_logprobs.unwrap(), sparse.target_prompt_logprobs.unwrap());
    assert_eq!((of_dense.shape(), of_dense.is_sparse()), (Some(&[rows, 2][..]), false));
    assert!(of_sparse.is_sparse());
    assert_eq!(of_sparse.to_dense(0.0_f32).unwrap(), of_dense);
    let cells = of_dense.as_f32().unwrap();
    for (row, logprob) in dense.prompt_logprobs.unwrap().into_iter().skip(1).enumerate() {
        assert_eq!(Some(cells[2 * row]), logprob);
        assert_eq!(cells[2 * row + 1] != 0.0, row == rows - 1);
    }
}

#[test]
fn only_the_last_prompt_logprobs_are_reported() {
    let ask = |n| ask(|options| options.prompt_logprobs(true).topk_prompt_logprobs(1).prompt_logprobs_last_n(n));
    let response = ask(5).unwrap();
    let is_scored: Vec<bool> = response.prompt_logprobs.unwrap().iter().map(Option::is_some).collect();
    assert_eq!(is_scored, (0..PROMPT.len()).map(|position| position >= PROMPT.len() - 5).collect::<Vec<_>>());
    let has_top: Vec<bool> = response.topk_prompt_logprobs.unwrap().iter().map(Option::is_some).collect();
    assert_eq!(has_top, is_scored);
    let error = ask(PROMPT.len() as u32).unwrap_err().to_string();
    assert!(error.contains(&format!("must be 1 to {}", PROMPT.len() - 1)), "{error}");
}

#[test]
fn a_token_alone_has_no_logprob() {
    let server = LocalServer::start().unwrap();
    let sampler = connect(&server).create_sampling_client(BASE).unwrap();
    let (prompt, params) = (ModelInput::from_tokens([97]), SamplingParams::default().max_tokens(1));
    let options = SampleOptions::new(&prompt).sampling_params(params).prompt_logprobs(true);
    assert_eq!(sampler.sample_with(options.clone()).unwrap().prompt_logprobs, Some(vec![None]));
    let error = sampler.sample_with(options.prompt_logprobs_last_n(1)).unwrap_err().to_string();
    assert!(error.contains("a prompt of length 1 has no logprobs: leave it out"), "{error}");
}

#[test]
fn alternatives_are_drawn_at_each_position() {
    let draw = || ask(|options| options.prompt_alt_tokens_k(4)).unwrap().prompt_alt_tokens.unwrap();
    let drawn = draw();
    let shape = [PROMPT.len() - 1, 4];
    assert_eq!((drawn.tokens.shape(), drawn.logprobs.shape()), (Some(&shape[..]), Some(&shape[..])));
    assert!(drawn.tokens.as_i64().unwrap().iter().all(|token| (0..257).contains(token)));
    assert!(drawn.logprobs.as_f32().unwrap().iter().all(|logprob| *logprob < 0.0));
    // The request has a seed.
    assert_eq!(draw(), drawn);
}

#[test]
fn a_repeated_prompt_is_not_computed_again() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let sampler = client.sampler(BASE);
    let mut ask = |number, prompt: &str| {
        let mut response =
            client.call("asample", sample(&sampler, number, prompt, json!({ "max_tokens": 4, "seed": 1 })));
        let hits = response.as_object_mut().unwrap().remove("prompt_cache_hit_tokens");
        (hits.map_or(0, |hits| hits.as_u64().unwrap()), response)
    };
    let (first, again) = (ask(0, PROMPT), ask(1, PROMPT));
    assert_eq!((first.0, again.0), (0, PROMPT.len() as u64));
    assert_eq!(first.1, again.1);
    assert_eq!(ask(2, &format!("{PROMPT} and more")).0, 32);
    // Another client of the same base model.
    let other = Client::new(&server).sampler(BASE);
    let response =
        Client::new(&server).call("asample", sample(&other, 0, PROMPT, json!({ "max_tokens": 4, "seed": 1 })));
    assert_eq!(response["prompt_cache_hit_tokens"], PROMPT.len());
}

/// Saves weights for a sampler of this kind; returns its sampling session.
fn save(client: &mut Client, run: &str, seq_id: u64, kind: &str) -> String {
    let body = json!({ "model_id": run, "seq_id": seq_id, "sampling_session_seq_id": seq_id, "kind": kind });
    client.call("save_weights_for_sampler", body)["sampling_session_id"].as_str().unwrap().to_owned()
}

#[test]
fn each_inflight_session_keeps_its_own_prompts() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let run = client.model(BASE);
    let hits = |client: &mut Client, sampler: &str, number: u64| {
        let body = sample(sampler, number, PROMPT, json!({ "max_tokens": 1 }));
        client.call("asample", body)["prompt_cache_hit_tokens"].as_u64().unwrap_or(0)
    };
    let length = PROMPT.len() as u64;
    let first = save(&mut client, &run, 1, "inflight");
    assert_eq!([0, 1].map(|number| hits(&mut client, &first, number)), [0, length]);
    client.call("forward_backward", forward_backward(&run, 2, PROMPT));
    client.call("optim_step", optim_step(&run, 3, 0.01));
    // A later save moves the weights of the first session, which keeps its prompts; its clones are numbered from 10^9. The block
    // with the last token is computed with the new weights.
    let second = save(&mut client, &run, 4, "inflight");
    assert_eq!([hits(&mut client, &second, 0), hits(&mut client, &first, 1_000_000_000)], [0, 32]);
    let snapshot = save(&mut client, &run, 5, "snapshot");
    assert_eq!([0, 1].map(|number| hits(&mut client, &snapshot, number)), [0, length]);
}

#[test]
fn an_empty_stop_passes_the_end_of_text() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let sampler = client.sampler(BASE);
    let mut ask = |number, stop: Value| {
        let params = json!({ "max_tokens": 300, "seed": 1, "temperature": 1000.0, "stop": stop });
        client.call("asample", sample(&sampler, number, "a", params))["sequences"][0].take()
    };
    let (free, tokens) = (ask(0, json!([])), |sequence: &Value| sequence["tokens"].as_array().unwrap().clone());
    assert_eq!((free["stop_reason"].as_str(), tokens(&free).len()), (Some("length"), 300));
    let end = tokens(&free).iter().position(|token| *token == 256).unwrap() + 1;
    for (number, stop) in
        [(1, json!(null)), (2, json!([256])), (3, json!("never sampled, so long")), (4, json!(["never sampled"]))]
    {
        let stopped = ask(number, stop);
        assert_eq!((stopped["stop_reason"].as_str(), tokens(&stopped)), (Some("stop"), tokens(&free)[..end].to_vec()));
    }
    let mixed = client.post("asample", sample(&sampler, 5, "a", json!({ "stop": [1, "b"] })));
    let message = mixed.json()["detail"][0]["msg"].take();
    assert_eq!((mixed.status, message), (422, json!("expected a text, a list of texts or a list of tokens")));
}

#[test]
fn unsuitable_questions_about_a_prompt_are_refused() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let sampler = client.sampler(BASE);
    let targets = |data: &[i64], shape: &[usize]| json!({ "data": data, "dtype": "int64", "shape": shape });
    for (field, value, part) in [
        ("prompt_logprobs_last_n", json!(1), "prompt_logprobs is not"),
        ("prompt_alt_tokens_k", json!(u32::MAX), "more than 4194304"),
        ("topk_sample_logprobs", json!(257), "257 at each of 1045504 positions"),
        ("target_prompt_logprobs", targets(&[1, 2], &[2]), "shape [2, K]"),
        ("target_prompt_logprobs", targets(&[1], &[1, 1]), "shape [2, K]"),
        ("target_prompt_logprobs", targets(&[], &[2, 0]), "no token at all"),
        ("target_prompt_logprobs", targets(&[-1, -1], &[2, 1]), "no token at all"),
        ("target_prompt_logprobs", targets(&[1, -2], &[2, 1]), "token -2"),
        ("target_prompt_logprobs", targets(&[1, 257], &[2, 1]), "token 257"),
        ("target_prompt_logprobs", json!({ "data": [1.0, 2.0], "dtype": "float32", "shape": [2, 1] }), "int64"),
    ] {
        let mut body = sample(&sampler, 0, "abc", json!({ "max_tokens": 1021 }));
        body["num_samples"] = json!(1024);
        body[field] = value;
        let response = client.post("asample", body);
        assert_eq!(response.status, 400, "{field}");
        assert!(response.detail().contains(field) && response.detail().contains(part), "{}", response.detail());
    }
}

#[test]
fn what_a_model_cannot_report_fails_by_name() {
    let (model, _gate) = Gated::new("tests/gated");
    let server = LocalServer::builder().model(model).start().unwrap();
    let mut client = Client::new(&server);
    let sampler = client.sampler("tests/gated");
    for (number, field, value) in [
        (0, "topk_sample_logprobs", json!(1)),
        (1, "prompt_alt_tokens_k", json!(1)),
        (2, "target_prompt_logprobs", json!({ "data": [1, 2], "dtype": "int64", "shape": [2, 1] })),
    ] {
        let mut body = sample(&sampler, number, "abc", json!({ "max_tokens": 1 }));
        body[field] = value;
        let failed = client.call("asample", body);
        assert_eq!(failed["category"], "user", "{failed}");
        assert!(failed["error"].as_str().unwrap().contains(&format!("tests/gated cannot report {field}")), "{failed}");
    }
}

#[test]
fn sequence_ids_name_the_session_and_number() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let sampler = client.sampler(BASE);
    let mut body = sample(&sampler, 7, "abc", json!({ "max_tokens": 1 }));
    body["num_samples"] = json!(2);
    body["record_stability_info"] = json!(true);
    let names = json!([format!("{sampler}:7:0"), format!("{sampler}:7:1")]);
    // Also for the same request once more.
    for _ in 0..2 {
        assert_eq!(client.ok("asample", body.clone())["sample_sequence_ids"], names);
    }
}

#[test]
fn a_busy_model_leaves_workers_to_others() {
    let (model, beginnings, ends) = Endless::new();
    let models = LocalServer::builder().model(model).model(Arc::new(Transformer::bytes_tiny()));
    let server = models.hold_time(PATIENCE).start().unwrap();
    let mut client = Client::new(&server);
    let (endless, bytes) = (client.sampler("test/endless"), client.sampler(BASE));
    for number in 0..5 {
        client.promise("asample", sample(&endless, number, "ab", json!({})));
    }
    // As many as it takes at once; those that wait are passed by the samples of other models.
    (0..3).for_each(|_| beginnings.recv_timeout(PATIENCE).unwrap());
    let result = client.call("asample", sample(&bytes, 0, "ab", json!({"max_tokens": 2})));
    assert_eq!(result["sequences"].as_array().unwrap().len(), 1);
    assert!(beginnings.try_recv().is_err());
    server.stop();
    (0..3).for_each(|_| ends.recv_timeout(PATIENCE).unwrap());
}
