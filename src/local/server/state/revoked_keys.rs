//! The API keys that their users revoked.

use std::collections::BTreeSet;
use std::io;

use parking_lot::Mutex;

use super::owner::Owner;
use super::store::Store;

const FILE: &str = "revoked_keys.json";

/// More keys are not revoked: by default any text is a key, and each revoked one takes memory for ever.
const MAX: usize = 10_000;

/// The revoked keys, kept across restarts.
#[derive(Debug)]
pub(crate) struct RevokedKeys(Mutex<BTreeSet<Owner>>);

impl RevokedKeys {
    pub(super) fn read(store: &Store) -> io::Result<Self> {
        Ok(RevokedKeys(Mutex::new(store.read_record(&[], FILE)?.unwrap_or_default())))
    }

    /// Revokes a key. Returns false if there are too many.
    pub(crate) fn add(&self, store: &Store, owner: &Owner) -> io::Result<bool> {
        let mut keys = self.0.lock();
        if keys.contains(owner) || keys.len() >= MAX {
            return Ok(keys.contains(owner));
        }
        keys.insert(owner.clone());
        let written = store.write_record(&[], FILE, &*keys);
        if written.is_err() {
            keys.remove(owner);
        }
        written.map(|()| true)
    }

    pub(crate) fn contains(&self, owner: &Owner) -> bool {
        self.0.lock().contains(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_revoked_keys_is_limited() {
        let store = Store::in_memory();
        let keys = RevokedKeys::read(&store).unwrap();
        let owner = |number: usize| Owner::of_key(&format!("tml-{number}"));
        assert!((0..MAX).all(|number| keys.add(&store, &owner(number)).unwrap()));
        assert!(!keys.add(&store, &owner(MAX)).unwrap() && !keys.contains(&owner(MAX)));
        assert!(keys.add(&store, &owner(0)).unwrap() && keys.contains(&owner(0)));
    }
}
