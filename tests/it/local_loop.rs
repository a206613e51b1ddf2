//! The main loop on the local server: create, train, save, sample; also with the server down for a while.

use std::thread;
use std::time::Duration;

use tinkex::local::{LocalServer, LoggedRequest};
use tinkex::types::{
    AdamParams, Batch, Datum, ForwardBackwardOutput, LoraConfig, LossFn, ModelInput, OptimStepResponse, RequestKind,
    SampleResponse, SamplingParams,
};
use tinkex::{Config, ConfigBuilder, ErrorKind, Limit, Proxy, ServiceClient, TrainingClient};

use crate::local_server::models::Gated;

const BASE: &str = "tinkex/bytes-tiny";
const TEXT: &str = "abcdefghi";

/// Long enough for a loaded machine; a passing test never waits this long.
const PATIENCE: Duration = Duration::from_secs(60);

fn connect_with(server: &LocalServer, builder: ConfigBuilder) -> ServiceClient {
    let builder = builder.api_key("tml-local").base_url(server.base_url()).proxy(Proxy::Off);
    ServiceClient::connect(builder.build_with(|_| None).unwrap()).unwrap()
}

fn connect(server: &LocalServer) -> ServiceClient {
    connect_with(server, Config::builder())
}

fn lora() -> LoraConfig {
    LoraConfig::new().seed(1)
}

/// A batch of one text, in which each byte is predicted from those before it.
fn batch(text: &str) -> Batch {
    let tokens: Vec<u32> = text.bytes().map(u32::from).collect();
    let targets: Vec<i64> = tokens[1..].iter().map(|token| i64::from(*token)).collect();
    let datum = Datum::new(ModelInput::from_tokens(tokens[..tokens.len() - 1].to_vec()));
    let datum = datum.input("weights", vec![1.0_f32; targets.len()]).unwrap().input("target_tokens", targets).unwrap();
    vec![datum].into()
}

fn adam() -> AdamParams {
    AdamParams::new().learning_rate(0.006)
}

fn loss(output: &ForwardBackwardOutput) -> f64 {
    output.metrics["loss:sum"]
}

fn prompt(text: &str) -> ModelInput {
    ModelInput::from_tokens(text.bytes().map(u32::from).collect::<Vec<_>>())
}

fn greedy(max_tokens: u32) -> SamplingParams {
    SamplingParams::default().max_tokens(max_tokens).temperature(0.0)
}

/// The losses of this number of steps, waiting for each.
fn train(trainer: &TrainingClient, steps: usize) -> Vec<f64> {
    let step = |_| {
        let output = trainer.forward_backward(batch(TEXT), LossFn::CrossEntropy).unwrap();
        trainer.optim_step(adam()).unwrap();
        loss(&output)
    };
    (0..steps).map(step).collect()
}

/// The requests of a training client, including retries.
fn training_requests(server: &LocalServer, trainer: &TrainingClient) -> Vec<LoggedRequest> {
    let own = |request: &LoggedRequest| request.subject.as_deref() == Some(trainer.model_id()) && request.seq.is_some();
    server.requests().into_iter().filter(own).collect()
}

fn assert_numbered_from_one(requests: &[LoggedRequest]) {
    let numbers: Vec<_> = requests.iter().map(|request| request.seq.unwrap()).collect();
    assert_eq!(numbers, (1..=requests.len() as u64).collect::<Vec<_>>());
}

/// The sampled bytes.
fn said(reply: &SampleResponse) -> Vec<u8> {
    reply.sequences[0].tokens.iter().map(|token| u8::try_from(*token).unwrap_or(b'?')).collect()
}

#[test]
fn blocking_training_teaches_the_model() {
    let server = LocalServer::start().unwrap();
    let service = connect(&server);
    let trainer = service.create_lora_training_client(BASE, lora()).unwrap();
    let losses = train(&trainer, 30);
    assert!(losses[29] < losses[0] / 10.0, "{losses:?}");

    let saved = trainer.save_weights_for_sampler("final").unwrap();
    assert_eq!(saved.path, format!("tinker://{}/sampler_weights/final", trainer.model_id()));
    let by_path = service.create_sampling_client(&saved.path).unwrap();
    let unnamed = trainer.save_weights_and_get_sampling_client().unwrap();
    assert_ne!(by_path.sampling_session_id(), unnamed.sampling_session_id());
    for sampler in [&by_path, &unnamed] {
        assert_eq!(said(&sampler.sample(&prompt("abcde"), 1, &greedy(4)).unwrap()), b"fghi");
    }
    let logprobs = unnamed.compute_logprobs(&prompt(TEXT)).unwrap();
    assert_eq!((logprobs.len(), logprobs[0]), (9, None));
    assert!(logprobs[1..].iter().all(|logprob| logprob.unwrap() > -1.0), "{logprobs:?}");
    assert_numbered_from_one(&training_requests(&server, &trainer));
}

