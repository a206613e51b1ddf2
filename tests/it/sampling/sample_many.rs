//! `sample_many`, and `submit_` calls that wait for room.

use std::sync::Mutex;

use super::*;

/// A response names its prompt: the scripted sample of `asked` has that token.
fn echoing(request: &RecordedRequest) -> Reply {
    match request.path.as_str() {
        "asample" => Reply::ok(json!({"request_id": format!("echo:{}", asked(request))})),
        "retrieve_future" => {
            let token: u64 = request.request_id()["echo:".len()..].parse().unwrap();
            match token {
                13 => Reply::ok(json!({"error": "unlucky", "category": "user"})),
                token => Reply::ok(json!({"sequences": [{"stop_reason": "stop", "tokens": [token]}]})),
            }
        }
        _ => healthy_service(request),
    }
}

#[test]
fn responses_have_the_order_of_the_prompts() {
    let service = Service::start(echoing);
    let sampler = sampler(service.config());
    let prompts: Vec<_> = (100..150).map(|token| prompt(&[token])).collect();
    let responses = sampler.sample_many(&prompts).max_in_flight(7).wait_all().unwrap();
    assert_eq!(responses.iter().map(number).collect::<Vec<_>>(), (100..150).collect::<Vec<_>>());
    assert!(sampler.sample_many(Vec::<ModelInput>::new()).wait_all().unwrap().is_empty());
}

#[test]
fn only_as_many_as_allowed_are_in_flight() {
    let gate = Arc::<Gate>::default();
    let held = Arc::clone(&gate);
    let service = Service::start(move |request| match request.path.as_str() {
        "retrieve_future" => Reply::held(&held, echoing(request)),
        _ => echoing(request),
    });
    let sampler = sampler(service.config());
    let taken = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&taken);
    let sampling = thread::spawn(move || {
        let requests = (0..9).map(|token| {
            counted.fetch_add(1, Ordering::SeqCst);
            SampleOptions::new(prompt(&[token])).num_samples(1)
        });
        sampler.sample_many(requests).max_in_flight(3).wait_all().unwrap().len()
    });
    service.wait_for_count("retrieve_future", 3);
    assert_eq!((service.requests_to("asample").len(), taken.load(Ordering::SeqCst)), (3, 3));
    gate.open();
    assert_eq!(sampling.join().unwrap(), 9);
}

#[test]
fn each_failure_has_its_index() {
    let service = Service::start(echoing);
    let sampler = sampler(service.config());
    let prompts = [prompt(&[11]), prompt(&[]), prompt(&[13]), prompt(&[14])];
    let seen = Mutex::new(Vec::new());
    let samples = sampler.sample_many(&prompts).on_progress(|progress| seen.lock().unwrap().push(progress));
    let kinds: Vec<_> =
        samples.wait_each().iter().map(|one| one.as_ref().map(number).map_err(|error| error.kind())).collect();
    assert_eq!(kinds, [Ok(11), Err(ErrorKind::InvalidInput), Err(ErrorKind::RequestFailed), Ok(14)]);
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.iter().map(|progress| progress.done).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(seen.iter().all(|progress| progress.total == Some(4)));
    assert_eq!((seen[3].failed, seen[3].submitted), (2, 4));

    let mut indices: Vec<_> = sampler.sample_many(&prompts).map(|(index, one)| (index, one.is_ok())).collect();
    indices.sort_unstable();
    assert_eq!(indices, [(0, true), (1, false), (2, false), (3, true)]);
}

#[test]
fn the_first_failure_ends_wait_all() {
    let service = Service::start(echoing);
    let sampler = sampler(service.config());
    let taken = AtomicUsize::new(0);
    let requests = (13..1013).map(|token| {
        taken.fetch_add(1, Ordering::SeqCst);
        SampleOptions::new(prompt(&[token]))
    });
    let error = sampler.sample_many(requests).max_in_flight(1).wait_all().unwrap_err();
    assert!(error.to_string().contains("unlucky") && taken.load(Ordering::SeqCst) == 1, "{error}");
}

#[test]
fn a_submission_waits_for_room_if_asked() {
    let gate = Arc::<Gate>::default();
    let held = Arc::clone(&gate);
    let service = Service::start(move |request| match request.path.as_str() {
        "asample" => Reply::held(&held, echoing(request)),
        _ => echoing(request),
    });
    let manual = ManualClock::new();
    let config = service.manual_config(&manual).max_sampling_threads(1).max_queued(1).timeout_operation(Some(HOUR));
    let sampler = sampler(config);
    let first = submit(&sampler, 1);
    service.wait_for_count("asample", 1);
    let second = submit(&sampler, 2);
    let waiting = sampler.with_waiting_submits(true);
    let submit_waiting = |token: u32| {
        let waiting = waiting.clone();
        thread::spawn(move || waiting.submit_sample_with(prompt(&[token])).and_then(Pending::wait))
    };
    let late = submit_waiting(3);
    manual.until_waiting(|waits| waits.contains(&HOUR));
    manual.advance(HOUR);
    assert_eq!(late.join().unwrap().unwrap_err().kind(), ErrorKind::Timeout(Limit::Operation));
    let third = submit_waiting(4);
    manual.until_waiting(|waits| waits.contains(&HOUR));
    let error = waiting.with_waiting_submits(false).submit_sample_with(prompt(&[5])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QueueFull);
    gate.open();
    assert_eq!(number(&third.join().unwrap().unwrap()), 4);
    assert_eq!([first, second].map(|pending| number(&pending.wait().unwrap())), [1, 2]);
}
