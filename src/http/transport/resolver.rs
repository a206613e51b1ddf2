//! A cache of name lookups.
//!
//! ureq asks its resolver on every request, even if the connection then comes from the pool, and its own resolver starts a
//! thread for each lookup with a timeout. A cached address costs no system call and no thread. An address that refused is
//! removed, so that the next attempt looks the name up again.

use std::collections::HashMap;
use std::error::Error as _;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use ureq::Error;
use ureq::Timeout;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::apart::{Reporter, Wait};
use super::connect_error::ConnectError;
use super::connections::{Connections, Group};
use crate::config::Config;
use crate::rules::connection_failure::ConnectionStage;
use crate::threads::{OwnedThread, ThreadOptions};

/// More names than one program talks to. A full cache is emptied.
const MAX_NAMES: usize = 64;

/// The size of ureq's array of addresses.
const MAX_ADDRESSES: usize = 16;

/// The resolver of a group's agent. All share the cache.
#[derive(Clone, Debug)]
pub(super) struct CachingResolver {
    names: Arc<Mutex<Names>>,
    options: ThreadOptions,
    retention: Duration,
    lookup_limit: Duration,
    connections: Arc<Connections>,
    group: Group,
}

#[derive(Debug, Default)]
struct Names {
    cache: HashMap<String, Entry>,
    /// Those that are being looked up, and who waits for them.
    lookups: HashMap<String, Vec<Reporter<Found>>>,
}

#[derive(Debug)]
struct Entry {
    addresses: Vec<SocketAddr>,
    until: Instant,
}

/// The outcome of a lookup, which several requests may wait for.
type Found = Result<Vec<SocketAddr>, (io::ErrorKind, String)>;

impl CachingResolver {
    /// Keeps addresses and limits lookups as configured.
    pub(super) fn new(config: &Config, connections: &Arc<Connections>, group: Group) -> Self {
        CachingResolver {
            names: Arc::default(),
            options: config.thread_options(),
            retention: config.dns_retention(),
            lookup_limit: config.timeout_connect(),
            connections: Arc::clone(connections),
            group,
        }
    }

    /// The same names, for the requests of this group.
    pub(super) fn of(&self, group: Group) -> Self {
        CachingResolver { group, ..self.clone() }
    }

    pub(super) fn forget(&self, uri: &Uri) {
        if let Some(name) = host_and_port(uri) {
            self.names.lock().cache.remove(&name);
        }
    }

    /// The addresses of a name, from the cache or by a lookup within the limits. A literal address needs neither.
    fn addresses(&self, name: &str, call: NextTimeout) -> Result<Vec<SocketAddr>, Error> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        let (limit, reason) = if *call.after < self.lookup_limit {
            (*call.after, call.reason)
        } else {
            (self.lookup_limit, Timeout::Resolve)
        };
        if let Some(addresses) = self.names.lock().cached(name, self.options.clock.now()) {
            return Ok(addresses);
        }
        let (wait, reporter) = Wait::begin()?;
        // Before others can rely on this lookup.
        if !self.connections.interrupt_on_close(self.group, wait.interrupt()) {
            return Err(io::Error::from(io::ErrorKind::ConnectionAborted).into());
        }
        let starts = {
            let mut names = self.names.lock();
            if let Some(addresses) = names.cached(name, self.options.clock.now()) {
                return Ok(addresses);
            }
            // One lookup of a name at a time: if the system's resolver hangs, only one thread hangs with it.
            let waiting = names.lookups.entry(name.to_owned()).or_default();
            waiting.push(reporter);
            waiting.len() == 1
        };
        if starts {
            self.start_lookup(name);
        }
        wait.end(limit, reason)?.map_err(|(kind, text)| io::Error::new(kind, text).into())
    }

    /// Looks a name up on its own thread, since nothing ends the system's call.
    fn start_lookup(&self, name: &str) {
        let (resolver, owned) = (self.clone(), name.to_owned());
        let run = move || {
            let found = resolver.options.clock.outside(|| owned.to_socket_addrs().map(Iterator::collect));
            resolver.found(&owned, found);
        };
        if let Err(error) = OwnedThread::spawn(&self.options, "dns", run) {
            let text = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            self.found(name, Err(io::Error::other(text)));
        }
    }

    fn found(&self, name: &str, found: io::Result<Vec<SocketAddr>>) {
        let found = found.map_err(|error| (error.kind(), error.to_string()));
        let mut names = self.names.lock();
        if let Ok(addresses) = &found {
            let until = self.options.clock.now() + self.retention;
            names.insert(name, Entry { addresses: addresses.clone(), until });
        }
        let waiting = names.lookups.remove(name).unwrap_or_default();
        drop(names);
        waiting.iter().for_each(|reporter| reporter.report(found.clone()));
    }
}

