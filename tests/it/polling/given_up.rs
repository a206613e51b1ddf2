//! An abandoned result is no longer polled.

use super::*;

#[test]
fn a_dropped_or_cancelled_pending_frees_its_connection() {
    let never = Arc::<Gate>::default();
    let service = holding(&never);
    let client = connect(service.config().max_poll_connections(1));
    for (round, give_up) in [drop, |held: Pending<_>| held.cancel()].into_iter().enumerate() {
        // The first connection serves and goes back to the pool; the held poll takes it from there.
        pending(&client, "quick").wait().unwrap();
        let held = pending(&client, "held");
        service.wait_until(|requests| {
            requests.iter().filter(|request| request.request_id() == "held").count() == round + 1
        });
        let connection = |request_id| polls_of(&service, request_id).last().unwrap().connection;
        assert_eq!(connection("held"), connection("quick"));
        give_up(held);
        service.wait_for_disconnect(connection("held"));
    }
    // The only poll connection is free again.
    pending(&client, "quick").wait().unwrap();
}

#[test]
fn a_cancelled_wait_ends() {
    let (service, manual) = (holding(&Arc::default()), ManualClock::new());
    let client = connect(service.manual_config(&manual));
    let held = pending(&client, "held");
    service.wait_until(|requests| requests.iter().any(|request| request.request_id() == "held"));
    let limit = Duration::from_secs(601);
    std::thread::scope(|scope| {
        let wait = scope.spawn(|| held.wait_timeout(limit).map(|result| result.unwrap_err().kind()));
        manual.until_waiting(|waits| waits.contains(&limit));
        held.cancel();
        assert_eq!(wait.join().unwrap(), Some(ErrorKind::Cancelled));
    });
    held.cancel();
    assert_eq!(held.wait().unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn a_dropped_pending_frees_a_new_connection() {
    let service = holding(&Arc::default());
    let client = connect(service.config());
    let held = pending(&client, "held");
    let seen = service.wait_until(|requests| requests.iter().any(|request| request.request_id() == "held"));
    drop(held);
    service.wait_for_disconnect(seen.last().unwrap().connection);
}

#[test]
fn a_dropped_pending_is_not_polled_again() {
    let manual = ManualClock::new();
    let service = service_with_polls(|request| match request.request_id() {
        "dropped" => Reply::Json(408, json!({})),
        _ => done(1),
    });
    let client = connect(service.manual_config(&manual));
    let dropped = pending(&client, "dropped");
    manual.until_waiting(|waits| waits.first().is_some_and(|wait| *wait <= SECOND / 10));
    drop(dropped);
    // The poller gets its commands in order: once this has a result, it knows of the drop.
    pending(&client, "marker").wait().unwrap();
    manual.advance(SECOND);
    pending(&client, "marker").wait().unwrap();
    assert_eq!(polls_of(&service, "dropped").len(), 1);
}

/// The clock stands still: a wait before a retry would last for ever.
#[test]
fn a_cancelled_sent_step_is_not_retried() {
    for waits_first in [true, false] {
        let manual = ManualClock::new();
        let held = Arc::<Gate>::default();
        let opened = Arc::clone(&held);
        let service = Service::start(move |request| match &*request.path {
            "optim_step" => Reply::held(&opened, Reply::Json(500, json!({"detail": "out of memory"}))),
            _ => healthy_service(request),
        });
        let client = connect(service.manual_config(&manual));
        let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
        let failing = trainer.submit_optim_step(AdamParams::default()).unwrap();
        let saved = trainer.submit_save_state("rescued").unwrap();
        service.wait_for_count("optim_step", 1);
        if waits_first {
            held.open();
            manual.until_waiting(|waits| waits.first().is_some_and(|wait| *wait <= SECOND));
            failing.cancel();
        } else {
            failing.cancel();
            held.open();
        }
        assert_eq!(failing.wait().unwrap_err().kind(), ErrorKind::Cancelled);
        saved.wait().unwrap();
        // It may have been run, so it is sent once more, without a wait.
        assert_eq!(service.requests_to("optim_step").len(), 2);
        assert_eq!(service.requests_to("save_weights").len(), 1);
    }
}

/// The result is abandoned, not the step.
#[test]
fn a_dropped_sent_step_is_retried() {
    let manual = ManualClock::new();
    let tries = AtomicUsize::new(0);
    let service = Service::start(move |request| match &*request.path {
        "optim_step" if tries.fetch_add(1, Ordering::SeqCst) == 0 => Reply::Json(503, json!({"detail": "busy"})),
        _ => healthy_service(request),
    });
    let client = connect(service.manual_config(&manual));
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let dropped = trainer.submit_optim_step(AdamParams::default()).unwrap();
    let saved = trainer.submit_save_state("after it").unwrap();
    manual.until_waiting(|waits| waits.first().is_some_and(|wait| *wait <= SECOND));
    drop(dropped);
    manual.advance(SECOND);
    saved.wait().unwrap();
    assert_eq!(service.requests_to("optim_step").len(), 2);
}

#[test]
fn a_cancelled_unsent_step_takes_no_number() {
    let gate = Arc::<Gate>::default();
    let (held, steps) = (Arc::clone(&gate), AtomicUsize::new(0));
    let service = Service::start(move |request| {
        if request.path == "optim_step" && steps.fetch_add(1, Ordering::SeqCst) == 0 {
            return Reply::held(&held, healthy_service(request));
        }
        healthy_service(request)
    });
    let client = connect(service.config());
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let submit = |learning_rate| -> Pending<OptimStepResponse> {
        trainer.submit_optim_step(AdamParams::new().learning_rate(learning_rate)).unwrap()
    };
    let first = submit(1.0);
    service.wait_for_count("optim_step", 1);
    submit(2.0).cancel();
    let third = submit(3.0);
    gate.open();
    for (pending, number) in [(first, 1.0), (third, 2.0)] {
        assert_eq!(pending.wait().unwrap().metrics.unwrap()["step"], number);
    }
    let sent: Vec<_> = service
        .requests_to("optim_step")
        .iter()
        .map(|request| (request.body["adam_params"]["learning_rate"].as_f64().unwrap(), request.seq_id().unwrap()))
        .collect();
    assert_eq!(sent, [(1.0, 1), (3.0, 2)]);
}
