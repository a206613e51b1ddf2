//! Micro models behind the server, from a client's side.

use std::sync::Arc;

use tempfile::tempdir;
use tinkex::local::LocalServer;
use tinkex::types::{AdamParams, Datum, LoraConfig, LossFn, ModelInput, SamplingParams, Stop, StopReason};
use tinkex::{Config, ServiceClient, Tokenizer};

use super::model_copy::{golden, load};
use crate::cli::program::tinkex_with;

const TIED: &str = "llama-gqa-tied-f32";
const QWEN: &str = "qwen3-bf16";

fn serve(names: &[&str]) -> LocalServer {
    let builder = names
        .iter()
        .fold(LocalServer::builder(), |builder, name| builder.model(Arc::new(load(&golden(name)).unwrap())));
    builder.start().unwrap()
}

fn service(server: &LocalServer) -> ServiceClient {
    let config =
        Config::builder().base_url(server.base_url()).api_key("tml-test").max_retries(0).build_with(|_| None).unwrap();
    ServiceClient::connect(config).unwrap()
}

fn greedy(max_tokens: u32) -> SamplingParams {
    SamplingParams::default().max_tokens(max_tokens).temperature(0.0)
}

#[test]
fn a_text_ends_samples_across_tokens() {
    let server = serve(&[TIED]);
    let sampler = service(&server).create_sampling_client(TIED).unwrap();
    let tokenizer = Tokenizer::from_path(golden(TIED)).unwrap();
    let prompt = ModelInput::from_text(&tokenizer, "Alice was beginning").unwrap();
    let whole = sampler.sample(&prompt, 1, &greedy(24).stop(Stop::Texts(Vec::new()))).unwrap();
    let tokens = &whole.sequences[0].tokens;
    // Two characters of it that are whole: those of a model with random weights often are not.
    let text: Vec<char> = tokenizer.decode(tokens).unwrap().chars().collect();
    let stop: String = text.windows(2).skip(4).find(|pair| !pair.contains(&'\u{fffd}')).unwrap().iter().collect();
    let first = (1..=tokens.len()).find(|&end| tokenizer.decode(&tokens[..end]).unwrap().contains(&stop)).unwrap();
    let stopped = sampler.sample(&prompt, 1, &greedy(24).stop(vec![stop.clone()])).unwrap();
    assert_eq!(stopped.sequences[0].tokens, tokens[..first], "{stop:?}");
    assert_eq!(stopped.sequences[0].stop_reason, StopReason::Stop);
}

#[test]
fn the_context_is_a_limit_everywhere() {
    let server = serve(&[TIED]);
    let service = service(&server);
    let sampler = service.create_sampling_client(TIED).unwrap();
    let trainer = service.create_lora_training_client(TIED, LoraConfig::default().rank(2)).unwrap();
    let tokens = |count: usize| vec![5_u32; count];
    let datum = |count: usize| {
        let datum = Datum::new(tokens(count)).input("target_tokens", vec![6_i64; count]).unwrap();
        datum.input("weights", vec![1.0_f32; count]).unwrap()
    };
    assert!(sampler.sample(&ModelInput::from_tokens(tokens(511)), 1, &greedy(1)).is_ok());
    assert!(trainer.forward(datum(512), LossFn::CrossEntropy).is_ok());
    for error in [
        sampler.sample(&ModelInput::from_tokens(tokens(512)), 1, &greedy(1)).unwrap_err(),
        sampler.sample(&ModelInput::from_tokens(tokens(500)), 1, &greedy(13)).unwrap_err(),
        sampler.compute_logprobs(&ModelInput::from_tokens(tokens(513))).unwrap_err(),
        trainer.forward(datum(513), LossFn::CrossEntropy).unwrap_err(),
        trainer.forward_backward(datum(513), LossFn::CrossEntropy).unwrap_err(),
    ] {
        assert_eq!(error.status(), Some(400), "{error}");
        assert!(error.to_string().contains("context of 512"), "{error}");
    }
    let outside = sampler.sample(&ModelInput::from_tokens([272]), 1, &greedy(1)).unwrap_err();
    assert!(outside.to_string().contains("vocabulary of 272"), "{outside}");
}

#[test]
fn a_tied_head_has_an_adapter() {
    let server = serve(&[TIED]);
    let service = service(&server);
    let lora = LoraConfig::default().rank(4);
    let trainer = service.create_lora_training_client(TIED, lora).unwrap();
    let datum = Datum::new(vec![5, 6, 7]).input("target_tokens", vec![6_i64, 7, 8]).unwrap();
    let datum = datum.input("weights", vec![1.0_f32; 3]).unwrap();
    let loss = || trainer.forward(datum.clone(), LossFn::CrossEntropy).unwrap().metrics["loss:sum"];
    let before = loss();
    trainer.forward_backward(datum.clone(), LossFn::CrossEntropy).unwrap();
    trainer.optim_step(AdamParams::new().learning_rate(0.01)).unwrap();
    assert!(loss() < before, "{before}");
    let sampler = trainer.save_weights_and_get_sampling_client().unwrap();
    let path = trainer.save_state("tied").unwrap().path;
    let restored = service.create_training_client_from_state(&path).unwrap();
    assert_eq!(restored.forward(datum.clone(), LossFn::CrossEntropy).unwrap().metrics["loss:sum"], loss());
    assert_eq!(sampler.sample(&ModelInput::from_tokens([5]), 1, &greedy(2)).unwrap().sequences[0].tokens.len(), 2);
}

#[test]
fn the_program_needs_no_hub_and_no_setting() {
    let (server, cache) = (serve(&[QWEN]), tempdir().unwrap());
    let folder = cache.path().to_str().unwrap();
    let run = |arguments: &[&str]| {
        let program = tinkex_with(arguments).at(&server.base_url()).without_env("HF_HUB_OFFLINE");
        let program = program.env("HF_ENDPOINT", "http://127.0.0.1:1").env("TINKEX_CACHE", folder);
        program.env("HF_HUB_CACHE", folder).run()
    };
    let sampled = run(&["sample", "--model", QWEN, "--max-tokens", "4", "--temperature", "0", "Alice"]);
    assert_eq!(sampled.code, Some(0), "{sampled:?}");
    let chatted = run(&["sample", "--chat", "--model", QWEN, "--max-tokens", "4", "Hi"]);
    assert_eq!(chatted.code, Some(0), "{chatted:?}");
    let fetched = server.requests().into_iter().filter(|request| request.path.contains("/resolve/"));
    let fetched: Vec<_> = fetched.map(|request| request.endpoint().to_owned()).collect();
    assert_eq!(fetched, ["tokenizer_config.json", "tokenizer.json"]);
}
