//! How many samples may be submitted, and how fast, by all clients of one service and key in the process.
//!
//! Two gates stand before a submission: the token bucket of [`rules::bucket`](crate::rules::bucket), and a cap on the
//! submissions in flight. Nothing is held while a result is waited for. The registry forgets a service and key with the last
//! client that uses them.
//!
//! Who has to wait stands in line. Only the first in line waits for a place or a token, and calls the next when it goes; the
//! others sleep until they are called, so that a token does not wake hundreds of threads for one of them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};

use log::warn;
use parking_lot::Mutex;
use ureq::http::Uri;

use crate::clock::{Clock, Deadline, Monitor};
use crate::config::{Config, Secret};
use crate::error::{Error, Result};
use crate::http::Http;
use crate::rules::bucket::Bucket;

static GATES: LazyLock<Mutex<HashMap<Key, Weak<Gate>>>> = LazyLock::new(Mutex::default);

/// A service and a key on it.
type Key = (String, Secret);

/// The gates before sampling under one key.
pub(crate) struct Gate {
    key: Key,
    state: Mutex<State>,
    clock: Clock,
    /// Burst, rate and submissions in flight.
    limits: (u32, u32, usize),
}

struct State {
    bucket: Bucket,
    in_flight: usize,
    max_in_flight: usize,
    /// Those who wait, by when they came.
    line: VecDeque<Arc<Turn>>,
    /// How often somebody looked whether it may go.
    #[cfg(test)]
    looks: usize,
}

/// Where one of those in line sleeps; true when it was called.
type Turn = Monitor<bool>;

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
        let state = State {
            bucket: Bucket::new(config.sampling_burst(), config.sampling_rate(), clock.now()),
            in_flight: 0,
            max_in_flight: config.max_sampling_in_flight(),
            line: VecDeque::new(),
            #[cfg(test)]
            looks: 0,
        };
        let gate = Arc::new(Gate { key: key.clone(), state: Mutex::new(state), clock, limits });
        gates.insert(key, Arc::downgrade(&gate));
        gate
    }

    /// Waits for its turn, the deadline or the close of the client.
    pub(crate) fn pass(&self, http: &Http, deadline: Option<Deadline>) -> Result<Pass<'_>> {
        let turn = Turn::new(false);
        self.state.lock().line.push_back(Arc::clone(&turn));
        loop {
            let now = self.clock.now();
            let late = deadline.filter(|deadline| deadline.at <= now);
            let mut state = self.state.lock();
            if http.is_closed() || late.is_some() {
                state.leave(&turn);
                return Err(late.map_or_else(Error::closed, |deadline| Error::timeout(deadline.limit)));
            }
            let token_at = match state.look(&turn, now) {
                Ok(()) => {
                    state.in_flight += 1;
                    state.leave(&turn);
                    return Ok(Pass(self));
                }
                Err(token_at) => token_at,
            };
            drop(state);
            let until = deadline.map(|deadline| deadline.at).into_iter().chain(token_at).min();
            let mut called = turn.lock();
            while !*called && !self.clock.wait_until(&turn, &mut called, until) {}
            *called = false;
        }
    }

    /// Makes all waiting threads look whether their client was closed.
    pub(crate) fn wake_all(&self) {
        self.state.lock().line.iter().for_each(call);
    }
}

impl State {
    /// Whether this one may go now; else, when to look again if nobody calls before.
    fn look(&mut self, turn: &Arc<Turn>, now: Instant) -> Result<(), Option<Instant>> {
        #[cfg(test)]
        {
            self.looks += 1;
        }
        let first = self.line.front().is_some_and(|first| Arc::ptr_eq(first, turn));
        if !first || self.in_flight >= self.max_in_flight {
            return Err(None);
        }
        self.bucket.take(now).map_err(Some)
    }

    /// Takes one out of the line, and calls who is first then.
    fn leave(&mut self, turn: &Arc<Turn>) {
        let place = self.line.iter().position(|other| Arc::ptr_eq(other, turn));
        if let Some(place) = place {
            self.line.remove(place);
            if place == 0 {
                self.line.front().map(call);
            }
        }
    }
}