impl Names {
    fn cached(&self, name: &str, now: Instant) -> Option<Vec<SocketAddr>> {
        self.cache.get(name).filter(|entry| now < entry.until).map(|entry| entry.addresses.clone())
    }

    fn insert(&mut self, name: &str, entry: Entry) {
        if self.cache.len() >= MAX_NAMES {
            self.cache.clear();
        }
        self.cache.insert(name.to_owned(), entry);
    }
}

impl Resolver for CachingResolver {
    fn resolve(&self, uri: &Uri, _: &ureq::config::Config, call: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let name = host_and_port(uri).ok_or_else(|| Error::BadUri(uri.to_string()))?;
        let mut resolved = self.empty();
        let failed = |error| ConnectError::at(ConnectionStage::Lookup, error);
        let addresses = self.addresses(&name, call).or_else(|error| {
            let retries = ConnectError::is_out_of_files(&error) && self.connections.close_idle() > 0;
            if retries { self.addresses(&name, call) } else { Err(error) }
        });
        let addresses = addresses.map_err(failed)?;
        addresses.into_iter().take(MAX_ADDRESSES).for_each(|address| resolved.push(address));
        if resolved.is_empty() { Err(failed(Error::HostNotFound)) } else { Ok(resolved) }
    }
}

fn host_and_port(uri: &Uri) -> Option<String> {
    DefaultResolver::host_and_port(uri.scheme()?, uri.authority()?)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use ureq::Agent;

    use super::super::connector::connector;
    use super::super::security::Security;
    use super::*;
    use crate::clock::ManualClock;

    const RETENTION: Duration = Duration::from_secs(60);

    fn config(clock: &ManualClock) -> Config {
        let config = Config::builder().api_key("tml-k").base_url("http://127.0.0.1:1").clock(clock.clock());
        config.dns_retention(RETENTION).build_with(|_| None).unwrap()
    }

    fn resolver(clock: &ManualClock) -> CachingResolver {
        let config = config(clock);
        CachingResolver::new(&config, &Connections::new(&config), Group::External)
    }

    fn resolve(resolver: &CachingResolver, uri: &str) -> Vec<SocketAddr> {
        resolver
            .resolve(&uri.parse().unwrap(), &ureq::config::Config::default(), NextTimeout::default())
            .unwrap()
            .to_vec()
    }

    /// Caches an address that the name does not have, to tell the cache from a lookup.
    fn remember(resolver: &CachingResolver, name: &str, address: &str) {
        let until = resolver.options.clock.now() + RETENTION;
        resolver.names.lock().cache.insert(name.to_owned(), Entry { addresses: vec![address.parse().unwrap()], until });
    }

    #[test]
    fn a_name_is_cached_with_its_port() {
        let resolver = resolver(&ManualClock::new());
        let found = resolve(&resolver, "http://localhost/a");
        assert!(!found.is_empty() && found.iter().all(|address| address.ip().is_loopback() && address.port() == 80));
        assert_eq!(resolver.names.lock().cache["localhost:80"].addresses, found);
        remember(&resolver, "localhost:80", "192.0.2.1:80");
        assert_eq!(resolve(&resolver, "http://localhost/b"), ["192.0.2.1:80".parse().unwrap()]);
        assert!(resolve(&resolver, "https://localhost").iter().all(|address| address.port() == 443));
        assert_eq!(resolver.names.lock().cache.len(), 2);
    }

    #[test]
    fn an_address_expires_after_the_retention() {
        let clock = ManualClock::new();
        let resolver = resolver(&clock);
        remember(&resolver, "localhost:80", "192.0.2.1:80");
        clock.advance(RETENTION - Duration::from_nanos(1));
        assert_eq!(resolve(&resolver, "http://localhost"), ["192.0.2.1:80".parse().unwrap()]);
        clock.advance(Duration::from_nanos(1));
        assert!(resolve(&resolver, "http://localhost").iter().all(|address| address.ip().is_loopback()));
        assert_eq!(resolver.names.lock().cache["localhost:80"].until, clock.clock().now() + RETENTION);
    }

    #[test]
    fn an_address_that_refused_is_looked_up_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = format!("localhost:{}", listener.local_addr().unwrap().port());
        let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let resolver = resolver(&ManualClock::new());
        remember(&resolver, &name, &refusing.to_string());
        let config = config(&ManualClock::new());
        let agent = Agent::with_parts(
            Agent::config_builder().proxy(None).build(),
            connector(resolver.clone(), Security::new(&config), config.thread_options()),
            resolver.clone(),
        );
        let url = format!("http://{name}/");
        assert!(agent.get(&url).call().is_err());
        assert!(resolver.names.lock().cache.is_empty());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut stream = listener.accept().unwrap().0;
                assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
                stream.write_all(b"HTTP/1.1 204 OK\r\n\r\n").unwrap();
            });
            assert_eq!(agent.get(&url).call().unwrap().status(), 204);
        });
    }

    #[test]
    fn a_literal_address_needs_no_lookup() {
        // A lookup without any time fails.
        let resolver = CachingResolver { lookup_limit: Duration::ZERO, ..resolver(&ManualClock::new()) };
        for (uri, address) in [
            ("http://127.0.0.1", "127.0.0.1:80"),
            ("http://192.0.2.1:8000/x", "192.0.2.1:8000"),
            ("https://[::1]", "[::1]:443"),
            ("http://[2001:db8::1]:81", "[2001:db8::1]:81"),
        ] {
            assert_eq!(resolve(&resolver, uri), [address.parse().unwrap()], "{uri}");
        }
    }

    #[test]
    fn the_cache_is_bounded() {
        let resolver = resolver(&ManualClock::new());
        for port in 1..=3 * MAX_NAMES {
            resolve(&resolver, &format!("http://127.0.0.1:{port}"));
            assert!(resolver.names.lock().cache.len() <= MAX_NAMES);
        }
    }

    #[test]
    fn an_unknown_name_is_not_cached() {
        let resolver = resolver(&ManualClock::new());
        // Too long for a name: refused without a query.
        let uri = format!("http://{}.invalid", "a".repeat(64)).parse().unwrap();
        assert!(resolver.resolve(&uri, &ureq::config::Config::default(), NextTimeout::default()).is_err());
        assert!(resolver.names.lock().cache.is_empty());
    }

    /// A lookup that does not return, until the waiter is dropped.
    fn hang(resolver: &CachingResolver, name: &str) -> Wait<Found> {
        let (hanging, reporter) = Wait::begin().unwrap();
        resolver.names.lock().lookups.insert(name.to_owned(), vec![reporter]);
        hanging
    }

    fn until_waiting(resolver: &CachingResolver, name: &str, count: usize) {
        while resolver.names.lock().lookups[name].len() < count {
            std::thread::yield_now();
        }
    }

    #[test]
    fn closing_ends_a_lookup_that_hangs() {
        let resolver = resolver(&ManualClock::new());
        let _hanging = hang(&resolver, "localhost:80");
        let (uri, config) = ("http://localhost".parse().unwrap(), ureq::config::Config::default());
        std::thread::scope(|scope| {
            let waiting = || resolver.resolve(&uri, &config, NextTimeout::default()).unwrap_err();
            let waiters = [scope.spawn(waiting), scope.spawn(waiting)];
            until_waiting(&resolver, "localhost:80", 3);
            resolver.connections.close(Group::External);
            for waiter in waiters {
                assert!(!matches!(waiter.join().unwrap(), Error::Timeout(_)));
            }
        });
    }

    #[test]
    fn the_shorter_limit_ends_a_lookup() {
        let (short, long) = (Duration::from_millis(50), Duration::from_secs(3600));
        for (of_call, of_lookup, expected) in [(short, long, Timeout::Global), (long, short, Timeout::Resolve)] {
            let resolver = CachingResolver { lookup_limit: of_lookup, ..resolver(&ManualClock::new()) };
            let _hanging = hang(&resolver, "localhost:80");
            let call = NextTimeout { after: of_call.into(), reason: Timeout::Global, ..NextTimeout::default() };
            let error = resolver.addresses("localhost:80", call).unwrap_err();
            assert!(matches!(error, Error::Timeout(reason) if reason == expected), "{error:?}");
        }
    }

    #[test]
    fn one_lookup_serves_all_who_wait() {
        let resolver = resolver(&ManualClock::new());
        let _hanging = hang(&resolver, "localhost:80");
        std::thread::scope(|scope| {
            let waiters = [0; 3].map(|_| scope.spawn(|| resolve(&resolver, "http://localhost")));
            until_waiting(&resolver, "localhost:80", 4);
            resolver.found("localhost:80", Ok(vec!["192.0.2.1:80".parse().unwrap()]));
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), ["192.0.2.1:80".parse().unwrap()]);
            }
        });
        assert_eq!(resolve(&resolver, "http://localhost"), ["192.0.2.1:80".parse().unwrap()]);
    }
}
