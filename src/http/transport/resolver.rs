//! A cache of name lookups.
//!
//! ureq asks its resolver on every request, even if the connection then comes from the pool, and its own resolver starts a
//! thread for each lookup with a timeout. A cached address costs no system call and no thread. An address that refused is
//! removed, so that the next attempt looks the name up again.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use parking_lot::Mutex;
use ureq::Error;
use ureq::Timeout;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::connect_error::ConnectError;
use crate::clock::Clock;
use crate::rules::connection_failure::ConnectionStage;

/// More names than one program talks to. A full cache is emptied.
const MAX_NAMES: usize = 64;

/// The size of ureq's array of addresses.
const MAX_ADDRESSES: usize = 16;

#[derive(Clone, Debug)]
pub(super) struct CachingResolver {
    cache: Arc<Mutex<HashMap<String, Entry>>>,
    /// Held during a lookup.
    lookup: Arc<Mutex<()>>,
    clock: Clock,
    retention: Duration,
    lookup_limit: Duration,
    stack_size: usize,
}

#[derive(Debug)]
struct Entry {
    addresses: Vec<SocketAddr>,
    until: Instant,
}

impl CachingResolver {
    /// Keeps addresses for `retention`. A lookup may take up to `lookup_limit`, on a thread with this stack.
    pub(super) fn new(clock: Clock, retention: Duration, lookup_limit: Duration, stack_size: usize) -> Self {
        CachingResolver { cache: Arc::default(), lookup: Arc::default(), clock, retention, lookup_limit, stack_size }
    }

    pub(super) fn forget(&self, uri: &Uri) {
        if let Some(name) = host_and_port(uri) {
            self.cache.lock().remove(&name);
        }
    }

    fn cached(&self, name: &str) -> Option<Vec<SocketAddr>> {
        let now = self.clock.now();
        self.cache.lock().get(name).filter(|entry| now < entry.until).map(|entry| entry.addresses.clone())
    }

    fn insert(&self, name: &str, addresses: &[SocketAddr]) {
        let mut cache = self.cache.lock();
        if cache.len() >= MAX_NAMES {
            cache.clear();
        }
        let until = self.clock.now() + self.retention;
        cache.insert(name.to_owned(), Entry { addresses: addresses.to_vec(), until });
    }

    /// The addresses of a name, from the cache or by a lookup within the limits. A literal address needs neither.
    fn addresses(&self, name: &str, call: NextTimeout) -> Result<Vec<SocketAddr>, Error> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        if let Some(addresses) = self.cached(name) {
            return Ok(addresses);
        }
        let (limit, reason) = if *call.after < self.lookup_limit {
            (*call.after, call.reason)
        } else {
            (self.lookup_limit, Timeout::Resolve)
        };
        // One lookup at a time: if the system's resolver hangs, only one thread hangs with it.
        let _turn = self.lookup.try_lock_for(limit).ok_or(Error::Timeout(reason))?;
        if let Some(addresses) = self.cached(name) {
            return Ok(addresses);
        }
        let addresses = look_up(name, limit, self.stack_size)?.ok_or(Error::Timeout(reason))?;
        self.insert(name, &addresses);
        Ok(addresses)
    }
}

impl Resolver for CachingResolver {
    fn resolve(&self, uri: &Uri, _: &Config, call: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let name = host_and_port(uri).ok_or_else(|| Error::BadUri(uri.to_string()))?;
        let mut resolved = self.empty();
        let failed = |error| ConnectError::at(ConnectionStage::Lookup, error);
        let addresses = self.addresses(&name, call).map_err(failed)?;
        addresses.into_iter().take(MAX_ADDRESSES).for_each(|address| resolved.push(address));
        if resolved.is_empty() { Err(failed(Error::HostNotFound)) } else { Ok(resolved) }
    }
}

fn host_and_port(uri: &Uri) -> Option<String> {
    DefaultResolver::host_and_port(uri.scheme()?, uri.authority()?)
}

