//! What a panic of the poller's thread does.

use std::net::TcpListener;
use std::thread;

use serde_json::Value;

use super::super::slots::Slots;
use super::super::{Manner, Outcome, Pending, PollGroup};
use super::*;
use crate::rules::seats::Id;

/// Asks for a promise under the next ticket.
fn ask(poller: &Poller, config: &Config, resubmit: Option<Resubmit>) -> Pending<Value> {
    let (slots, mut parts) = Slots::new("test", 1);
    poller.handle().ask(Promised {
        request_id: "r-1".into(),
        kind: RequestKind::Sample,
        round_trip: Duration::ZERO,
        group: PollGroup { client: GroupId(0), ordered: false },
        part: parts.remove(0),
        resubmit,
        timeout_progress: None,
    });
    let (clock, manner) = (config.clock().clone(), Manner::submitting(None));
    Outcome { slots, operation: "test", clock, manner, alive: Arc::new(()) }.pending_one()
}

#[test]
fn a_panic_of_the_poller_is_an_error_for_all_who_wait_and_for_all_who_come_later() {
    // Connections are made and never answered.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let config = Config::builder().api_key("tml-k").base_url(url).proxy(crate::config::Proxy::Off);
    let config = config.build_with(|_| None).unwrap();
    let http = Arc::new(Http::new(&config).unwrap());
    let poller = Poller::spawn(&http).unwrap();
    let panics = Resubmit { wait: Duration::ZERO, run: Box::new(|_part| panic!("resubmitting panics")) };
    let first = ask(&poller, &config, Some(panics));
    let others = [ask(&poller, &config, None), ask(&poller, &config, None)];
    // All three are being polled.
    let _connections: Vec<_> = (0..3).map(|_| silent.accept().unwrap()).collect();
    let waiting = others.map(|pending| thread::spawn(move || pending.wait().unwrap_err()));
    let meaning = Meaning::Expired { detail: "gone".into() };
    poller.handle().tell(Command::Replied(Id(0), Reply::Heard { meaning, error: None, held: Duration::ZERO }));
    let errors = [first.wait().unwrap_err()].into_iter().chain(waiting.map(|thread| thread.join().unwrap()));
    for error in errors {
        assert_eq!((error.kind(), error.request_id()), (ErrorKind::Panicked, Some("r-1")));
        assert!(error.may_have_taken_effect(), "{error}");
    }
    let later = ask(&poller, &config, None).wait().unwrap_err();
    assert_eq!((later.kind(), later.request_id()), (ErrorKind::Panicked, Some("r-1")));
    http.close();
    poller.close(config.clock().now() + Duration::from_secs(30));
}
