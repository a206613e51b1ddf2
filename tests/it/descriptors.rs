//! More calls at once than the process has descriptors for.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{env, thread};

use tinkex::clock::Clock;
use tinkex::types::{ModelInput, SamplingParams};
use tinkex::{Config, Proxy, ServiceClient};

use crate::support::{Gate, Reply, Service, healthy_service};

/// Set in the process with few descriptors: the base URL.
const URL: &str = "TINKEX_TEST_CROWD";

const DESCRIPTORS: usize = 64;
const THREADS: usize = 200;

/// Samples on many threads at once, and again when all have their results; then leaves the connections alone.
fn sample(url: String) {
    let config = Config::builder().api_key("tml-k").base_url(url).proxy(Proxy::Off);
    let service = ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap();
    let sampler = service.create_sampling_client("base").unwrap();
    let (prompt, params) = (ModelInput::from_tokens(vec![1, 2, 3]), SamplingParams::default().max_tokens(1));
    for _ in 0..2 {
        thread::scope(|scope| {
            let calls = [(); THREADS].map(|()| scope.spawn(|| sampler.sample(&prompt, 1, &params)));
            for call in calls {
                call.join().unwrap().unwrap();
            }
        });
    }
}

/// In a process with few descriptors, each sample gets its result, though the service holds all polls of a round until the last
/// sample of the round is submitted: neither polls nor idle connections may keep the descriptors.
#[test]
fn two_hundred_samples_share_sixty_four_descriptors() {
    if let Ok(url) = env::var(URL) {
        return sample(url);
    }
    let (submitted, gates) = (AtomicUsize::new(0), [(); 2].map(|()| Arc::new(Gate::default())));
    let service = Service::start(move |request| match request.path.as_str() {
        "asample" => {
            let number = submitted.fetch_add(1, Ordering::Relaxed);
            if (number + 1) % THREADS == 0 {
                gates[number / THREADS].open();
            }
            healthy_service(request)
        }
        "retrieve_future" if request.request_id().starts_with("asample") => {
            let round = submitted.load(Ordering::Relaxed).saturating_sub(1) / THREADS;
            Reply::held(&gates[round], healthy_service(request))
        }
        _ => healthy_service(request),
    });
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {DESCRIPTORS} && exec \"$0\" \"$@\"")]).arg(env::current_exe().unwrap());
    command.args(["--exact", "descriptors::two_hundred_samples_share_sixty_four_descriptors", "--nocapture"]);
    let began = Clock::system().now();
    let output = command.env(URL, service.url()).output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let took = Clock::system().now() - began;
    assert!(took < Duration::from_secs(60), "it took {took:?}");
    assert_eq!(service.requests_to("asample").len(), 2 * THREADS);
}
