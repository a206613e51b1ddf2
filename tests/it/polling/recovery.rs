//! After an outage nothing waits any longer: results come at once.

use std::sync::atomic::AtomicBool;

use serde_json::Value;
use tinkex::types::{ModelInput, SamplingParams};

use super::*;
use crate::support::service_with_settings;

/// Longer than anything in these tests takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longer than any wait in these tests.
const QUIET: Duration = Duration::from_secs(24 * 3600);

struct Outage {
    service: Service,
    manual: ManualClock,
    is_down: Arc<AtomicBool>,
}

impl Outage {
    /// A service whose polls get this reply while it is down.
    fn with(reply: fn() -> Reply) -> Self {
        let is_down = Arc::new(AtomicBool::new(true));
        let down = Arc::clone(&is_down);
        let service =
            service_with_settings(json!({"sample_use_retrieve_futures": true}), move |request| match &*request.path {
                "retrieve_future" | "retrieve_futures" if down.load(Ordering::SeqCst) => reply(),
                "retrieve_futures" => {
                    let completion = json!({"state": "finished", "request_id": "asample:sampler-0:0"});
                    Reply::ok(json!({"completions": [completion], "cursor": 1}))
                }
                _ => healthy_service(request),
            });
        Outage { service, manual: ManualClock::new(), is_down }
    }

    fn client(&self) -> ServiceClient {
        connect(self.service.manual_config(&self.manual).idle_retention(QUIET))
    }

    /// Lets time pass until the next poll is more than 6 s away.
    fn pass(&self) {
        let mut next = Duration::ZERO;
        while next < 6 * SECOND {
            self.manual.until_waiting(|waits| {
                next = waits.first().copied().unwrap_or_default();
                !next.is_zero() && next < 60 * SECOND
            });
            if next < 6 * SECOND {
                self.manual.advance(next);
            }
        }
    }

    fn ends(&self) {
        self.is_down.store(false, Ordering::SeqCst);
    }
}

fn steps(client: &ServiceClient) -> Vec<Pending<Value>> {
    (0..3).map(|number| client.pending(&format!("optim_step:m:{number}"), RequestKind::OptimStep)).collect()
}

fn is_ready<T>(pending: &Pending<T>) -> bool {
    pending.ready().recv_timeout(PATIENCE).is_ok()
}

#[test]
fn any_success_after_an_outage_brings_results() {
    let kinds: [fn() -> Reply; 2] = [|| Reply::Json(503, json!({})), || Reply::Close];
    for down in kinds {
        let outage = Outage::with(down);
        let client = outage.client();
        let steps = steps(&client);
        outage.pass();
        outage.ends();
        client.health().unwrap();
        assert!(steps.iter().all(is_ready), "the clock stands still");
    }
}

#[test]
fn one_result_after_an_outage_brings_the_others() {
    let outage = Outage::with(|| Reply::Json(503, json!({})));
    let client = outage.client();
    let steps = steps(&client);
    outage.pass();
    outage.ends();
    let new: Pending<Value> = client.pending("optim_step:m:9", RequestKind::OptimStep);
    assert!(is_ready(&new) && steps.iter().all(is_ready), "the clock stands still");
}

#[test]
fn samples_polled_together_come_after_an_outage() {
    let outage = Outage::with(|| Reply::Json(503, json!({})));
    let client = outage.client();
    let sampler = client.create_sampling_client("base").unwrap();
    let sample = sampler.submit_sample(&ModelInput::from_tokens([1]), 1, &SamplingParams::default()).unwrap();
    outage.pass();
    outage.ends();
    client.health().unwrap();
    assert!(is_ready(&sample), "the clock stands still");
}

#[test]
fn another_success_pays_no_bill() {
    let is_paid = Arc::new(AtomicBool::new(false));
    let paid = Arc::clone(&is_paid);
    let service = service_with_polls(move |request| match request.request_id() {
        id if paid.load(Ordering::SeqCst) => result(id),
        "optim_step:m:1" => Reply::Json(503, json!({})),
        _ => Reply::Json(402, json!({"detail": "pay"})),
    });
    let outage = Outage { service, manual: ManualClock::new(), is_down: Arc::default() };
    let client = outage.client();
    let failing: Pending<Value> = client.pending("optim_step:m:1", RequestKind::OptimStep);
    outage.pass();
    let unpaid: Pending<Value> = client.pending("optim_step:m:2", RequestKind::OptimStep);
    outage.manual.until_waiting(|waits| waits.contains(&(5 * SECOND)));
    let polls = || outage.service.requests_to("retrieve_future").len();
    let before = polls();
    client.health().unwrap();
    outage.manual.advance(4 * SECOND);
    outage.manual.until_waiting(|waits| waits.contains(&SECOND));
    is_paid.store(true, Ordering::SeqCst);
    outage.manual.advance(SECOND);
    assert!(is_ready(&unpaid) && is_ready(&failing));
    assert_eq!(polls(), before + 2, "none while the bill was unpaid");
}

#[test]
fn a_promise_that_alone_fails_is_not_hurried() {
    let outage = Outage::with(|| Reply::Json(503, json!({})));
    let client = outage.client();
    let step: Pending<Value> = client.pending("optim_step:m:1", RequestKind::OptimStep);
    // Others succeed more often than every 2 s, until there are six polls.
    let mut passed = Duration::ZERO;
    while outage.service.requests_to("retrieve_future").len() < 6 {
        let mut next = Duration::ZERO;
        outage.manual.until_waiting(|waits| {
            next = waits.first().copied().unwrap_or_default();
            next <= SECOND * 10
        });
        client.health().unwrap();
        let step = next.min(SECOND / 4);
        outage.manual.advance(step);
        passed += step;
    }
    // The shortest that the waits between them may be: 0.375, 0.75, 1.5, 3 and 6 s.
    assert!(passed >= Duration::from_millis(11_625), "{passed:?}");
    drop(step);
}

#[test]
fn a_client_goes_on_after_a_suspension() {
    let gate = Arc::<Gate>::default();
    let held = Arc::clone(&gate);
    let service = service_with_polls(move |request| match request.request_id() {
        "optim_step:model-0:1" => Reply::held(&held, result(request.request_id())),
        id => result(id),
    });
    let manual = ManualClock::new();
    let client = connect(service.config().clock(manual.clock()));
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let step = trainer.submit_optim_step(AdamParams::default()).unwrap();
    service.wait_until(|requests| requests.iter().any(|request| request.request_id() == "optim_step:model-0:1"));
    // The first heartbeat.
    manual.until_waiting(|waits| waits.contains(&(10 * SECOND)));
    // The lid is closed for a night: every wait is over, and the wall clock has jumped.
    manual.advance(8 * 3600 * SECOND);
    service.wait_for_count("session_heartbeat", 1);
    gate.open();
    step.wait().unwrap();
    trainer.optim_step(AdamParams::default()).unwrap();
    assert_eq!(
        service.requests_to("optim_step").iter().map(|step| step.seq_id()).collect::<Vec<_>>(),
        [Some(1), Some(2)]
    );
}
