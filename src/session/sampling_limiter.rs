//! How many samples may be submitted, and how fast, by all clients of one service and key in the process.
//!
//! A submission needs a token from the bucket of [`rules::token_bucket`](crate::rules::token_bucket), and a permit, whose number
//! and bytes [`rules::sample_admission`](crate::rules::sample_admission) limits. Both are for the submission alone: nothing is held while its result is polled, or long generations would
//! block the client. The registry forgets a service and key with the last client that uses them.
//!
//! Threads that have to wait form a queue. Only the first waits for a permit or a token, and wakes the next when it leaves; the
//! others sleep until they are woken, so that one token does not wake hundreds of threads.
//!
//! Lock order: the limiter's state, then the flag behind `is_closed` or the monitor of a waiter. The registry's lock is never
//! held together with any of them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};

use log::warn;
use parking_lot::Mutex;
use ureq::http::Uri;

use crate::clock::{Clock, Deadline, Monitor};
use crate::config::{Config, Secret};
use crate::error::{Error, Result};
use crate::process::Process;
use crate::rules::sample_admission::Admission;
use crate::rules::token_bucket::TokenBucket;

static LIMITERS: LazyLock<Mutex<HashMap<Key, Weak<SamplingLimiter>>>> = LazyLock::new(Mutex::default);

/// A service and a key for it.
type Key = (String, Secret);

/// The limits of sampling with one service and key.
pub(crate) struct SamplingLimiter {
    key: Key,
    state: Mutex<State>,
    clock: Clock,
    process: Process,
    /// Burst, rate and submissions in flight.
    limits: (u32, u32, usize),
}

struct State {
    bucket: TokenBucket,
    admission: Admission,
    /// In the order of their arrival.
    waiters: VecDeque<Arc<Waiter>>,
    /// How often a waiter tried to acquire a permit.
    #[cfg(test)]
    tries: usize,
}

/// Where a waiting thread sleeps; true once it was woken.
type Waiter = Monitor<bool>;

/// Permits one submission in flight; returned on drop.
pub(crate) struct Permit<'a> {
    limiter: &'a SamplingLimiter,
    /// What it counts for.
    bytes: usize,
}

impl SamplingLimiter {
    /// The limiter of this service and key. The first client of a key sets the limits for as long as the key is in use.
    /// `max_bytes` is the service's limit for the estimated bytes of prompts.
    pub(crate) fn of(config: &Config, max_bytes: usize) -> Arc<SamplingLimiter> {
        let key = (normalized_url(config.base_url()), config.credential().identity().clone());
        let limits = (config.sampling_burst(), config.sampling_rate(), config.max_sampling_in_flight());
        let limiter = SamplingLimiter::registered(config, key, limits, max_bytes);
        // Not under the registry's lock: the program's logger may drop a client.
        if limiter.limits != limits {
            warn!("sampling limits were already set by another client of this service and key; keeping those");
        }
        limiter
    }

    fn registered(config: &Config, key: Key, limits: (u32, u32, usize), max_bytes: usize) -> Arc<SamplingLimiter> {
        let mut limiters = LIMITERS.lock();
        // In a fork, the permits of the limiter are those of the other process's samples.
        let own = |limiter: &Arc<SamplingLimiter>| limiter.process.is_current();
        if let Some(limiter) = limiters.get(&key).and_then(Weak::upgrade).filter(own) {
            return limiter;
        }
        let clock = config.clock().clone();
        let state = State {
            bucket: TokenBucket::new(config.sampling_burst(), config.sampling_rate(), clock.now()),
            admission: Admission::new(config.max_sampling_in_flight(), max_bytes),
            waiters: VecDeque::new(),
            #[cfg(test)]
            tries: 0,
        };
        let limiter = Arc::new(SamplingLimiter {
            key: key.clone(),
            state: Mutex::new(state),
            clock,
            process: Process::current(),
            limits,
        });
        limiters.insert(key, Arc::downgrade(&limiter));
        limiter
    }

