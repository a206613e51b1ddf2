//! Panics of the poller's thread, and what it forgets.

use std::net::TcpListener;
use std::thread;

use serde_json::Value;

use super::super::{CallHandle, CallMode, Pending, PollClient, Resubmission, SubmittedCall};
use super::*;
use crate::config::{Config, Proxy};
use crate::types::RequestKind;

/// Has a promise polled under the next ticket.
fn track(poller: &Poller, config: &Config, resubmission: Option<Resubmission>) -> Pending<Value> {
    track_for(poller.handle().new_client(false), poller, config, resubmission)
}

fn track_for(
    client: Arc<PollClient>,
    poller: &Poller,
    config: &Config,
    resubmission: Option<Resubmission>,
) -> Pending<Value> {
    let (handle, completer) = CallHandle::new("test");
    let now = config.clock().now();
    let promise = TrackedPromise::new("r-1", RequestKind::Sample, client, completer, config, now);
    poller.handle().track(promise.resubmission(resubmission));
    let (poller, mode) = (poller.handle().clone(), CallMode::submitting(None));
    SubmittedCall { handle, operation: "test", mode, poller, keep_alive: Arc::new(()) }.pending_one()
}

#[test]
fn a_panic_is_an_error_for_every_promise() {
    // It accepts connections and never responds.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let config = Config::builder().api_key("tml-k").base_url(url).proxy(Proxy::Off);
    let config = config.build_with(|_| None).unwrap();
    let http = Arc::new(Http::new(&config).unwrap());
    let poller = Poller::spawn(&http, Telemetry::default()).unwrap();
    let panics = Resubmission::after(Duration::ZERO, |_completer| panic!("resubmitting panics"));
    let first = track(&poller, &config, Some(panics));
    let others = [track(&poller, &config, None), track(&poller, &config, None)];
    // All three are being polled.
    let _connections: Vec<_> = (0..3).map(|_| silent.accept().unwrap()).collect();
    let waiting = others.map(|pending| thread::spawn(move || pending.wait().unwrap_err()));
    let outcome = PollOutcome::Gone { detail: "gone".into() };
    poller.handle().send(Command::Replied(Ticket(0), Reply::Polled { outcome, held: Duration::ZERO, trouble: None }));
    let errors = [first.wait().unwrap_err()].into_iter().chain(waiting.map(|thread| thread.join().unwrap()));
    for error in errors {
        assert_eq!((error.kind(), error.request_id()), (ErrorKind::Panicked, Some("r-1")));
        assert!(error.may_have_taken_effect(), "{error}");
    }
    let later = track(&poller, &config, None).wait().unwrap_err();
    assert_eq!((later.kind(), later.request_id()), (ErrorKind::Panicked, Some("r-1")));
    http.close();
    poller.close(config.clock().now() + Duration::from_secs(30));
}

#[test]
fn sessions_of_dropped_clients_are_forgotten() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let config = Config::builder().api_key("tml-k").base_url(url).proxy(Proxy::Off).build_with(|_| None).unwrap();
    let http = Arc::new(Http::new(&config).unwrap());
    let poller = Poller::spawn(&http, Telemetry::default()).unwrap();
    let sample = || {
        let client = poller.handle().new_sampler("s", 0);
        let session = Arc::downgrade(client.target.as_ref().unwrap());
        (track_for(client, &poller, &config, None), session)
    };
    // A sample that was given up may still finish, and is remembered as long as its client may submit others.
    let (given_up, session) = sample();
    drop((silent.accept().unwrap(), given_up));
    let until = config.clock().now() + Duration::from_secs(30);
    while session.strong_count() > 0 {
        assert!(config.clock().now() < until, "it is kept for ever");
        let (later, _) = sample();
        drop((silent.accept().unwrap(), later));
    }
    http.close();
    poller.close(config.clock().now() + Duration::from_secs(30));
}
