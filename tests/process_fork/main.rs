//! What a client does in a fork of the process that connected. Forking copies only the thread that forks, so the tests of this binary
//! run one after the other.
#![cfg(unix)]
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a failing test panics, and its helpers are not an API")]

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use std::{fs, process};

use crossbeam_channel::bounded;
use fork::{Fork, fork, waitpid};
use serde_json::json;
use support::{Gate, RecordedRequest, Reply, Service, batch, healthy_service};
use tinkex::types::{
    AdamParams, LoraConfig, LossFn, ModelInput, OptimStepResponse, RequestKind, SampleResponse, SamplingParams,
    Severity,
};
use tinkex::{ConfigBuilder, Error, ErrorKind, Pending, SamplingClient, ServiceClient, TrainingClient};

/// After this long a fork counts as hung.
const HANG: Duration = Duration::from_secs(30);

/// A timeout that no fork may reach.
const FAR: Duration = Duration::from_secs(3600);

fn one_at_a_time() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs this in a fork, and returns what it returned there.
fn in_fork(run: impl FnOnce() -> Vec<String>) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output.json");
    let child = match fork().unwrap() {
        Fork::Parent(child) => child,
        Fork::Child => {
            let lines = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
                vec![format!("panicked: {:?}", panic.downcast_ref::<String>().map(String::as_str))]
            });
            let written = fs::write(output, serde_json::to_vec(&lines).unwrap_or_default());
            process::exit(i32::from(written.is_err()))
        }
    };
    let (done, is_done) = bounded(1);
    let waiter = thread::spawn(move || done.send(waitpid(child)).ok());
    let status = is_done.recv_timeout(HANG);
    if status.is_err() {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    waiter.join().unwrap();
    status.expect("the fork hangs").unwrap();
    serde_json::from_slice(&fs::read(output).unwrap()).unwrap()
}

fn config(service: &Service) -> ConfigBuilder {
    service.config().timeout_drop(FAR).telemetry(true)
}

fn connect(config: ConfigBuilder) -> ServiceClient {
    ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap()
}

fn prompt() -> ModelInput {
    ModelInput::from_tokens([1, 2, 3])
}

fn params() -> SamplingParams {
    SamplingParams::default().max_tokens(1)
}

/// All clients of a session, and some results that are not there yet.
struct Clients {
    service: ServiceClient,
    trainer: TrainingClient,
    sampler: SamplingClient,
    pending: Vec<Pending<SampleResponse>>,
}

impl Clients {
    fn connect(config: ConfigBuilder) -> Self {
        let service = connect(config);
        let trainer = service.create_lora_training_client("base", LoraConfig::default()).unwrap();
        let sampler = service.create_sampling_client("base").unwrap();
        let pending = (0..6).map(|_| sampler.submit_sample(&prompt(), 1, &params()).unwrap()).collect();
        Clients { service, trainer, sampler, pending }
    }

