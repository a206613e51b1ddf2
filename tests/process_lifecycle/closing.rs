//! Every call is ended by a close, at each of its requests, and refused after it.

use std::sync::atomic::{AtomicUsize, Ordering};

use tinkex::{RestClient, Result, SamplingClient};

use super::support::each_at_once;
use super::*;

struct Parts {
    client: ServiceClient,
    trainer: TrainingClient,
    sampler: SamplingClient,
    rest: RestClient,
}

type Call = (&'static str, fn(&Parts) -> Result<()>);

const STATE: &str = "tinker://run/weights/a";

const CALLS: [Call; 24] = [
    ("health", |parts| parts.client.health().map(drop)),
    ("get_server_capabilities", |parts| parts.client.get_server_capabilities().map(drop)),
    ("api", |parts| parts.client.api().get("/api/v1/any").send().map(drop)),
    ("create_lora_training_client", |parts| {
        parts.client.create_lora_training_client("base", LoraConfig::default()).map(drop)
    }),
    ("create_training_client_from_state", |parts| parts.client.create_training_client_from_state(STATE).map(drop)),
    ("create_sampling_client", |parts| parts.client.create_sampling_client("base").map(drop)),
    ("forward", |parts| parts.trainer.forward(batch(), LossFn::CrossEntropy).map(drop)),
    ("forward_backward", |parts| parts.trainer.forward_backward(batch(), LossFn::CrossEntropy).map(drop)),
    ("optim_step", |parts| parts.trainer.optim_step(adam()).map(drop)),
    ("several at once", |parts| {
        let pass = parts.trainer.submit_forward_backward(batch(), LossFn::CrossEntropy)?;
        let step = parts.trainer.submit_optim_step(adam())?;
        let reply = parts.sampler.submit_sample(&prompt(), 1, &params())?;
        pass.wait().map(drop).and(step.wait().map(drop)).and(reply.wait().map(drop))
    }),
    ("save_state", |parts| parts.trainer.save_state("a").map(drop)),
    ("load_state", |parts| parts.trainer.load_state(STATE).map(drop)),
    ("load_state_with_optimizer", |parts| parts.trainer.load_state_with_optimizer(STATE).map(drop)),
    ("save_weights_for_sampler", |parts| parts.trainer.save_weights_for_sampler("a").map(drop)),
    ("save_weights_and_get_sampling_client", |parts| parts.trainer.save_weights_and_get_sampling_client().map(drop)),
    ("get_info", |parts| parts.trainer.get_info().map(drop)),
    ("unload_model", |parts| parts.trainer.unload_model().map(drop)),
    ("sample", |parts| parts.sampler.sample(&prompt(), 1, &params()).map(drop)),
    ("compute_logprobs", |parts| parts.sampler.compute_logprobs(&prompt()).map(drop)),
    ("list_training_runs", |parts| parts.rest.list_training_runs(5, 0).map(drop)),
    ("get_training_run", |parts| parts.rest.get_training_run("run").map(drop)),
    ("delete_checkpoint", |parts| parts.rest.delete_checkpoint_from_tinker_path(STATE).map(drop)),
    ("get_checkpoint_archive_url", |parts| parts.rest.get_checkpoint_archive_url("run", "weights/a").map(drop)),
    ("download_checkpoint_archive", |parts| {
        let folder = tempfile::tempdir().unwrap();
        let result = parts.rest.download_checkpoint_archive("run", "weights/a", folder.path().join("out"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something stays");
        result.map(drop)
    }),
];

type Hold = (&'static str, fn() -> Reply);

/// What keeps a request from its response.
const HOLDS: [Hold; 4] = [
    ("silence", || Reply::Silence),
    ("half of a response", || Reply::Stall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec())),
    ("503", || Reply::with_headers(503, &[("retry-after-ms", "33000")], &json!({}))),
    ("429", || Reply::with_headers(429, &[("retry-after-ms", "33000")], &json!({}))),
];

/// A client, whose service holds the request with this number in this way, of those that come after `arm`.
struct Scene {
    service: Service,
    parts: Parts,
    left: Arc<AtomicUsize>,
}

/// No request is held.
const UNARMED: usize = usize::MAX / 2;

impl Scene {
    fn start(hold: fn() -> Reply) -> Self {
        let left = Arc::new(AtomicUsize::new(UNARMED));
        let counter = Arc::clone(&left);
        let service = Service::start(move |request| {
            if counter.fetch_sub(1, Ordering::SeqCst) == 0 {
                return hold();
            }
            match &*request.path {
                path if path.ends_with("/archive") => {
                    let location = format!("http://{}/api/v1/archive.tar", request.header("host").unwrap());
                    Reply::with_headers(302, &[("location", &location)], &json!({}))
                }
                "weights_info" => Reply::ok(json!({"base_model": "base", "is_lora": true, "lora_rank": 4})),
                _ => healthy_service(request),
            }
        });
        let client = connect(service.config());
        let (trainer, sampler) = (train(&client), client.create_sampling_client("base").unwrap());
        let rest = client.create_rest_client();
        Scene { service, parts: Parts { client, trainer, sampler, rest }, left }
    }
}

/// How many requests a call makes.
fn requests_of((name, call): Call) -> usize {
    let scene = Scene::start(|| Reply::Silence);
    let before = scene.service.requests().len();
    let ended = call(&scene.parts);
    let after = scene.service.requests().len();
    // What the double does not know is a response of another shape.
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == ErrorKind::Decode), "{name}");
    after - before
}

fn closed_at((name, call): Call, number: usize, (how, hold): Hold) {
    let what = format!("{name}, request {number}: {how}");
    let Scene { service, parts, left } = Scene::start(hold);
    let before = service.requests().len();
    left.store(number, Ordering::SeqCst);
    let (client, parts) = (parts.client.clone(), Arc::new(parts));
    let again = Arc::clone(&parts);
    let (done, result) = bounded(1);
    thread::spawn(move || done.send(call(&parts)).ok());
    service.wait_until(|requests| requests.len() > before + number);
    promptly(move || client.close(FAR));
    let error = result.recv_timeout(HANG).unwrap_or_else(|_| panic!("{what}: it is stuck")).unwrap_err();
    let is_final = error.status().is_some() && !matches!(how, "silence" | "half of a response");
    assert!(error.kind() == ErrorKind::Closed || is_final, "{what}: {error:?}");
    service.wait_for_no_connection();
    let before = service.requests().len();
    let error = promptly(move || call(&again)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{what}, again: {error}");
    assert!(error.to_string().contains("closed") && !error.may_have_taken_effect(), "{what}, again: {error}");
    assert_eq!(service.requests().len(), before, "{what}");
}

#[test]
fn a_close_ends_and_refuses_every_call() {
    let cells = CALLS.into_iter().flat_map(|call| {
        let count = requests_of(call);
        assert!(count > 0, "{} makes no request", call.0);
        (0..count).flat_map(move |number| HOLDS.map(|hold| (call, number, hold)))
    });
    each_at_once(12, cells.collect::<Vec<_>>(), |(call, number, hold)| closed_at(call, number, hold));
}
