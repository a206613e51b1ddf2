//! Submissions, samples and other requests.

use std::net::TcpListener;
use std::thread;

use tinkex::types::{AdamParams, LoraConfig, ModelInput, SamplingParams};
use tinkex::{RestClient, WaitKind};

use super::*;
use crate::support::{Gate, connect};

#[test]
fn a_refused_submission_is_said_until_accepted() {
    let scene = Scene::refusing("create_model", 503);
    let client = connect(scene.config());
    let calling = thread::spawn(move || client.create_lora_training_client("base", LoraConfig::default()).map(drop));
    scene.past([1000..=1000, 2000..=2000, 4000..=4000]);
    scene.midway(8000, 3 * SECOND);
    let waiting = scene.waiting();
    assert_eq!(
        waiting.to_string(),
        "create_lora_training_client: waiting for 10 s: 503 no GPU free, 4 tries; \
         continues for up to 290 s (timeout_submit)"
    );
    assert_eq!((waiting.kind, waiting.status, waiting.calls), (WaitKind::Submission, Some(503), 1));
    // Not again before a minute has passed: at 15, 31 and 61 s nothing is said.
    scene.past([5000..=5000, 16_000..=16_000, 30_000..=30_000]);
    scene.midway(30_000, 9 * SECOND);
    let waiting = scene.waiting();
    assert_eq!((waiting.waited, waiting.tries, waiting.limit), (70 * SECOND, 7, left(230, "timeout_submit")));
    scene.recover_before_next();
    calling.join().unwrap().unwrap();
    let ended = scene.ended();
    assert_eq!(ended.to_string(), "create_lora_training_client: no longer waiting, after 91 s");
    assert!(scene.said.is_empty());
}

#[test]
fn every_status_that_is_retried_is_said() {
    for status in [429, 500, 502, 503, 529] {
        let scene = Scene::refusing("optim_step", status);
        let trainer = connect(scene.config()).create_lora_training_client("base", LoraConfig::default()).unwrap();
        let step = trainer.submit_optim_step(AdamParams::default()).unwrap();
        scene.past([1000..=1000, 2000..=2000, 4000..=4000]);
        scene.midway(8000, 3 * SECOND);
        let waiting = scene.waiting();
        assert_eq!((&*waiting.reason, waiting.operation), (&*format!("{status} no GPU free"), "optim_step"));
        drop(step);
    }
}

#[test]
fn a_lost_connection_is_said() {
    let scene = Scene::with(1, |request, status| (request.path == "optim_step" && status == 1).then_some(Reply::Close));
    let trainer = connect(scene.config()).create_lora_training_client("base", LoraConfig::default()).unwrap();
    let step = trainer.submit_optim_step(AdamParams::default()).unwrap();
    scene.past([1000..=1000, 2000..=2000, 4000..=4000]);
    scene.midway(8000, 3 * SECOND);
    let waiting = scene.waiting();
    assert!(waiting.reason.contains("connection was lost") && waiting.status.is_none(), "{waiting}");
    scene.recover();
    scene.past([5000..=5000]);
    step.wait().unwrap();
    assert_eq!(scene.ended().waited, 15 * SECOND);
}

#[test]
fn a_refused_connection_is_one_word() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let scene = Scene::refusing("none", 200);
    let config = scene.config().base_url(format!("http://{closed}")).max_retries(4).retry_base(8 * SECOND);
    let rest = RestClient::new(config.build_with(|_| None).unwrap()).unwrap();
    let asking = thread::spawn(move || rest.get_training_run("run").map(drop));
    scene.past([6000..=8000, 7500..=10_000]);
    assert_eq!(*scene.waiting().reason, format!("cannot connect to http://{closed}: refused"));
    scene.past([7500..=10_000, 7500..=10_000]);
    let error = asking.join().unwrap().unwrap_err();
    assert!(
        error.message().starts_with(&format!("cannot connect to http://{closed}: refused, 5 tries in ")),
        "{error}"
    );
}

#[test]
fn a_service_that_does_not_respond_is_said() {
    let scene = Scene::with(1, |request, _| (request.path == "healthz").then_some(Reply::Silence));
    let client = connect(scene.config());
    let asks = client.clone();
    let asking = thread::spawn(move || asks.health().map(drop));
    scene.service.wait_for_count("healthz", 1);
    scene.manual.advance(10 * SECOND);
    let waiting = scene.waiting();
    assert_eq!((waiting.operation, &*waiting.reason, waiting.tries), ("health", "no response yet", 0));
    client.close(PATIENCE);
    asking.join().unwrap().unwrap_err();
}