#[test]
fn pipelined_training_equals_blocking_training() {
    let server = LocalServer::start().unwrap();
    let service = connect(&server);
    let blocking = service.create_lora_training_client(BASE, lora()).unwrap();
    let pipelined = service.create_lora_training_client(BASE, lora()).unwrap();

    let mut pending = Vec::new();
    for _ in 0..10 {
        let pass = pipelined.submit_forward_backward(batch(TEXT), LossFn::CrossEntropy).unwrap();
        pending.push((pass, pipelined.submit_optim_step(adam()).unwrap()));
    }
    let sampler = pipelined.submit_save_weights_and_get_sampling_client().unwrap();
    let losses: Vec<_> = pending
        .into_iter()
        .map(|(pass, step)| {
            step.wait().unwrap();
            loss(&pass.wait().unwrap())
        })
        .collect();
    let bits = |losses: &[f64]| losses.iter().map(|loss| loss.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&losses), bits(&train(&blocking, 10)));
    assert!(losses[9] < losses[0], "{losses:?}");

    let requests = training_requests(&server, &pipelined);
    assert_numbered_from_one(&requests);
    let endpoints: Vec<_> = requests.iter().map(LoggedRequest::endpoint).collect();
    let mut expected = ["forward_backward", "optim_step"].repeat(10);
    expected.push("save_weights_for_sampler");
    assert_eq!(endpoints, expected);

    let sampler = sampler.wait().unwrap();
    let replies: Vec<_> = (0..5).map(|_| sampler.submit_sample(&prompt("ab"), 2, &greedy(3)).unwrap()).collect();
    let mut replies: Vec<_> = replies.into_iter().map(|reply| reply.wait().unwrap()).collect();
    let mut ids = std::collections::BTreeSet::new();
    for reply in &mut replies {
        // The later ones find the prompt computed.
        assert!([0, 2].contains(&std::mem::take(&mut reply.prompt_cache_hit_tokens)));
        for sequence in &mut reply.sequences {
            assert!(ids.insert(sequence.sequence_id.take()), "each sequence has an id of its own");
        }
    }
    assert!(replies.iter().all(|reply| reply.sequences.len() == 2 && *reply == replies[0]));
    let mut numbers: Vec<_> =
        server.requests().iter().filter(|request| request.endpoint() == "asample").map(|r| r.seq.unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
}

