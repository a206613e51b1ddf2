//! Names to addresses, remembered for a while.
//!
//! ureq asks its resolver on every request, also when the connection comes from the pool. A remembered address costs no
//! system call and no thread; one that refused is forgotten, so that the next attempt looks the name up again.

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

use crate::clock::Clock;

/// More names than one program talks to; the cache starts over when it is full.
const MAX_NAMES: usize = 64;

/// The size of ureq's array of addresses.
const MAX_ADDRESSES: usize = 16;

#[derive(Clone, Debug)]
pub(super) struct CachingResolver {
    known: Arc<Mutex<HashMap<String, Known>>>,
    clock: Clock,
    retention: Duration,
    lookup_limit: Duration,
}

#[derive(Debug)]
struct Known {
    addresses: Vec<SocketAddr>,
    until: Instant,
}

impl CachingResolver {
    /// Remembers addresses for `retention`; a lookup may take `lookup_limit`.
    pub(super) fn new(clock: Clock, retention: Duration, lookup_limit: Duration) -> Self {
        CachingResolver { known: Arc::default(), clock, retention, lookup_limit }
    }

    pub(super) fn forget(&self, uri: &Uri) {
        if let Some(name) = host_and_port(uri) {
            self.known.lock().remove(&name);
        }
    }
}

impl Resolver for CachingResolver {
    fn resolve(&self, uri: &Uri, _: &Config, call: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let name = host_and_port(uri).ok_or_else(|| Error::BadUri(uri.to_string()))?;
        let now = self.clock.now();
        let remembered = self.known.lock().get(&name).filter(|known| now < known.until).map(|k| k.addresses.clone());
        let addresses = match remembered {
            Some(addresses) => addresses,
            None => {
                let (limit, reason) = if *call.after < self.lookup_limit {
                    (*call.after, call.reason)
                } else {
                    (self.lookup_limit, Timeout::Resolve)
                };
                let addresses = look_up(&name, limit)?.ok_or(Error::Timeout(reason))?;
                let mut known = self.known.lock();
                if known.len() >= MAX_NAMES {
                    known.clear();
                }
                known.insert(name, Known { addresses: addresses.clone(), until: now + self.retention });
                addresses
            }
        };
        let mut resolved = self.empty();
        addresses.into_iter().take(MAX_ADDRESSES).for_each(|address| resolved.push(address));
        if resolved.is_empty() { Err(Error::HostNotFound) } else { Ok(resolved) }
    }
}

fn host_and_port(uri: &Uri) -> Option<String> {
    DefaultResolver::host_and_port(uri.scheme()?, uri.authority()?)
}

/// Looks a name up on a thread of its own, since the system's call cannot be bounded; an address needs no lookup. `None`
/// when it takes too long.
fn look_up(name: &str, limit: Duration) -> Result<Option<Vec<SocketAddr>>, Error> {
    if let Ok(address) = name.parse() {
        return Ok(Some(vec![address]));
    }
    let (found, addresses) = bounded(1);
    let owned = name.to_owned();
    thread::Builder::new().name("tinkex-dns".into()).spawn(move || {
        let result = owned.to_socket_addrs().map(Iterator::collect);
        // Nobody listens any more when the limit has passed.
        found.send(result).ok();
    })?;
    match addresses.recv_timeout(limit) {
        Ok(result) => result.map(Some).map_err(|error: io::Error| Error::Io(error)),
        Err(_) => Ok(None),
    }
}
