//! Many samples at once, over few threads and connections.

use super::*;

/// How long a promise that someone waits for keeps a poll connection that others want.
const SLICE: Duration = Duration::from_secs(2);

fn connections(service: &Service, of: impl Fn(&RecordedRequest) -> bool) -> HashSet<usize> {
    service.requests().iter().filter(|request| of(request)).map(|request| request.connection).collect()
}

#[test]
fn submitted_samples_share_threads_and_connections() {
    let (service, crowd) = crowd();
    let sampler = sampler(service.config().max_sampling_threads(5).max_poll_connections(8));
    let pending: Vec<_> = (0..300).map(|call| submit(&sampler, call)).collect();
    service.wait_for_count("asample", 5);
    crowd.submit.open();
    service.wait_for_count("asample", 300);
    service.wait_until(|requests| requests.iter().filter(|request| is_sample(request)).count() >= 8);
    crowd.poll.open();
    let numbers: Vec<_> = pending.iter().map(ready).collect();
    none_lost_none_doubled(&service, &numbers);
    assert!(crowd.submissions.most() <= 5 && crowd.polls.most() <= 8);
    let (submit, poll) = (connections(&service, |request| request.path == "asample"), connections(&service, is_sample));
    assert_eq!((submit.len(), poll.len()), (5, 8));
    assert!(submit.is_disjoint(&poll), "each purpose has its own connections");
}

#[test]
fn blocking_samples_respect_both_limits() {
    let (service, crowd) = crowd();
    // Time stands still, so that no poll is cut off for another call: the service would count it for a moment longer than the
    // client does.
    let manual = ManualClock::new();
    let sampler = sampler(service.manual_config(&manual).max_sampling_in_flight(20).max_poll_connections(8));
    let calls: Vec<_> = (0..300).map(|call| in_thread(&sampler, call)).collect();
    service.wait_for_count("asample", 20);
    crowd.submit.open();
    service.wait_for_count("asample", 300);
    service.wait_until(|requests| requests.iter().filter(|request| is_sample(request)).count() >= 8);
    crowd.poll.open();
    let numbers: Vec<_> = calls.into_iter().map(|call| call.join().unwrap()).collect();
    none_lost_none_doubled(&service, &numbers);
    assert!(crowd.submissions.most() <= 20, "{}", crowd.submissions.most());
    assert!(crowd.polls.most() <= 8, "{}", crowd.polls.most());
}

#[test]
fn slow_results_share_two_poll_connections() {
    let polls = Arc::<Gauge>::default();
    let gauge = Arc::clone(&polls);
    let service = Service::start(move |request| {
        if is_sample(request) {
            let _inside = gauge.enter();
            // Not yet, the first time.
            return if request.iteration() == Some(0) {
                Reply::Json(408, json!({}))
            } else {
                result(request.request_id())
            };
        }
        healthy_service(request)
    });
    let sampler = sampler(service.config().max_poll_connections(2));
    let pending: Vec<_> = (0..300).map(|call| submit(&sampler, call)).collect();
    let numbers: Vec<_> = pending.iter().map(ready).collect();
    none_lost_none_doubled(&service, &numbers);
    assert!(polls.most() <= 2);
}

#[test]
fn short_samples_are_not_stuck_behind_long_training() {
    let manual = ManualClock::new();
    let end = Arc::<Gate>::default();
    let gate = Arc::clone(&end);
    let service = Service::start(move |request| match healthy_service(request) {
        reply if request.request_id().starts_with("optim_step") => Reply::held(&gate, reply),
        reply => reply,
    });
    let config = service.manual_config(&manual).max_poll_connections(2).build_with(|_| None).unwrap();
    let client = ServiceClient::connect(config).unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let sampler = client.create_sampling_client("base").unwrap();
    let training = |seen: &[RecordedRequest]| seen.iter().filter(|s| s.request_id().starts_with("optim_step")).count();
    let first = trainer.submit_optim_step(AdamParams::default()).unwrap();
    let second = trainer.submit_optim_step(AdamParams::default()).unwrap();
    // Waiting for the second step counts as waiting for the first one, too: both connections serve promises that are waited
    // for.
    let step = thread::spawn(move || second.wait().unwrap().metrics.unwrap()["step"]);
    service.wait_until(|requests| training(requests) == 2);
    let samples: Vec<_> = (0..50).map(|call| submit(&sampler, call)).collect();
    let samples = thread::spawn(move || samples.into_iter().map(|s| number(&s.wait().unwrap())).collect::<Vec<_>>());
    manual.until_waiting(|waits| waits.contains(&SLICE));
    manual.advance(SLICE);
    none_lost_none_doubled(&service, &samples.join().unwrap());
    assert!(!first.is_ready() && !step.is_finished());
    // After another time slice, training has its turn.
    manual.until_waiting(|waits| waits.contains(&SLICE));
    manual.advance(SLICE);
    service.wait_until(|requests| training(requests) >= 3);
    end.open();
    assert_eq!(step.join().unwrap(), 2.0);
    first.wait().unwrap();
}

#[test]
fn nothing_is_held_while_a_result_is_polled() {
    let (service, crowd) = crowd();
    crowd.submit.open();
    let sampler = sampler(service.config().max_sampling_in_flight(1).max_sampling_threads(1));
    let pending: Vec<_> = (0..4).map(|call| submit(&sampler, call)).collect();
    service.wait_until(|requests| requests.iter().filter(|request| is_sample(request)).count() == 4);
    crowd.poll.open();
    let numbers: Vec<_> = pending.into_iter().map(|pending| number(&pending.wait().unwrap())).collect();
    none_lost_none_doubled(&service, &numbers);
}

#[test]
fn a_cancelled_queued_sample_takes_no_number() {
    let (service, crowd) = crowd();
    crowd.poll.open();
    let sampler = sampler(service.config().max_sampling_threads(1));
    let first = submit(&sampler, 0);
    service.wait_for_count("asample", 1);
    submit(&sampler, 1).cancel();
    let third = submit(&sampler, 2);
    crowd.submit.open();
    assert_eq!((number(&first.wait().unwrap()), number(&third.wait().unwrap())), (0, 1));
    assert_eq!(service.requests_to("asample").iter().map(asked).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn a_full_queue_is_an_error_at_once() {
    let (service, crowd) = crowd();
    crowd.poll.open();
    let sampler = sampler(service.config().max_sampling_threads(1).max_queued(2));
    let sending = submit(&sampler, 0);
    service.wait_for_count("asample", 1);
    let queued = [submit(&sampler, 1), submit(&sampler, 2)];
    let error = sampler.submit_sample(&prompt(&[3]), 1, &SamplingParams::default()).unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::QueueFull, Some("sample")));
    crowd.submit.open();
    sending.wait().unwrap();
    queued.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
}
