//! Ownership by API key.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The owner of a resource: a hash of the API key. The key itself is never stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

    /// The owner as a number, of which a JavaScript or Python float holds every digit.
    pub(crate) fn number(&self) -> u64 {
        let digits = self.0.strip_prefix("key-").and_then(|hex| hex.get(..13));
        digits.and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or_default()
    }

    /// An address for clients that show one; no mail arrives there.
    pub(crate) fn email(&self) -> String {
        format!("{}@localhost", self.0)
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
        assert_ne!(owner.number(), Owner::of_key("tml-other").number());
        assert!(owner.number() > 0 && owner.number() < 1 << 53);
    }
}