    /// The error of each call.
    fn use_all(self) -> Vec<String> {
        let Clients { service, trainer, sampler, mut pending } = self;
        let mut lines = Vec::new();
        let mut failed = |name: &str, error: Option<Error>| {
            lines.push(match error {
                Some(error) if error.kind() == ErrorKind::Closed => format!("{name}: {error}"),
                other => format!("{name}: no such error, but {other:?}"),
            });
        };
        macro_rules! calls {
            ($($call:expr),* $(,)?) => { $(failed(stringify!($call), $call.err());)* };
        }
        let (rest, api) = (service.create_rest_client(), service.api());
        let folder = tempfile::tempdir().unwrap();
        calls!(
            trainer.forward(batch(), LossFn::CrossEntropy),
            trainer.submit_forward_backward(batch(), LossFn::CrossEntropy),
            trainer.optim_step(AdamParams::default()),
            trainer.submit_optim_step(AdamParams::default()),
            trainer.save_state("a"),
            trainer.save_weights_for_sampler("a"),
            trainer.save_weights_and_get_sampling_client(),
            trainer.load_state("tinker://run/weights/a"),
            trainer.get_info(),
            trainer.tokenizer(),
            trainer.unload_model(),
            sampler.sample(&prompt(), 1, &params()),
            sampler.submit_sample(&prompt(), 1, &params()),
            sampler.compute_logprobs(&prompt()),
            service.health(),
            service.get_server_capabilities(),
            service.create_lora_training_client("base", LoraConfig::default()),
            service.training_client().lora("base").submit(),
            service.training_client().from_state("tinker://run/weights/a").submit(),
            service.create_sampling_client("base"),
            service.pending::<OptimStepResponse>("r-1", RequestKind::OptimStep).wait(),
            rest.list_training_runs(10, 0),
            rest.training_runs().next().unwrap(),
            rest.download_checkpoint_archive_from_tinker_path("tinker://run/weights/a", folder.path().join("new")),
            api.get("healthz").send(),
        );
        #[cfg(feature = "ndarray")]
        calls!(trainer.forward_backward_custom(batch(), |_, _| Ok::<_, Error>(tinkex::CustomLoss::default())));
        let sample = pending.remove(0);
        assert!(sample.is_ready() && sample.request_id().is_none() && tinkex::wait_any(&pending) == Some(0));
        sample.ready().recv().unwrap_err();
        calls!(
            sample.wait_timeout(FAR).unwrap(),
            sample.try_get().unwrap(),
            sample.wait(),
            tinkex::wait_all(pending.drain(2..)),
            tinkex::as_completed(pending.drain(1..)).next().unwrap().1,
        );
        pending.remove(0).cancel();
        let telemetry = service.telemetry();
        assert!(!telemetry.is_on(), "telemetry is on");
        telemetry.log("event", json!({}), Severity::Info);
        telemetry.flush();
        service.close(FAR);
        drop((pending, trainer, sampler, rest, api, service));
        lines.push("dropped".to_owned());
        lines
    }
}

/// Accepts samples, and has no results for them until the gate opens.
fn without_samples(gate: &Arc<Gate>) -> impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static {
    let gate = Arc::clone(gate);
    move |request| match &*request.path {
        "retrieve_future" if request.request_id().starts_with("asample") => {
            Reply::Held(Arc::clone(&gate), Box::new(healthy_service(request)))
        }
        _ => healthy_service(request),
    }
}

#[test]
fn a_fork_fails_every_call_and_harms_nothing() {
    let _alone = one_at_a_time();
    let gate = Arc::<Gate>::default();
    let service = Service::start_current(without_samples(&gate));
    let clients = Clients::connect(config(&service));
    service.wait_for_count("asample", 6);
    clients.service.health().unwrap();
    let before = service.requests().len();

    let mut clients = Some(clients);
    let lines = in_fork(|| clients.take().unwrap().use_all());
    let (last, calls) = lines.split_last().unwrap();
    assert_eq!(last, "dropped", "{lines:#?}");
    assert!(calls.len() >= 30, "{lines:#?}");
    let own = format!("process {}", process::id());
    for call in calls {
        assert!(call.contains(&own) && call.contains("fork") && call.contains("ServiceClient::connect"), "{call}");
    }
    let Clients { service: client, trainer, pending, .. } = clients.take().unwrap();
    let new = service.requests().split_off(before);
    let of_the_fork =
        new.iter().find(|request| !matches!(&*request.path, "retrieve_future" | "session_heartbeat" | "telemetry"));
    assert!(of_the_fork.is_none(), "{of_the_fork:?}");

    // The connections, the session and telemetry of this process work as before.
    client.health().unwrap();
    let checks: Vec<_> = service.requests_to("healthz").iter().map(|request| request.connection).collect();
    assert!(checks.len() == 2 && checks[0] == checks[1], "the connection was lost: {checks:?}");
    trainer.forward(batch(), LossFn::CrossEntropy).unwrap();
    gate.open();
    assert_eq!(tinkex::wait_all(pending).unwrap().len(), 6);
    assert!(client.telemetry().is_on());
    client.telemetry().log("event", json!({}), Severity::Info);
    drop(trainer);
    client.close(HANG);
    let ended = service.requests().iter().filter(|request| request.path.ends_with("/finish")).count();
    assert_eq!(ended, 1, "by this process");
    let reported: Vec<_> =
        service.requests_to("telemetry").iter().map(|request| request.body["events"].to_string()).collect();
    let of = |kind: &str| reported.iter().map(|events| events.matches(kind).count()).sum::<usize>();
    assert_eq!((of("SESSION_START"), of("SESSION_END")), (1, 1), "{reported:?}");
}

