//! How many samples may be submitted, and how fast, by all clients of one service and key in the process.
//!
//! Two gates stand before a submission: the token bucket of [`rules::bucket`](crate::rules::bucket), and a cap on the
//! submissions in flight. Nothing is held while a result is waited for. The registry forgets a service and key with the last
//! client that uses them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};

use log::warn;
use parking_lot::Mutex;
use ureq::http::Uri;

use crate::clock::{Clock, Monitor};
use crate::config::{Config, Secret};
use crate::error::{Error, Result};
use crate::http::{Deadline, Http};
use crate::rules::bucket::Bucket;

static GATES: LazyLock<Mutex<HashMap<Key, Weak<Gate>>>> = LazyLock::new(Mutex::default);

/// A service and a key on it.
type Key = (String, Secret);

/// The gates before sampling under one key.
pub(crate) struct Gate {
    key: Key,
    state: Arc<Monitor<State>>,
    clock: Clock,
    /// Burst, rate and submissions in flight.
    limits: (u32, u32, usize),
}

struct State {
    bucket: Bucket,
    in_flight: usize,
}

/// The right to have one submission in flight, given back when it drops.
pub(crate) struct Pass<'a>(&'a Gate);

impl Gate {
    /// The gate of this service and key. The first client of a key decides the limits while the key is in use.
    pub(crate) fn of(config: &Config) -> Arc<Gate> {
        let key = (normalised(config.base_url()), config.api_key().clone());
        let limits = (config.sampling_burst(), config.sampling_rate(), config.max_sampling_in_flight());
        let gate = Gate::registered(config, key, limits);
        // Not under the registry's lock: a logger may be the program's, and drop a client.
        if gate.limits != limits {
            warn!("another client of this service and key was first: its sampling limits hold");
        }
        gate
    }

    fn registered(config: &Config, key: Key, limits: (u32, u32, usize)) -> Arc<Gate> {
        let mut gates = GATES.lock();
        if let Some(gate) = gates.get(&key).and_then(Weak::upgrade) {
            return gate;
        }
        let clock = config.clock().clone();
        let bucket = Bucket::new(config.sampling_burst(), config.sampling_rate(), clock.now());
        let gate =
            Arc::new(Gate { key: key.clone(), state: Monitor::new(State { bucket, in_flight: 0 }), clock, limits });
        gates.insert(key, Arc::downgrade(&gate));
        gate
    }

    /// Waits for its turn, the deadline or the close of the client.
    pub(crate) fn pass(&self, http: &Http, deadline: Option<Deadline>) -> Result<Pass<'_>> {
        let mut state = self.state.lock();
        loop {
            let now = self.clock.now();
            if http.is_closed() {
                self.state.notify_one();
                return Err(Error::closed());
            }
            if let Some(deadline) = deadline.filter(|deadline| deadline.at <= now) {
                self.state.notify_one();
                return Err(Error::timeout(deadline.limit));
            }
            let mut until = deadline.map(|deadline| deadline.at);
            if state.in_flight < self.limits.2 {
                match state.bucket.take(now) {
                    Ok(()) => {
                        state.in_flight += 1;
                        // The next in line may have slept through a notification that came to one who waited for a token.
                        self.state.notify_one();
                        return Ok(Pass(self));
                    }
                    Err(at) => until = Some(until.map_or(at, |until: Instant| until.min(at))),
                }
            }
            self.clock.wait_until(&self.state, &mut state, until);
        }
    }

    /// Makes all waiting threads look whether their client was closed.
    pub(crate) fn wake_all(&self) {
        drop(self.state.lock());
        self.state.notify_all();
    }
}

impl Pass<'_> {
    /// The service said 429: everyone waits. Nobody passes between the end of this submission and the pause.
    pub(crate) fn pause(self, wait: Duration) {
        let now = self.0.clock.now();
        self.0.state.lock().bucket.pause(now, wait);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        drop(state);
        self.0.state.notify_one();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let mut gates = GATES.lock();
        // A new gate for the key may have been made since the last client let go of this one.
        if gates.get(&self.key).is_some_and(|gate| gate.strong_count() == 0) {
            gates.remove(&self.key);
        }
    }
}

/// The base URL with its host in lower case and without a default port.
fn normalised(base_url: &str) -> String {
    let Ok(uri) = base_url.parse::<Uri>() else { return base_url.to_owned() };
    let scheme = uri.scheme_str().unwrap_or_default();
    let default_port = if scheme == "https" { 443 } else { 80 };
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let path = uri.path().trim_end_matches('/');
    format!("{scheme}://{host}:{}{path}", uri.port_u16().unwrap_or(default_port))
}

#[cfg(test)]
mod tests {
    use std::thread::{self, JoinHandle};

    use crossbeam_channel::{Receiver, Sender, unbounded};

    use super::*;
    use crate::clock::ManualClock;
    use crate::error::{ErrorKind, Limit};

    fn config(base_url: &str, key: &str) -> Config {
        Config::builder().api_key(key).base_url(base_url).build_with(|_| None).unwrap()
    }