    /// Waits for a permit and a token, for a prompt of `estimate` bytes. Fails at the deadline, or once `is_closed` returns true, which it checks after each
    /// [`wake_all`](SamplingLimiter::wake_all).
    pub(crate) fn acquire(
        &self,
        estimate: usize,
        is_closed: impl Fn() -> bool,
        deadline: Option<Deadline>,
    ) -> Result<Permit<'_>> {
        let waiter = Waiter::new(false);
        self.state.lock().waiters.push_back(Arc::clone(&waiter));
        loop {
            let now = self.clock.now();
            let late = deadline.filter(|deadline| deadline.at <= now);
            let mut state = self.state.lock();
            if is_closed() || late.is_some() {
                state.leave(&waiter);
                return Err(late.map_or_else(Error::closed, |deadline| Error::timeout(deadline.limit)));
            }
            let retry_at = match state.try_acquire(&waiter, now) {
                Ok(()) => {
                    let bytes = state.admission.begin(estimate, now);
                    state.leave(&waiter);
                    return Ok(Permit { limiter: self, bytes });
                }
                Err(retry_at) => retry_at,
            };
            drop(state);
            let until = deadline.map(|deadline| deadline.at).into_iter().chain(retry_at).min();
            let mut woken = waiter.lock();
            while !*woken && !self.clock.wait_until(&waiter, &mut woken, until) {}
            *woken = false;
        }
    }

    /// Makes all waiting threads check whether their client was closed.
    pub(crate) fn wake_all(&self) {
        self.state.lock().waiters.iter().for_each(wake);
    }
}

impl State {
    /// Takes a token if this waiter is first and a permit is left. Otherwise fails with the instant to try again at, if there
    /// is one; a wake may come first.
    fn try_acquire(&mut self, waiter: &Arc<Waiter>, now: Instant) -> Result<(), Option<Instant>> {
        #[cfg(test)]
        {
            self.tries += 1;
        }
        let is_first = self.waiters.front().is_some_and(|first| Arc::ptr_eq(first, waiter));
        if !is_first {
            return Err(None);
        }
        match self.admission.check(now) {
            Ok(()) => self.bucket.take(now).map_err(Some),
            Err(retry_at) => Err(retry_at.map(|at| self.bucket.ready_at(now).map_or(at, |ready| ready.min(at)))),
        }
    }

    /// Removes a waiter, and wakes the next one if it was first.
    fn leave(&mut self, waiter: &Arc<Waiter>) {
        let position = self.waiters.iter().position(|other| Arc::ptr_eq(other, waiter));
        if let Some(position) = position {
            self.waiters.remove(position);
            if position == 0 {
                self.waiters.front().map(wake);
            }
        }
    }
}

fn wake(waiter: &Arc<Waiter>) {
    *waiter.lock() = true;
    waiter.notify_one();
}

impl Permit<'_> {
    /// Pauses all submissions after a 429. No other submission starts between the end of this one and the pause.
    pub(crate) fn pause(self, wait: Duration) {
        let now = self.limiter.clock.now();
        let mut state = self.limiter.state.lock();
        state.bucket.pause(now, wait);
        state.admission.refused(now);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let now = self.limiter.clock.now();
        let mut state = self.limiter.state.lock();
        // Otherwise the first waiter waits for a token, which wakes it.
        let was_full = state.admission.check(now).is_err();
        state.admission.end(self.bytes);
        if was_full {
            state.waiters.front().map(wake);
        }
    }
}

impl Drop for SamplingLimiter {
    fn drop(&mut self) {
        if !self.process.is_current() {
            return;
        }
        let mut limiters = LIMITERS.lock();
        // A new limiter for the key may have been made since the last client dropped this one.
        if limiters.get(&self.key).is_some_and(|limiter| limiter.strong_count() == 0) {
            limiters.remove(&self.key);
        }
    }
}

