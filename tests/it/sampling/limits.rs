//! The sampling limiter: permits, tokens, and the pause after a 429.

use super::*;

/// How many threads wait for the end of a pause of this length, and a little longer for the first token after it: the first
/// waiter of each limiter, since the others wait to be woken.
fn paused(waits: &[Duration], pause: Duration) -> usize {
    waits.iter().filter(|wait| **wait > pause && **wait < pause + Duration::from_millis(50)).count()
}

/// How many threads wait, up to the deadline of their call.
fn limited_to(waits: &[Duration], limit: Duration) -> usize {
    waits.iter().filter(|wait| **wait == limit).count()
}

#[test]
fn a_429_pauses_one_key_only() {
    let manual = ManualClock::new();
    let limited =
        |request: &RecordedRequest| request.path == "asample" && request.header("x-api-key") == Some("tml-limited");
    let service = Service::start(move |request| {
        if limited(request) && asked(request) == 0 && request.header("x-stainless-retry-count") == Some("0") {
            return Reply::with_headers(429, &[("retry-after-ms", "7000")], &json!({"detail": "slow down"}));
        }
        healthy_service(request)
    });
    let client = |key| sampler(service.manual_config(&manual).api_key(key));
    let (one, another, other_key) = (client("tml-limited"), client("tml-limited"), client("tml-other"));
    let first = submit(&one, 0);
    manual.until_waiting(|waits| paused(waits, 7 * SECOND) == 1);
    let blocking = [&one, &another].map(|sampler| in_thread(&sampler.with_timeout_operation(Some(HOUR)), 1));
    let submitted = [&one, &another, &one].map(|sampler| submit(sampler, 2));
    manual.until_waiting(|waits| paused(waits, 7 * SECOND) == 1 && limited_to(waits, HOUR) == 2);
    for _ in 0..3 {
        sample(&other_key, 3);
    }
    manual.advance(7 * SECOND);
    assert_eq!(service.requests().into_iter().filter(limited).count(), 1);
    manual.advance(SECOND);
    assert_eq!(number(&first.wait().unwrap()), 0);
    blocking.into_iter().for_each(|call| assert!(call.join().unwrap() < 4));
    submitted.into_iter().for_each(|call| drop(call.wait().unwrap()));
    let sent: Vec<_> = service.requests().into_iter().filter(limited).collect();
    assert_eq!(sent.len(), 7);
    let attempts: Vec<_> = sent.iter().filter(|request| asked(request) == 0).collect();
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0].raw, attempts[1].raw);
    assert_eq!(attempts[0].header("x-idempotency-key"), attempts[1].header("x-idempotency-key"));
    assert_eq!(attempts[1].header("x-stainless-retry-count"), Some("1"));
}

#[test]
fn a_429_without_advice_pauses_one_second() {
    let manual = ManualClock::new();
    let service = Service::start(|request| match request.header("x-stainless-retry-count") {
        Some("0" | "1") if request.path == "asample" => Reply::Json(429, json!({})),
        _ => healthy_service(request),
    });
    let sampler = sampler(service.manual_config(&manual));
    let pending = submit(&sampler, 1);
    for _ in 0..2 {
        manual.until_waiting(|waits| paused(waits, SECOND) == 1);
        manual.advance(SECOND + SECOND / 10);
    }
    assert_eq!(number(&pending.wait().unwrap()), 0);
    let counts: Vec<_> =
        service.requests_to("asample").iter().map(|s| s.header("x-stainless-retry-count").map(str::to_owned)).collect();
    assert_eq!(counts, ["0", "1", "2"].map(|count| Some(count.to_owned())));
}

#[test]
fn a_shorter_pause_does_not_shorten_one() {
    let manual = ManualClock::new();
    let short = Arc::<Gate>::default();
    let gate = Arc::clone(&short);
    let service = Service::start(move |request| {
        if request.path != "asample" || request.header("x-stainless-retry-count") != Some("0") {
            return healthy_service(request);
        }
        let limited = |millis| Reply::with_headers(429, &[("retry-after-ms", millis)], &json!({}));
        if asked(request) == 7 { limited("7000") } else { Reply::held(&gate, limited("1000")) }
    });
    let sampler = sampler(service.manual_config(&manual));
    let other = in_thread(&sampler.with_timeout_operation(Some(HOUR)), 1);
    service.wait_for_count("asample", 1);
    let long = submit(&sampler, 7);
    manual.until_waiting(|waits| paused(waits, 7 * SECOND) == 1);
    short.open();
    manual.until_waiting(|waits| paused(waits, 7 * SECOND) == 1 && limited_to(waits, HOUR) == 1);
    manual.advance(7 * SECOND);
    assert_eq!(service.requests_to("asample").len(), 2);
    manual.advance(SECOND);
    other.join().unwrap();
    long.wait().unwrap();
}