    #[test]
    fn one_service_and_key_share_a_gate_however_the_url_is_written() {
        let gate = Gate::of(&config("http://Localhost:80/a/", "tml-shared"));
        assert!(Arc::ptr_eq(&gate, &Gate::of(&config("http://localhost/a", "tml-shared"))));
        for (url, key) in [
            ("http://localhost/a", "tml-other"),
            ("http://localhost/b", "tml-shared"),
            ("http://localhost:81/a", "tml-shared"),
            ("http://127.0.0.1/a", "tml-shared"),
        ] {
            assert!(!Arc::ptr_eq(&gate, &Gate::of(&config(url, key))), "{url} {key}");
        }
    }

    #[test]
    fn the_registry_forgets_a_key_with_its_last_client() {
        let config = config("http://localhost:9", "tml-forgotten");
        let (first, second) = (Gate::of(&config), Gate::of(&config));
        let key = first.key.clone();
        drop(first);
        assert!(GATES.lock().contains_key(&key));
        drop(second);
        assert!(!GATES.lock().contains_key(&key));
    }

    /// Threads that pass the gate and say so, and then stay inside until they are told to go on: with a pause or without.
    fn pass_in_thread(
        gate: &Arc<Gate>,
        http: &Arc<Http>,
        inside: &Sender<()>,
        go_on: &Receiver<Option<Duration>>,
    ) -> JoinHandle<Result<()>> {
        let (gate, http, inside, go_on) = (Arc::clone(gate), Arc::clone(http), inside.clone(), go_on.clone());
        // With a limit, so that the manual clock shows who waits.
        let at = gate.clock.now() + HOUR;
        thread::spawn(move || {
            let pass = gate.pass(&http, Some(Deadline { at, limit: Limit::Operation }))?;
            inside.send(()).unwrap();
            if let Some(wait) = go_on.recv().unwrap() {
                pass.pause(wait);
            }
            Ok(())
        })
    }

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);

    fn manual_gate(max_in_flight: usize) -> (ManualClock, Arc<Gate>, Arc<Http>) {
        let manual = ManualClock::new();
        let builder = Config::builder().api_key(format!("tml-{:x}", fastrand::u64(..))).base_url("http://127.0.0.1:1");
        let builder = builder.clock(manual.clock()).max_sampling_in_flight(max_in_flight);
        let config = builder.build_with(|_| None).unwrap();
        let http = Arc::new(Http::new(&config).unwrap());
        (manual, Gate::of(&config), http)
    }

    #[test]
    fn who_waited_for_a_place_waits_out_the_pause_that_comes_with_it_and_then_all_places_are_taken() {
        let (manual, gate, http) = manual_gate(2);
        let ((inside, entered), (release, released)) = (unbounded(), unbounded());
        let threads: Vec<_> = (0..5).map(|_| pass_in_thread(&gate, &http, &inside, &released)).collect();
        entered.recv().unwrap();
        entered.recv().unwrap();
        manual.until_waiting(|waits| waits == [HOUR; 3]);
        release.send(Some(SECOND)).unwrap();
        release.send(Some(3 * SECOND)).unwrap();
        // Each place that was given back wakes one who waited for it, to wait for the end of the pause.
        let paused = |wait: &&Duration| **wait < 4 * SECOND;
        manual.until_waiting(|waits| {
            waits.iter().filter(paused).count() == 2 && waits.iter().any(|w| *w > 3 * SECOND && *w < 4 * SECOND)
        });
        manual.advance(3 * SECOND);
        assert!(entered.is_empty(), "somebody passed in the pause");
        manual.advance(SECOND);
        entered.recv().unwrap();
        entered.recv().unwrap();
        manual.until_waiting(|waits| waits.len() == 1);
        assert!(entered.is_empty(), "a third one passed");
        for _ in 0..3 {
            release.send(None).unwrap();
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
    }

    #[test]
    fn a_wait_at_the_gate_ends_with_its_limit_or_the_close_of_its_own_client() {
        let (manual, gate, http) = manual_gate(1);
        let ((inside, entered), (release, released)) = (unbounded(), unbounded());
        let holder = pass_in_thread(&gate, &http, &inside, &released);
        entered.recv().unwrap();
        let late = pass_in_thread(&gate, &http, &inside, &released);
        manual.until_waiting(|waits| waits == [HOUR]);
        manual.advance(HOUR);
        assert_eq!(late.join().unwrap().unwrap_err().kind(), ErrorKind::Timeout(Limit::Operation));
        let other = Arc::new(Http::new(http.config()).unwrap());
        let threads = [&http, &other].map(|http| pass_in_thread(&gate, http, &inside, &released));
        manual.until_waiting(|waits| waits == [HOUR; 2]);
        http.close();
        gate.wake_all();
        let [closed, open] = threads;
        assert_eq!(closed.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
        release.send(None).unwrap();
        release.send(None).unwrap();
        holder.join().unwrap().unwrap();
        open.join().unwrap().unwrap();
    }
}
