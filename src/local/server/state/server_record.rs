//! What successive servers of one data directory share.

use std::io;

use serde::{Deserialize, Serialize};

use super::store::Store;

const FILE: &str = "server.json";

/// Carried from each server of a data directory to the next.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ServerRecord {
    /// Number of earlier starts.
    pub(crate) starts: u64,
    /// The key that signs links and tokens, so that they stay valid across a restart.
    pub(crate) secret: [u8; 32],
}

impl ServerRecord {
    /// Reads the record, or creates one with a new secret, and writes it back with this start counted.
    pub(crate) fn for_next_start(store: &Store) -> io::Result<Self> {
        let record = match store.read_record(&[], FILE)? {
            Some(record) => record,
            None => ServerRecord { starts: 0, secret: random_secret()? },
        };
        store.write_private_record(&[], FILE, &ServerRecord { starts: record.starts + 1, ..record })?;
        Ok(record)
    }
}

fn random_secret() -> io::Result<[u8; 32]> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(io::Error::from)?;
    Ok(secret)
}