#[test]
fn no_thread_submits_during_a_pause() {
    /// The submissions before the 429.
    const BEFORE: usize = 200;
    /// The maximum number in flight: the last ones before the 429 are still in flight when it arrives.
    const CAP: usize = 20;
    let manual = ManualClock::new();
    let (arrived, in_flight, rest) = (AtomicUsize::new(0), Arc::<Gauge>::default(), Arc::<Gate>::default());
    let (gauge, gate) = (Arc::clone(&in_flight), Arc::clone(&rest));
    let service = Service::start(move |request| {
        if request.path != "asample" {
            return healthy_service(request);
        }
        let _inside = gauge.enter();
        match arrived.fetch_add(1, Ordering::SeqCst) {
            BEFORE => return Reply::with_headers(429, &[("retry-after", "7")], &json!({})),
            place if place > BEFORE - CAP && place < BEFORE => gate.pass(),
            _ => {}
        }
        healthy_service(request)
    });
    let config = service.manual_config(&manual).max_sampling_in_flight(CAP).timeout_operation(Some(HOUR));
    let sampler = sampler(config);
    let calls: Vec<_> = (0..400).map(|call| in_thread(&sampler, call)).collect();
    manual.until_waiting(|waits| paused(waits, 7 * SECOND) == 1);
    // Submissions that started before the pause finish during it; their permits are not given to others.
    rest.open();
    manual.until_waiting(|waits| paused(waits, 7 * SECOND) + limited_to(waits, HOUR) == 400 - BEFORE);
    manual.advance(7 * SECOND);
    assert_eq!(service.requests_to("asample").len(), BEFORE + 1, "a sample was submitted during the pause");
    manual.advance(SECOND);
    let numbers: HashSet<_> = calls.into_iter().map(|call| call.join().unwrap()).collect();
    assert_eq!((numbers.len(), service.requests_to("asample").len()), (400, 401));
    assert_eq!(in_flight.most(), CAP);
}

#[test]
fn concurrent_submissions_are_limited_across_clients() {
    let manual = ManualClock::new();
    let (service, crowd) = crowd();
    crowd.poll.open();
    let config = service.manual_config(&manual).max_sampling_in_flight(3).timeout_operation(Some(HOUR));
    let sampler = sampler(config);
    let calls: Vec<_> = (0..8).map(|call| in_thread(&sampler, call)).collect();
    service.wait_for_count("asample", 3);
    // The others wait in the limiter, up to the deadline of their call.
    manual.until_waiting(|waits| limited_to(waits, HOUR) == 5);
    crowd.submit.open();
    let numbers: Vec<_> = calls.into_iter().map(|call| call.join().unwrap()).collect();
    none_lost_none_doubled(&service, &numbers);
    assert!(crowd.submissions.most() <= 3);
}

#[test]
fn a_timeout_in_the_limiter_takes_no_number() {
    let manual = ManualClock::new();
    let service = Service::start(|request| match request.header("x-stainless-retry-count") {
        Some("0") if request.path == "asample" => Reply::with_headers(429, &[("retry-after", "30")], &json!({})),
        _ => healthy_service(request),
    });
    let sampler = sampler(service.manual_config(&manual));
    let limited = submit(&sampler, 0);
    manual.until_waiting(|waits| paused(waits, 30 * SECOND) == 1);
    let brief = sampler.with_timeout_operation(Some(5 * SECOND));
    let call = thread::spawn(move || brief.sample(&prompt(&[1]), 1, &SamplingParams::default()).unwrap_err());
    manual.until_waiting(|waits| waits.contains(&(5 * SECOND)));
    manual.advance(5 * SECOND);
    let error = call.join().unwrap();
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Operation));
    assert_eq!((error.operation(), error.may_have_taken_effect()), (Some("sample"), false));
    manual.advance(26 * SECOND);
    limited.wait().unwrap();
    let seq_ids: Vec<_> = service.requests_to("asample").iter().map(|request| request.seq_id().unwrap()).collect();
    assert_eq!(seq_ids, [0, 0]);
}
