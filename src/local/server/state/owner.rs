//! Ownership by API key.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The owner of a resource: a hash of the API key. The key itself is never stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Owner(String);

impl Owner {
    pub(crate) fn of_key(key: &str) -> Self {
        let digest = Sha256::digest(["tinkex owner ", key].concat());
        let hex: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Owner(format!("key-{hex}"))
    }

    /// The owner as clients see it, such as `key-0123456789abcdef`.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_identifies_its_key_without_revealing_it() {
        let owner = Owner::of_key("tml-secret");
        assert_eq!(owner, Owner::of_key("tml-secret"));
        assert_ne!(owner, Owner::of_key("tml-other"));
        assert!(!owner.as_str().contains("secret"));
    }
}