/// The base URL with its host in lower case and without a default port.
pub(crate) fn normalized_url(base_url: &str) -> String {
    let Ok(uri) = base_url.parse::<Uri>() else { return base_url.to_owned() };
    let scheme = uri.scheme_str().unwrap_or_default();
    let default_port = if scheme == "https" { 443 } else { 80 };
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let path = uri.path().trim_end_matches('/');
    format!("{scheme}://{host}:{}{path}", uri.port_u16().unwrap_or(default_port))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread::{self, JoinHandle};

    use crossbeam_channel::{Receiver, Sender, unbounded};

    use super::*;
    use crate::ConfigBuilder;
    use crate::clock::ManualClock;
    use crate::error::{ErrorKind, Limit};

    fn config(base_url: &str, key: &str) -> Config {
        Config::builder().api_key(key).base_url(base_url).build_with(|_| None).unwrap()
    }

    fn of(config: &Config) -> Arc<SamplingLimiter> {
        SamplingLimiter::of(config, usize::MAX)
    }

    #[test]
    fn one_service_and_key_share_a_limiter() {
        let limiter = of(&config("http://Localhost:80/a/", "tml-shared"));
        assert!(Arc::ptr_eq(&limiter, &of(&config("http://localhost/a", "tml-shared"))));
        for (url, key) in [
            ("http://localhost/a", "tml-other"),
            ("http://localhost/b", "tml-shared"),
            ("http://localhost:81/a", "tml-shared"),
            ("http://127.0.0.1/a", "tml-shared"),
        ] {
            assert!(!Arc::ptr_eq(&limiter, &of(&config(url, key))), "{url} {key}");
        }
    }

    #[test]
    fn the_first_client_sets_the_limits() {
        let with_burst = |burst| {
            let config = Config::builder().api_key("tml-first").base_url("http://localhost").sampling_burst(burst);
            of(&config.build_with(|_| None).unwrap())
        };
        let first = with_burst(3);
        assert!(Arc::ptr_eq(&first, &with_burst(5)));
        assert_eq!(first.limits.0, 3);
    }

    #[test]
    fn the_registry_forgets_unused_keys() {
        let config = config("http://localhost:9", "tml-forgotten");
        let (first, second) = (of(&config), of(&config));
        let key = first.key.clone();
        drop(first);
        assert!(LIMITERS.lock().contains_key(&key));
        drop(second);
        assert!(!LIMITERS.lock().contains_key(&key));
    }

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);

    /// A limiter on the manual clock, and threads that acquire permits.
    struct Fixture {
        manual: ManualClock,
        limiter: Arc<SamplingLimiter>,
        closed: Arc<AtomicBool>,
        /// Each thread with a permit sends here, receives whether to return it with a pause or without, and sends that it did.
        inside: (Sender<()>, Receiver<()>),
        release: (Sender<Option<Duration>>, Receiver<Option<Duration>>),
        left: (Sender<()>, Receiver<()>),
    }

    impl Fixture {
        fn new(set: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
            let manual = ManualClock::new();
            let builder =
                Config::builder().api_key(format!("tml-{:x}", fastrand::u64(..))).base_url("http://127.0.0.1:1");
            let config = set(builder.clock(manual.clock())).build_with(|_| None).unwrap();
            let (inside, release, left) = (unbounded(), unbounded(), unbounded());
            Fixture { manual, limiter: of(&config), closed: Arc::default(), inside, release, left }
        }

        fn acquire_in_thread(&self, closed: &Arc<AtomicBool>) -> JoinHandle<Result<()>> {
            let (limiter, closed) = (Arc::clone(&self.limiter), Arc::clone(closed));
            let (inside, release, left) = (self.inside.0.clone(), self.release.1.clone(), self.left.0.clone());
            // With a deadline, so that the manual clock shows who waits.
            let at = limiter.clock.now() + HOUR;
            thread::spawn(move || {
                let deadline = Deadline { at, limit: Limit::Operation };
                let permit = limiter.acquire(1, || closed.load(Ordering::Acquire), Some(deadline))?;
                inside.send(()).unwrap();
                match release.recv().unwrap() {
                    Some(wait) => permit.pause(wait),
                    None => drop(permit),
                }
                left.send(()).unwrap();
                Ok(())
            })
        }

        fn crowd(&self, count: usize) -> Vec<JoinHandle<Result<()>>> {
            (0..count).map(|_| self.acquire_in_thread(&self.closed)).collect()
        }

        fn until_inside(&self, count: usize) {
            (0..count).for_each(|_| self.inside.1.recv().unwrap());
        }

        fn release_permits(&self, how: impl IntoIterator<Item = Option<Duration>>) {
            for pause in how {
                self.release.0.send(pause).unwrap();
                self.left.1.recv().unwrap();
            }
        }

        fn tries(&self) -> usize {
            self.limiter.state.lock().tries
        }
    }

    #[test]
    fn a_permit_returned_with_a_pause_waits() {
        let fixture = Fixture::new(|config| config.max_sampling_in_flight(2));
        let threads = fixture.crowd(5);
        fixture.until_inside(2);
        fixture.manual.until_waiting(|waits| waits == [HOUR; 3]);
        fixture.release_permits([Some(SECOND), Some(3 * SECOND)]);
        // The first waiter was woken for the permit and waits for the end of the pause; at first perhaps of the shorter one.
        fixture.manual.until_waiting(|waits| waits[0] < 4 * SECOND && waits[1..] == [HOUR; 2]);
        fixture.manual.advance(2 * SECOND);
        fixture.manual.until_waiting(|waits| waits[0] > SECOND && waits[0] < 2 * SECOND);
        fixture.manual.advance(SECOND);
        assert!(fixture.inside.1.is_empty(), "a permit was given during the pause");
        fixture.manual.advance(SECOND);
        fixture.until_inside(2);
        fixture.manual.until_waiting(|waits| waits.len() == 1);
        assert!(fixture.inside.1.is_empty(), "a third permit was given");
        fixture.release_permits([None; 3]);
        threads.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
    }

    #[test]
    fn waits_end_at_the_deadline_or_close() {
        let fixture = Fixture::new(|config| config.max_sampling_in_flight(1));
        let holder = fixture.acquire_in_thread(&fixture.closed);
        fixture.until_inside(1);
        let late = fixture.acquire_in_thread(&fixture.closed);
        fixture.manual.until_waiting(|waits| waits == [HOUR]);
        fixture.manual.advance(HOUR);
        assert_eq!(late.join().unwrap().unwrap_err().kind(), ErrorKind::Timeout(Limit::Operation));
        let other = Arc::default();
        let threads = [&fixture.closed, &other].map(|closed| fixture.acquire_in_thread(closed));
        fixture.manual.until_waiting(|waits| waits == [HOUR; 2]);
        fixture.closed.store(true, Ordering::Release);
        fixture.limiter.wake_all();
        let [closed, open] = threads;
        assert_eq!(closed.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
        fixture.release_permits([None; 2]);
        holder.join().unwrap().unwrap();
        open.join().unwrap().unwrap();
    }

    #[test]
    fn only_the_first_waiter_tries_for_a_token() {
        // One token each second.
        let fixture = Fixture::new(|config| config.sampling_burst(1).sampling_rate(1));
        let threads = fixture.crowd(400);
        fixture.until_inside(1);
        for waiting in (1..400).rev() {
            fixture.manual.until_waiting(|waits| waits.len() == waiting && waits[0] <= SECOND);
            assert_eq!(fixture.inside.1.len(), 0, "two permits for one token");
            fixture.manual.advance(SECOND);
            fixture.until_inside(1);
        }
        // One on arrival, one as the first waiter, and one for its token.
        assert!(fixture.tries() <= 3 * 400, "{} tries", fixture.tries());
        fixture.release_permits([None; 400]);
        threads.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
    }
}