/// Looks a name up on its own thread, since the system's call has no timeout. `None` if it takes too long.
fn look_up(name: &str, limit: Duration, stack_size: usize) -> Result<Option<Vec<SocketAddr>>, Error> {
    let (found, addresses) = bounded(1);
    let owned = name.to_owned();
    thread::Builder::new().name("tinkex-dns".into()).stack_size(stack_size).spawn(move || {
        let result = owned.to_socket_addrs().map(Iterator::collect);
        // Nobody receives it after the limit.
        found.send(result).ok();
    })?;
    match addresses.recv_timeout(limit) {
        Ok(result) => result.map(Some).map_err(|error: io::Error| Error::Io(error)),
        Err(_) => Ok(None),
    }
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
    const PATIENCE: Duration = Duration::from_secs(30);

    fn resolver(clock: &ManualClock, lookup_limit: Duration) -> CachingResolver {
        CachingResolver::new(clock.clock(), RETENTION, lookup_limit, 256 * 1024)
    }

    fn resolve(resolver: &CachingResolver, uri: &str) -> Vec<SocketAddr> {
        resolver.resolve(&uri.parse().unwrap(), &Config::default(), NextTimeout::default()).unwrap().to_vec()
    }

    /// Caches an address that the name does not have, to tell the cache from a lookup.
    fn remember(resolver: &CachingResolver, name: &str, address: &str) {
        let until = resolver.clock.now() + RETENTION;
        resolver.cache.lock().insert(name.to_owned(), Entry { addresses: vec![address.parse().unwrap()], until });
    }

    #[test]
    fn a_name_is_cached_with_its_port() {
        let resolver = resolver(&ManualClock::new(), PATIENCE);
        let found = resolve(&resolver, "http://localhost/a");
        assert!(!found.is_empty() && found.iter().all(|address| address.ip().is_loopback() && address.port() == 80));
        assert_eq!(resolver.cache.lock()["localhost:80"].addresses, found);
        remember(&resolver, "localhost:80", "192.0.2.1:80");
        assert_eq!(resolve(&resolver, "http://localhost/b"), ["192.0.2.1:80".parse().unwrap()]);
        assert!(resolve(&resolver, "https://localhost").iter().all(|address| address.port() == 443));
        assert_eq!(resolver.cache.lock().len(), 2);
    }

    #[test]
    fn an_address_expires_after_the_retention() {
        let clock = ManualClock::new();
        let resolver = resolver(&clock, PATIENCE);
        remember(&resolver, "localhost:80", "192.0.2.1:80");
        clock.advance(RETENTION - Duration::from_nanos(1));
        assert_eq!(resolve(&resolver, "http://localhost"), ["192.0.2.1:80".parse().unwrap()]);
        clock.advance(Duration::from_nanos(1));
        assert!(resolve(&resolver, "http://localhost").iter().all(|address| address.ip().is_loopback()));
        assert_eq!(resolver.cache.lock()["localhost:80"].until, clock.clock().now() + RETENTION);
    }

    #[test]
    fn an_address_that_refused_is_looked_up_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = format!("localhost:{}", listener.local_addr().unwrap().port());
        let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let resolver = resolver(&ManualClock::new(), PATIENCE);
        remember(&resolver, &name, &refusing.to_string());
        let config = crate::config::Config::builder().api_key("tml-k").base_url("http://127.0.0.1:1");
        let config = config.build_with(|_| None).unwrap();
        let agent = Agent::with_parts(
            Agent::config_builder().proxy(None).build(),
            connector(resolver.clone(), Security::new(&config)),
            resolver.clone(),
        );
        let url = format!("http://{name}/");
        assert!(agent.get(&url).call().is_err());
        assert!(resolver.cache.lock().is_empty());
        thread::scope(|scope| {
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
        let resolver = resolver(&ManualClock::new(), Duration::ZERO);
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
        let resolver = resolver(&ManualClock::new(), PATIENCE);
        for port in 1..=3 * MAX_NAMES {
            resolve(&resolver, &format!("http://127.0.0.1:{port}"));
            assert!(resolver.cache.lock().len() <= MAX_NAMES);
        }
    }

    #[test]
    fn an_unknown_name_is_not_cached() {
        let resolver = resolver(&ManualClock::new(), PATIENCE);
        // Too long for a name: refused without a query.
        let uri = format!("http://{}.invalid", "a".repeat(64)).parse().unwrap();
        assert!(resolver.resolve(&uri, &Config::default(), NextTimeout::default()).is_err());
        assert!(resolver.cache.lock().is_empty());
    }
}
