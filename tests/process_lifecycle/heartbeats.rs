//! Heartbeats, from the first to the last.

use super::logger::on_log;
use super::*;

/// Lets so many heartbeats be sent, each after this time. They are due every ten seconds.
fn pass_heartbeats(service: &Service, manual: &ManualClock, count: usize, time: Duration) {
    for beats in 1..=count {
        manual.until_waiting(|waits| waits == [Duration::from_secs(10)]);
        manual.advance(time);
        service.wait_for_count("session_heartbeat", beats);
    }
}

#[test]
fn heartbeats_survive_failures_until_the_close() {
    let service = Service::start(|request| match request.path.as_str() {
        "session_heartbeat" => Reply::Json(503, json!({})),
        _ => healthy_service(request),
    });
    let manual = ManualClock::new();
    let interval = Duration::from_secs(7);
    let client = connect(service.config().clock(manual.clock()).heartbeat_interval(interval));
    for beats in 1..=3 {
        manual.until_waiting(|waits| waits == [interval]);
        manual.advance(interval);
        let last = service.wait_for_count("session_heartbeat", beats).pop().unwrap();
        assert_eq!(last.body["session_id"], "session-1");
    }
    promptly(move || client.close(FAR));
    manual.advance(FAR);
    assert_eq!(service.requests_to("session_heartbeat").len(), 3);
    assert_eq!(manual.waits(), []);
}

#[test]
fn heartbeats_stop_when_the_session_has_ended() {
    let service = Service::start(|request| match request.path.as_str() {
        "session_heartbeat" => Reply::Json(410, json!({"detail": "this session has ended"})),
        _ => healthy_service(request),
    });
    let manual = ManualClock::new();
    let (sender, received) = bounded(1);
    on_log("this session has ended; no more heartbeats are sent", move || sender.send(()).unwrap());
    let client = connect(service.config().clock(manual.clock()));
    manual.until_waiting(|waits| waits == [Duration::from_secs(10)]);
    manual.advance(Duration::from_secs(10));
    received.recv_timeout(HANG).unwrap();
    manual.advance(FAR);
    promptly(move || client.close(FAR));
    assert_eq!(service.requests_to("session_heartbeat").len(), 1);
}

/// A gateway that is set up anew may say 410 of anything.
#[test]
fn a_gateways_410_ends_no_heartbeats() {
    let service = Service::start(|request| match request.path.as_str() {
        "session_heartbeat" => Reply::Full { status: 410, headers: Vec::new(), body: b"<html>Gone</html>".to_vec() },
        _ => healthy_service(request),
    });
    let manual = ManualClock::new();
    let client = connect(service.config().clock(manual.clock()));
    pass_heartbeats(&service, &manual, 3, Duration::from_secs(10));
    promptly(move || client.close(FAR));
}

/// A clock that also counts while the machine is suspended jumps by hours.
#[test]
fn a_clock_jump_causes_one_heartbeat() {
    let (service, manual) = (Service::start(healthy_service), ManualClock::new());
    let client = connect(service.config().clock(manual.clock()));
    pass_heartbeats(&service, &manual, 2, 5 * FAR);
    manual.until_waiting(|waits| waits == [Duration::from_secs(10)]);
    promptly(move || client.close(FAR));
    assert_eq!(service.requests_to("session_heartbeat").len(), 2);
}

#[test]
fn refused_heartbeats_continue() {
    let statuses = std::sync::atomic::AtomicUsize::new(0);
    let service = Service::start(move |request| match request.path.as_str() {
        "session_heartbeat" => {
            let number = statuses.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Reply::Json([401, 403, 404, 409, 422, 429][number % 6], json!({"detail": "no"}))
        }
        _ => healthy_service(request),
    });
    let manual = ManualClock::new();
    let client = connect(service.config().clock(manual.clock()));
    pass_heartbeats(&service, &manual, 7, Duration::from_secs(10));
    promptly(move || client.close(FAR));
}