/// Each thread collects the request ids of its calls, which show the order in which the server received them.
#[test]
fn threads_sharing_a_client_keep_their_order() {
    let server = LocalServer::start().unwrap();
    let service = connect(&server);
    let trainer = service.create_lora_training_client(BASE, lora()).unwrap();
    let ids = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let trainer = trainer.clone();
                scope.spawn(move || {
                    let mut ids = Vec::new();
                    for round in 0..8 {
                        let pass = trainer.submit_forward_backward(batch("abc"), LossFn::CrossEntropy).unwrap();
                        let step = trainer.submit_optim_step(adam()).unwrap();
                        // Two threads wait for their results in each round, two collect them at the end.
                        if thread % 2 == 0 {
                            assert!(pass.wait_timeout(PATIENCE).unwrap().is_ok());
                            assert!(step.wait_timeout(PATIENCE).unwrap().is_ok());
                        }
                        ids.push((round, pass, step));
                    }
                    let mut order = Vec::new();
                    for (_, pass, step) in ids {
                        let (pass_ready, step_ready) = (pass.ready(), step.ready());
                        pass_ready.recv_timeout(PATIENCE).unwrap();
                        step_ready.recv_timeout(PATIENCE).unwrap();
                        order.extend([pass.request_id().unwrap(), step.request_id().unwrap()]);
                    }
                    order
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let requests = training_requests(&server, &trainer);
    assert_eq!(requests.len(), 64);
    assert_numbered_from_one(&requests);
    // The server numbers its promises in the order of arrival.
    for order in ids {
        let numbers: Vec<u64> =
            order.iter().map(|id| id.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "{order:?}");
    }
}

#[test]
fn same_seed_gives_same_losses() {
    let run = || {
        let server = LocalServer::start().unwrap();
        let trainer = connect(&server).create_lora_training_client(BASE, lora()).unwrap();
        train(&trainer, 5).into_iter().map(f64::to_bits).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_constrained_client_completes_the_loop() {
    let server = LocalServer::start().unwrap();
    let service = connect_with(&server, Config::constrained());
    let trainer = service.create_lora_training_client(BASE, lora()).unwrap();
    let mut pending = Vec::new();
    for _ in 0..20 {
        let pass = trainer.submit_forward_backward(batch(TEXT), LossFn::CrossEntropy).unwrap();
        pending.push((pass, trainer.submit_optim_step(adam()).unwrap()));
    }
    let mut losses = Vec::new();
    for (pass, step) in pending {
        losses.push(loss(&pass.wait().unwrap()));
        step.wait().unwrap();
    }
    assert!(losses[19] < losses[0] / 2.0, "{losses:?}");
    let sampler = trainer.save_weights_and_get_sampling_client().unwrap();
    let replies: Vec<_> = (0..20).map(|_| sampler.submit_sample(&prompt("abcde"), 1, &greedy(2)).unwrap()).collect();
    let replies: Vec<_> = replies.into_iter().map(|reply| said(&reply.wait().unwrap())).collect();
    assert!(replies.iter().all(|reply| *reply == replies[0]), "{replies:?}");
    // Two polls, one connection per kind of submission, one for the session.
    assert!(server.activity().connections() <= 2 + 1 + 2 + 1, "{}", server.activity().connections());
}

#[test]
fn service_and_training_info_are_available() {
    let server = LocalServer::start().unwrap();
    let service = connect(&server);
    assert_eq!(service.health().unwrap().status, "ok");
    let models = service.get_server_capabilities().unwrap().supported_models;
    assert_eq!(models.iter().filter(|model| model.model_name.as_deref() == Some(BASE)).count(), 1);
    let trainer = service.create_lora_training_client(BASE, lora().rank(4)).unwrap();
    let info = trainer.get_info().unwrap();
    assert_eq!(info.model_id, trainer.model_id());
    assert_eq!((info.is_lora, info.lora_rank), (Some(true), Some(4)));
    assert_eq!(info.model_data.model_name.as_deref(), Some(BASE));
}

#[test]
fn unknown_key_is_not_retried() {
    let server = LocalServer::builder().api_key_check(|key| key == "tml-known").start().unwrap();
    let config = Config::builder().api_key("tml-unknown").base_url(server.base_url()).proxy(Proxy::Off);
    let error = ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(401)));
    assert!(error.hint().unwrap().contains("TINKER_API_KEY"), "{error}");
    assert!(error.is_user_error() && !error.is_retryable());
    let asked: Vec<_> = server.requests().iter().map(|request| request.path.clone()).collect();
    assert_eq!(asked, ["/api/v1/client/config", "/api/v1/create_session"]);
}

#[test]
fn an_unknown_model_is_not_found() {
    let server = LocalServer::start().unwrap();
    let service = connect(&server);
    let trainer = service.create_lora_training_client("no/such-model", lora()).unwrap_err();
    let sampler = service.create_sampling_client("no/such-model").unwrap_err();
    let weights = service.create_sampling_client("tinker://session-1:train:0/sampler_weights/none").unwrap_err();
    for error in [&trainer, &sampler, &weights] {
        assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(404)), "{error}");
        assert!(error.hint().is_some(), "{error}");
    }
    assert!(trainer.to_string().contains("no/such-model"), "{trainer}");
    // The session still works.
    service.create_lora_training_client(BASE, lora()).unwrap();
}