#[test]
fn other_requests_say_when_they_give_up() {
    let scene = Scene::refusing("training_runs/run", 503);
    let rest =
        RestClient::new(scene.config().max_retries(4).retry_base(8 * SECOND).build_with(|_| None).unwrap()).unwrap();
    let asking = thread::spawn(move || rest.get_training_run("run").map(drop));
    scene.past([6000..=8000, 7500..=10_000]);
    let waiting = scene.waiting();
    assert_eq!((waiting.kind, &*waiting.reason), (WaitKind::Request, "503 no GPU free"));
    assert_eq!(waiting.limit.to_string(), "gives up after 5 tries (max_retries)");
    scene.recover_before_next();
    asking.join().unwrap().unwrap_err();
    assert_eq!(scene.ended().kind, WaitKind::Request);
}

#[test]
fn many_refused_samples_have_one_line() {
    let scene = Scene::refusing("asample", 429);
    let client = connect(scene.config().api_key("tml-many-refused"));
    let sampler = client.create_sampling_client("base").unwrap();
    let prompt = ModelInput::from_tokens([1]);
    let samples: Vec<_> =
        (0..20).map(|_| sampler.submit_sample(&prompt, 1, &SamplingParams::default()).unwrap()).collect();
    let mut waiting = None;
    while waiting.is_none() {
        scene.manual.until_waiting(|waits| waits.first().is_some_and(|wait| *wait <= 2 * SECOND));
        scene.manual.advance(SECOND);
        waiting = scene.said.try_recv().ok();
    }
    let Some(Event::Waiting(waiting)) = waiting else { panic!("{waiting:?}") };
    assert_eq!((waiting.kind, &*waiting.reason, waiting.operation), (WaitKind::Sample, "429 no GPU free", "sample"));
    assert!(waiting.calls > 1 && waiting.waited < 12 * SECOND, "{waiting}");
    assert_eq!(waiting.limit, WaitLimit::None);
    drop(samples);
    assert!(scene.said.try_iter().all(|event| matches!(event, Event::WaitEnded(_))));
}

#[test]
fn the_clients_own_limits_are_said() {
    let scene = Scene::with(1, |request, _| (request.path == "asample").then_some(Reply::Silence));
    let limited = || connect(scene.config().api_key("tml-own-limits").max_sampling_in_flight(1));
    let (prompt, params) = (ModelInput::from_tokens([1]), SamplingParams::default());
    let (first, second) = (limited(), limited().with_timeout_operation(Some(3600 * SECOND)));
    let sent = first.create_sampling_client("base").unwrap().submit_sample(&prompt, 1, &params).unwrap();
    scene.service.wait_for_count("asample", 1);
    let queued = second.create_sampling_client("base").unwrap();
    let sampling = thread::spawn(move || queued.sample(&prompt, 1, &params).map(drop));
    scene.manual.until_waiting(|waits| waits.contains(&(3600 * SECOND)));
    scene.manual.advance(10 * SECOND);
    let said = [scene.waiting(), scene.waiting()].map(|waiting| waiting.reason.to_string());
    assert!(said.contains(&"the client's own limits of sampling".to_owned()), "{said:?}");
    second.close(PATIENCE);
    sampling.join().unwrap().unwrap_err();
    drop(sent);
}

#[test]
fn a_close_that_takes_long_is_said() {
    let (scene, told) = (Scene::refusing("nothing", 200), Arc::<Gate>::default());
    let held = Arc::clone(&told);
    let service = Service::start_current(move |request| match &*request.path {
        "client/config" | "client/dynamic_config" => Reply::ok(json!({})),
        path if path.ends_with("/finish") => Reply::held(&held, Reply::no_content()),
        _ => healthy_service(request),
    });
    let client = connect(scene.config().base_url(service.url()));
    let closing = thread::spawn(move || client.close(3600 * SECOND));
    service.wait_until(|requests| requests.iter().any(|request| request.path.ends_with("/finish")));
    scene.manual.advance(10 * SECOND);
    let waiting = scene.waiting();
    assert_eq!((waiting.kind, waiting.limit), (WaitKind::Close, left(3590, "the time limit of the close")));
    told.open();
    closing.join().unwrap();
}
