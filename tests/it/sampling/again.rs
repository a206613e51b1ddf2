//! Resubmitted and retried samples.

use super::*;

/// A service on which the promises of the first few samples have expired.
fn forgetful(samples: usize) -> Service {
    let expired = AtomicUsize::new(0);
    Service::start(move |request| {
        if is_sample(request) && expired.fetch_add(1, Ordering::SeqCst) < samples {
            return Reply::Json(410, json!({"detail": "gone"}));
        }
        healthy_service(request)
    })
}

#[test]
fn an_expired_sample_becomes_a_new_request() {
    let manual = ManualClock::new();
    let service = forgetful(2);
    let sampler = sampler(service.manual_config(&manual));
    let call = in_thread(&sampler, 5);
    // Half a second, doubled each time, with a jitter of a quarter.
    for millis in [375..=625, 750..=1250] {
        manual.until_waiting(|waits| waits.first().is_some_and(|wait| millis.contains(&wait.as_millis())));
        manual.advance(2 * SECOND);
    }
    assert_eq!(call.join().unwrap(), 2);
    let sent = service.requests_to("asample");
    assert_eq!(sent.iter().map(|request| request.seq_id().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
    let keys: HashSet<_> = sent.iter().map(|request| request.header("x-idempotency-key").unwrap()).collect();
    assert_eq!(keys.len(), 3);
    assert!(sent.iter().all(|request| asked(request) == 5 && request.header("x-stainless-retry-count") == Some("0")));
}

#[test]
fn resubmissions_stop_after_the_configured_retries() {
    let manual = ManualClock::new();
    let service = forgetful(usize::MAX);
    let sampler = sampler(service.manual_config(&manual).max_retries(1));
    let pending = submit(&sampler, 5);
    manual.until_waiting(|waits| waits.first().is_some_and(|wait| *wait < SECOND));
    manual.advance(SECOND);
    let error = pending.wait().unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Expired, Some(410)));
    assert_eq!(error.request_id(), Some("asample:sampler-0:1"));
    assert_eq!(service.requests_to("asample").len(), 2);
}

#[test]
fn resubmissions_wait_as_configured() {
    let manual = ManualClock::new();
    let service = forgetful(3);
    let config = service.manual_config(&manual).idle_retention(24 * HOUR).timeout_progress(24 * HOUR);
    let sampler = sampler(config.retry_base(100 * SECOND).retry_cap(150 * SECOND));
    let pending = submit(&sampler, 5);
    for longest in [100, 150, 150].map(|seconds| seconds * SECOND) {
        let mut next = Duration::ZERO;
        manual.until_waiting(|waits| {
            next = waits.first().copied().unwrap_or_default();
            (0.75..=1.25).contains(&next.div_duration_f64(longest))
        });
        manual.advance(next);
    }
    pending.wait().unwrap();
    assert_eq!(service.requests_to("asample").len(), 4);
}

#[test]
fn a_cancelled_expired_sample_is_not_resubmitted() {
    let manual = ManualClock::new();
    let service = forgetful(1);
    let sampler = sampler(service.manual_config(&manual).max_sampling_threads(1));
    let pending = submit(&sampler, 5);
    manual.until_waiting(|waits| waits.first().is_some_and(|wait| *wait < SECOND));
    pending.cancel();
    let next = submit(&sampler, 6);
    manual.advance(SECOND);
    assert_eq!(number(&next.wait().unwrap()), 1);
    assert_eq!(service.requests_to("asample").iter().map(asked).collect::<Vec<_>>(), [5, 6]);
}

#[test]
fn waiting_to_resubmit_holds_no_thread() {
    let manual = ManualClock::new();
    let service = forgetful(1);
    let sampler = sampler(service.manual_config(&manual).max_sampling_threads(1));
    let expired = submit(&sampler.with_retry_config(RetryConfig::default().base(HOUR).cap(HOUR).jitter(0.0)), 5);
    manual.until_waiting(|waits| waits.contains(&HOUR));
    // The clock stands still.
    assert_eq!(number(&submit(&sampler, 6).wait().unwrap()), 1);
    assert!(!expired.is_ready());
    manual.advance(HOUR);
    assert_eq!(number(&expired.wait().unwrap()), 2);
    assert_eq!(service.requests_to("asample").iter().map(asked).collect::<Vec<_>>(), [5, 6, 5]);
}

#[test]
fn without_retries_expiry_is_an_error() {
    let service = forgetful(1);
    let sampler = sampler(service.config()).with_retry_config(RetryConfig::off());
    let error = sampler.sample(&prompt(&[5]), 1, &SamplingParams::default()).unwrap_err();
    assert_eq!((error.kind(), service.requests_to("asample").len()), (ErrorKind::Expired, 1));
}

#[test]
fn a_sampling_client_may_override_the_progress_timeout() {
    assert_own_progress_timeout(&Service::start(without_results));
}

#[test]
fn an_expired_training_promise_has_an_unknown_outcome() {
    let service = Service::start(|request| match healthy_service(request) {
        _ if request.request_id().starts_with("optim_step") => Reply::Json(410, json!({"detail": "gone"})),
        reply => reply,
    });
    let client = ServiceClient::connect(service.config().build_with(|_| None).unwrap()).unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let error = trainer.optim_step(AdamParams::default()).unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Expired, Some(410)));
    assert!(!error.is_retryable() && error.may_have_taken_effect(), "{error}");
    assert_eq!(error.request_id(), Some("optim_step:model-0:1"));
    assert!(error.to_string().contains("gone"), "{error}");
    assert_eq!(service.requests_to("optim_step").len(), 1);
}

#[test]
fn a_lost_submit_response_is_retried_unchanged() {
    let manual = ManualClock::new();
    let service = Service::start(|request| match request.header("x-stainless-retry-count") {
        Some("0") if request.path == "asample" => Reply::Close,
        Some("1") if request.path == "asample" => Reply::Json(503, json!({})),
        _ => healthy_service(request),
    });
    let sampler = sampler(service.manual_config(&manual));
    let pending = submit(&sampler, 1);
    for wait in [SECOND, 2 * SECOND] {
        manual.until_waiting(|waits| waits.first() == Some(&wait));
        manual.advance(wait);
    }
    assert_eq!(number(&pending.wait().unwrap()), 0);
    let sent = service.requests_to("asample");
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|s| s.raw == sent[0].raw));
    assert!(sent.iter().all(|s| s.header("x-idempotency-key") == sent[0].header("x-idempotency-key")));
}

#[test]
fn a_dropped_sample_stops_retrying() {
    let manual = ManualClock::new();
    let service =
        Service::start(
            |request| if request.path == "asample" { Reply::Json(503, json!({})) } else { healthy_service(request) },
        );
    let idle = Duration::from_secs(24 * 3600);
    let client = crate::support::connect(service.manual_config(&manual).idle_retention(idle));
    let sampler = client.create_sampling_client("base").unwrap();
    for (count, cancels) in [(1, true), (2, false)] {
        let pending = sampler.submit_sample(&prompt(&[1]), 1, &SamplingParams::default()).unwrap();
        service.wait_for_count("asample", count);
        manual.until_waiting(|waits| waits.contains(&Duration::from_secs(1)));
        if cancels {
            pending.cancel()
        } else {
            drop(pending)
        }
        manual.until_waiting(|waits| waits.contains(&idle));
    }
    assert_eq!(service.requests_to("asample").len(), 2);
}
