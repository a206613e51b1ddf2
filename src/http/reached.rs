//! The servers that have responded.

use parking_lot::Mutex;

/// More servers than one client talks to.
const MAX_SERVERS: usize = 64;

/// The servers that have responded to this client.
#[derive(Default)]
pub(super) struct ReachedServers(Mutex<Vec<String>>);

impl ReachedServers {
    /// The server has responded.
    pub(super) fn insert(&self, server: &str) {
        let mut servers = self.0.lock();
        if servers.len() < MAX_SERVERS && !servers.iter().any(|known| known == server) {
            servers.push(server.to_owned());
        }
    }

    pub(super) fn contains(&self, server: &str) -> bool {
        self.0.lock().iter().any(|known| known == server)
    }
}
