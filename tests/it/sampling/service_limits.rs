//! The limits that the service asks for.

use super::*;
use crate::support::service_with_settings;

#[test]
fn prompts_in_flight_are_limited_in_bytes() {
    let manual = ManualClock::new();
    let gate = Arc::<Gate>::default();
    let held = Arc::clone(&gate);
    // 25 bytes: the first two prompts of 20 bytes may begin, the third has to wait.
    let settings = json!({"sample_dispatch_bytes_semaphore_size": 25});
    let service = service_with_settings(settings, move |request| match &*request.path {
        "asample" => Reply::held(&held, healthy_service(request)),
        _ => healthy_service(request),
    });
    let sampler = sampler(service.manual_config(&manual)).with_timeout_operation(Some(HOUR));
    let prompt = prompt(&[1, 2]);
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let (sampler, prompt) = (sampler.clone(), prompt.clone());
            thread::spawn(move || number(&sampler.sample(&prompt, 1, &SamplingParams::default()).unwrap()))
        })
        .collect();
    service.wait_for_count("asample", 2);
    manual.until_waiting(|waits| waits.iter().filter(|wait| **wait == HOUR).count() == 1);
    assert_eq!(service.requests_to("asample").len(), 2);
    gate.open();
    let numbers: HashSet<_> = calls.into_iter().map(|call| call.join().unwrap()).collect();
    assert_eq!(numbers, HashSet::from([0, 1, 2]));
}

#[test]
fn a_429_for_a_large_prompt_pauses_longer() {
    for (tokens, pause, advice) in [(13_107, 1, None), (13_108, 5, None), (13_108, 2, Some("2"))] {
        let manual = ManualClock::new();
        let service = Service::start(move |request| match request.header("x-stainless-retry-count") {
            Some("0") if request.path == "asample" => match advice {
                Some(seconds) => Reply::with_headers(429, &[("retry-after", seconds)], &json!({})),
                None => Reply::Json(429, json!({})),
            },
            _ => healthy_service(request),
        });
        let sampler = sampler(service.manual_config(&manual));
        let pending = sampler.submit_sample(&prompt(&vec![7; tokens]), 1, &SamplingParams::default()).unwrap();
        let pause = pause * SECOND;
        manual.until_waiting(|waits| waits.iter().any(|wait| *wait >= pause && *wait < pause + SECOND / 10));
        manual.advance(pause + SECOND / 10);
        assert_eq!(number(&pending.wait().unwrap()), 0);
    }
}

#[test]
fn few_samples_are_submitted_after_a_429() {
    let manual = ManualClock::new();
    let gate = Arc::<Gate>::default();
    let held = Arc::clone(&gate);
    let service = Service::start(move |request| match request.header("x-stainless-retry-count") {
        Some("0") if request.path == "asample" && asked(request) == 9 => Reply::Json(429, json!({})),
        _ if request.path == "asample" => Reply::held(&held, healthy_service(request)),
        _ => healthy_service(request),
    });
    let sampler = sampler(service.manual_config(&manual));
    let refused = submit(&sampler, 9);
    let paused =
        |waits: &[Duration], pause: Duration| waits.iter().any(|wait| *wait >= pause && *wait < pause + SECOND / 10);
    manual.until_waiting(|waits| paused(waits, SECOND));
    manual.advance(SECOND + SECOND / 10);
    service.wait_for_count("asample", 2);
    let others: Vec<_> = (0..12).map(|_| submit(&sampler, 1)).collect();
    service.wait_for_count("asample", 1 + 10);
    // The next one waits for the end of the strict time.
    manual.until_waiting(|waits| paused(waits, 9 * SECOND - SECOND / 10));
    assert_eq!(service.requests_to("asample").len(), 1 + 10);
    manual.advance(9 * SECOND);
    service.wait_for_count("asample", 1 + 13);
    gate.open();
    others.into_iter().chain([refused]).for_each(|pending| drop(pending.wait().unwrap()));
}