#[test]
fn a_client_of_the_fork_is_independent() {
    let _alone = one_at_a_time();
    let gate = Arc::<Gate>::default();
    let (held, samples) = (Arc::clone(&gate), AtomicUsize::new(0));
    let service = Service::start(move |request| match &*request.path {
        // The first submission stays in flight, with the only permit of its process.
        "asample" if samples.fetch_add(1, Ordering::SeqCst) == 0 => {
            Reply::Held(Arc::clone(&held), Box::new(healthy_service(request)))
        }
        _ => healthy_service(request),
    });
    let config = || config(&service).max_sampling_in_flight(1);
    let client = connect(config());
    let sampler = client.create_sampling_client("base").unwrap();
    let pending = sampler.submit_sample(&prompt(), 1, &params()).unwrap();
    service.wait_for_count("asample", 1);

    let mut old = Some((client, sampler));
    let lines = in_fork(|| {
        let client = connect(config());
        // Its threads get the memory of the old ones.
        drop(old.take());
        let sampler = client.create_sampling_client("base").unwrap();
        let reply = sampler.sample(&prompt(), 1, &params()).unwrap();
        drop(sampler);
        client.close(HANG);
        vec![format!("{} sequence", reply.sequences.len())]
    });
    assert_eq!(lines, ["1 sequence"]);
    connect(config()).health().unwrap();
    let keys: Vec<_> = service
        .requests()
        .iter()
        .filter(|request| request.path == "create_session")
        .map(|request| request.header("x-idempotency-key").unwrap().to_owned())
        .collect();
    assert_eq!(keys.len(), 3);
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), 3, "both processes draw other keys: {keys:?}");
    gate.open();
    pending.wait().unwrap();
}

#[test]
fn a_fork_keeps_no_connection_alive() {
    let _alone = one_at_a_time();
    let service = Service::start(healthy_service);
    let client = connect(config(&service));
    client.health().unwrap();
    let (own, mut of_child) = UnixStream::pair().unwrap();
    let child = match fork().unwrap() {
        Fork::Parent(child) => child,
        Fork::Child => {
            // Until the parent lets it go.
            drop(own);
            process::exit(of_child.read(&mut [0]).map_or(1, |_| 0))
        }
    };
    drop(of_child);
    client.close(HANG);
    service.wait_for_no_connection();
    drop(own);
    waitpid(child).unwrap();
}

#[cfg(feature = "local")]
#[test]
fn a_local_server_outlives_its_fork() {
    let _alone = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let start = || tinkex::local::LocalServer::builder().data_dir(folder.path()).start();
    let server = start().unwrap();
    let mut copy = Some(&server);
    let lines = in_fork(|| {
        let error = copy.take().unwrap().pause().unwrap_err();
        vec![format!("{error:?}")]
    });
    assert!(lines[0].contains("fork"), "{lines:?}");
    let mut server = Some(server);
    assert_eq!(
        in_fork(|| {
            drop(server.take());
            vec!["dropped".to_owned()]
        }),
        ["dropped"]
    );
    start().expect_err("the directory is still locked");
    let config = tinkex::Config::builder().api_key("tml-local").base_url(server.as_ref().unwrap().base_url());
    ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap().health().unwrap();
}