fn call(turn: &Arc<Turn>) {
    *turn.lock() = true;
    turn.notify_one();
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
        // Else the first in line waits for a token.
        let was_full = state.in_flight >= state.max_in_flight;
        state.in_flight = state.in_flight.saturating_sub(1);
        if was_full {
            state.line.front().map(call);
        }
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
    use crate::ConfigBuilder;
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

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);

    /// A gate on the manual clock, and the threads that go through it.
    struct Bench {
        manual: ManualClock,
        gate: Arc<Gate>,
        http: Arc<Http>,
        /// Each that is inside says so, waits to be told to go on, with a pause or without, and says that it has left.
        inside: (Sender<()>, Receiver<()>),
        go_on: (Sender<Option<Duration>>, Receiver<Option<Duration>>),
        left: (Sender<()>, Receiver<()>),
    }

    impl Bench {
        fn new(set: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
            let manual = ManualClock::new();
            let builder =
                Config::builder().api_key(format!("tml-{:x}", fastrand::u64(..))).base_url("http://127.0.0.1:1");
            let config = set(builder.clock(manual.clock())).build_with(|_| None).unwrap();
            let http = Arc::new(Http::new(&config).unwrap());
            let (gate, inside, go_on, left) = (Gate::of(&config), unbounded(), unbounded(), unbounded());
            Bench { manual, gate, http, inside, go_on, left }
        }

        fn pass_in_thread(&self, http: &Arc<Http>) -> JoinHandle<Result<()>> {
            let (gate, http, inside) = (Arc::clone(&self.gate), Arc::clone(http), self.inside.0.clone());
            let (go_on, left) = (self.go_on.1.clone(), self.left.0.clone());
            // With a limit, so that the manual clock shows who waits.
            let at = gate.clock.now() + HOUR;
            thread::spawn(move || {
                let pass = gate.pass(&http, Some(Deadline { at, limit: Limit::Operation }))?;
                inside.send(()).unwrap();
                match go_on.recv().unwrap() {
                    Some(wait) => pass.pause(wait),
                    None => drop(pass),
                }
                left.send(()).unwrap();
                Ok(())
            })
        }

        fn crowd(&self, count: usize) -> Vec<JoinHandle<Result<()>>> {
            (0..count).map(|_| self.pass_in_thread(&self.http)).collect()
        }

        fn until_inside(&self, count: usize) {
            (0..count).for_each(|_| self.inside.1.recv().unwrap());
        }

        fn release(&self, how: impl IntoIterator<Item = Option<Duration>>) {
            for pause in how {
                self.go_on.0.send(pause).unwrap();
                self.left.1.recv().unwrap();
            }
        }

        fn looks(&self) -> usize {
            self.gate.state.lock().looks
        }
    }

    #[test]
    fn who_waited_for_a_place_waits_out_the_pause_that_comes_with_it_and_then_all_places_are_taken() {
        let bench = Bench::new(|config| config.max_sampling_in_flight(2));
        let threads = bench.crowd(5);
        bench.until_inside(2);
        bench.manual.until_waiting(|waits| waits == [HOUR; 3]);
        bench.release([Some(SECOND), Some(3 * SECOND)]);
        // The first in line was called to the place, and waits for the end of the pause; at first perhaps of the shorter one.
        bench.manual.until_waiting(|waits| waits[0] < 4 * SECOND && waits[1..] == [HOUR; 2]);
        bench.manual.advance(2 * SECOND);
        bench.manual.until_waiting(|waits| waits[0] > SECOND && waits[0] < 2 * SECOND);
        bench.manual.advance(SECOND);
        assert!(bench.inside.1.is_empty(), "somebody passed in the pause");
        bench.manual.advance(SECOND);
        bench.until_inside(2);
        bench.manual.until_waiting(|waits| waits.len() == 1);
        assert!(bench.inside.1.is_empty(), "a third one passed");
        bench.release([None; 3]);
        threads.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
    }

    #[test]
    fn a_wait_at_the_gate_ends_with_its_limit_or_the_close_of_its_own_client() {
        let bench = Bench::new(|config| config.max_sampling_in_flight(1));
        let holder = bench.pass_in_thread(&bench.http);
        bench.until_inside(1);
        let late = bench.pass_in_thread(&bench.http);
        bench.manual.until_waiting(|waits| waits == [HOUR]);
        bench.manual.advance(HOUR);
        assert_eq!(late.join().unwrap().unwrap_err().kind(), ErrorKind::Timeout(Limit::Operation));
        let other = Arc::new(Http::new(bench.http.config()).unwrap());
        let threads = [&bench.http, &other].map(|http| bench.pass_in_thread(http));
        bench.manual.until_waiting(|waits| waits == [HOUR; 2]);
        bench.http.close();
        bench.gate.wake_all();
        let [closed, open] = threads;
        assert_eq!(closed.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
        bench.release([None; 2]);
        holder.join().unwrap().unwrap();
        open.join().unwrap().unwrap();
    }

    #[test]
    fn of_four_hundred_waiting_threads_only_the_first_looks_for_a_token() {
        // One token each second.
        let bench = Bench::new(|config| config.sampling_burst(1).sampling_rate(1));
        let threads = bench.crowd(400);
        bench.until_inside(1);
        for waiting in (1..400).rev() {
            bench.manual.until_waiting(|waits| waits.len() == waiting && waits[0] <= SECOND);
            assert_eq!(bench.inside.1.len(), 0, "two passed for one token");
            bench.manual.advance(SECOND);
            bench.until_inside(1);
        }
        // Each when it came, when it was first, and at its token.
        assert!(bench.looks() <= 3 * 400, "{} looks", bench.looks());
        bench.release([None; 400]);
        threads.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
    }
}