#[test]
fn no_resubmission_if_the_service_says_so() {
    let settings = json!({"sample_no_retries": true});
    let service = service_with_settings(settings, |request| match is_sample(request) {
        true => Reply::Json(410, json!({"detail": "gone"})),
        false => healthy_service(request),
    });
    let error = sampler(service.config()).sample(&prompt(&[1]), 1, &SamplingParams::default()).unwrap_err();
    assert_eq!((error.kind(), service.requests_to("asample").len()), (ErrorKind::Expired, 1));
}

#[test]
fn without_stuck_detection_a_sample_waits() {
    const FAILURES: usize = 4;
    let (manual, polls) = (ManualClock::new(), AtomicUsize::new(0));
    let settings = json!({"sample_enable_stuck_detection": false});
    let service = service_with_settings(settings, move |request| {
        match is_sample(request) && polls.fetch_add(1, Ordering::SeqCst) < FAILURES {
            true => Reply::Json(503, json!({})),
            false => healthy_service(request),
        }
    });
    let config = service.manual_config(&manual).timeout_progress(SECOND).idle_retention(24 * HOUR);
    let pending = submit(&sampler(config), 1);
    for poll in 1..=FAILURES {
        service.wait_for_count("retrieve_future", poll);
        manual.until_waiting(|waits| waits.first().is_some_and(|wait| *wait <= 60 * SECOND));
        manual.advance(60 * SECOND);
    }
    assert_eq!(number(&pending.wait().unwrap()), 0);
}

#[test]
fn the_own_progress_timeout_always_counts() {
    let settings = json!({"sample_enable_stuck_detection": false});
    let service = service_with_settings(settings, without_results);
    assert_own_progress_timeout(&service);
}

#[test]
fn samples_in_flight_are_limited_without_threads() {
    let gate = Arc::<Gate>::default();
    let held = Arc::clone(&gate);
    let settings = json!({"sample_max_concurrent_requests": 2});
    let service = service_with_settings(settings, move |request| match is_sample(request) {
        true => Reply::held(&held, healthy_service(request)),
        false => healthy_service(request),
    });
    let client = crate::support::connect(service.config().max_sampling_threads(1));
    let sampler = client.create_sampling_client("base").unwrap();
    let blocking = [1, 2].map(|token| in_thread(&sampler, token));
    service.wait_for_count("retrieve_future", 2);
    let cancelled = submit(&sampler, 3);
    let others: Vec<_> = (0..20).map(|_| submit(&sampler, 4)).collect();
    let blocked = in_thread(&sampler, 5);
    // The only thread of the session is free for other work.
    let another = client.create_sampling_client("base").unwrap();
    let free = submit(&another, 6);
    service.wait_until(|requests| requests.iter().any(|request| request.path == "asample" && asked(request) == 6));
    assert_eq!(service.requests_to("asample").len(), 3);
    cancelled.cancel();
    gate.open();
    blocking.into_iter().chain([blocked]).for_each(|call| assert!(call.join().unwrap() < 24));
    others.into_iter().chain([free]).for_each(|pending| drop(pending.wait().unwrap()));
    assert!(service.requests_to("asample").iter().all(|request| asked(request) != 3));
}

#[test]
fn closing_ends_samples_that_wait_for_others() {
    let gate = Arc::<Gate>::default();
    let held = Arc::clone(&gate);
    let settings = json!({"sample_max_concurrent_requests": 1});
    let service = service_with_settings(settings, move |request| match is_sample(request) {
        true => Reply::held(&held, healthy_service(request)),
        false => healthy_service(request),
    });
    let client = crate::support::connect(service.config());
    let sampler = client.create_sampling_client("base").unwrap();
    let pending: Vec<_> = (0..2000).map(|token| submit(&sampler, token)).collect();
    service.wait_for_count("retrieve_future", 1);
    client.close(30 * SECOND);
    for pending in pending {
        assert_eq!(pending.wait().unwrap_err().kind(), ErrorKind::Closed);
    }
    gate.open();
}