/// In real time: the client's timeout of 200 ms interrupts a poll on a socket.
#[test]
fn timeout_during_outage_leaves_other_calls_running() {
    let (model, gate) = Gated::new("test/gated");
    let server = LocalServer::builder().model(model).start().unwrap();
    let service = connect(&server);
    let trainer = service.create_lora_training_client("test/gated", lora()).unwrap();

    // The server promises both, and computes them only when the gate opens.
    let limited = trainer.with_timeout_operation(Some(Duration::from_millis(200)));
    let first = limited.submit_forward_backward(batch("abc"), LossFn::CrossEntropy).unwrap();
    let second = trainer.submit_optim_step(adam()).unwrap();
    assert!(server.wait_until(PATIENCE, |activity| activity.held_polls() == 2));
    server.pause().unwrap();
    // Submitted while the server does not listen.
    let third = trainer.submit_forward_backward(batch("abc"), LossFn::CrossEntropy).unwrap();
    let unlimited = thread::spawn({
        let trainer = trainer.clone();
        move || trainer.optim_step(adam())
    });

    let request_id = first.request_id().unwrap();
    let error = first.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Operation));
    assert_eq!(error.operation(), Some("forward_backward"));
    assert_eq!(error.request_id(), Some(&*request_id));
    assert!(error.may_have_taken_effect() && error.is_timeout());
    assert!(error.to_string().contains(&request_id) && error.to_string().contains("ServiceClient::pending"), "{error}");
    let none = service.with_timeout_operation(Some(Duration::from_millis(200))).health().unwrap_err();
    assert_eq!((none.kind(), none.operation()), (ErrorKind::Timeout(Limit::Operation), Some("health")));

    drop(gate);
    server.resume().unwrap();
    let asked_again = service.pending::<ForwardBackwardOutput>(&request_id, RequestKind::ForwardBackward);
    assert_eq!(loss(&asked_again.wait().unwrap()), 2.0);
    second.wait().unwrap();
    third.wait().unwrap();
    unlimited.join().unwrap().unwrap();
    assert_eq!(service.health().unwrap().status, "ok");
    let requests = training_requests(&server, &trainer);
    assert_numbered_from_one(&requests);
    assert_eq!(requests.len(), 4);
}

/// In real time: connections are refused at once, and the timeout ends the retries.
#[test]
fn unsent_call_leaves_no_sequence_gap() {
    let server = LocalServer::start().unwrap();
    let service = connect(&server);
    let trainer = service.create_lora_training_client(BASE, lora()).unwrap();
    trainer.optim_step(adam()).unwrap();
    server.pause().unwrap();
    let limited = trainer.with_timeout_operation(Some(Duration::from_millis(50)));
    let error = limited.forward_backward(batch("abc"), LossFn::CrossEntropy).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Operation));
    assert!(!error.may_have_taken_effect(), "{error}");
    assert_eq!(error.request_id(), None);
    server.resume().unwrap();
    trainer.forward_backward(batch("abc"), LossFn::CrossEntropy).unwrap();
    let requests = training_requests(&server, &trainer);
    assert_eq!(requests.iter().map(LoggedRequest::endpoint).collect::<Vec<_>>(), ["optim_step", "forward_backward"]);
    assert_numbered_from_one(&requests);
}

/// The loss after one step with these settings, from the same start.
fn loss_after(service: &ServiceClient, params: AdamParams) -> f64 {
    let trainer = service.create_lora_training_client(BASE, lora()).unwrap();
    trainer.forward_backward(batch(TEXT), LossFn::CrossEntropy).unwrap();
    trainer.optim_step(params).unwrap();
    loss(&trainer.forward(batch(TEXT), LossFn::CrossEntropy).unwrap())
}

#[test]
fn weight_decay_reaches_the_optimizer() {
    let server = LocalServer::start().unwrap();
    let service = connect(&server);
    let plain = loss_after(&service, adam());
    assert_eq!(loss_after(&service, adam().weight_decay(0.0)), plain);
    assert!((loss_after(&service, adam().weight_decay(10.0)) - plain).abs() > 1e-3);
}

#[test]
fn gradient_clipping_reaches_the_optimizer() {
    let server = LocalServer::start().unwrap();
    let service = connect(&server);
    // Adam divides by the gradient's own size; a large eps makes the step grow with the gradient.
    let params = adam().learning_rate(0.5).eps(1.0);
    let untrained = loss_after(&service, adam().learning_rate(0.0));
    let plain = loss_after(&service, params.clone());
    assert!((plain - untrained).abs() > 1e-3, "{plain} {untrained}");
    let clipped = loss_after(&service, params.grad_clip_norm(1e-6));
    assert!((clipped - untrained).abs() < 1e-4, "{clipped} {untrained}");
}

/// The service keeps a result after it was delivered.
#[test]
fn result_can_be_retrieved_again_by_id() {
    let server = LocalServer::start().unwrap();
    let service = connect(&server);
    let trainer = service.create_lora_training_client(BASE, lora()).unwrap();
    let pass = trainer.submit_forward_backward(batch(TEXT), LossFn::CrossEntropy).unwrap();
    pass.ready().recv_timeout(PATIENCE).unwrap();
    let id = pass.request_id().unwrap();
    let first = pass.wait().unwrap();
    let again = service.pending::<ForwardBackwardOutput>(&id, RequestKind::ForwardBackward).wait().unwrap();
    assert_eq!(first, again);
    let unknown = service.pending::<OptimStepResponse>("no-such-promise", RequestKind::OptimStep).wait().unwrap_err();
    assert_eq!((unknown.status(), unknown.request_id()), (Some(404), Some("no-such-promise")));
}
