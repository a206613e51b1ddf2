//! Who owns what, and links that prove themselves.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Whose something is: a hash of the API key, which itself is kept nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Owner(String);

impl Owner {
    pub(super) fn of(key: &str) -> Self {
        let digest = Sha256::digest(["tinkex owner ", key].concat());
        Owner(format!("key-{}", hex(&digest[..8])))
    }

    /// As it is shown to users.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Signs paths that may be fetched for a while, by anyone who has the link.
#[derive(Debug)]
pub(super) struct Signer {
    secret: [u8; 32],
}

impl Signer {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Signer { secret }
    }

    /// The query that makes a path a link which ends then.
    pub(super) fn sign(&self, path: &str, end: SystemTime) -> String {
        let expires = end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        format!("expires={expires}&signature={}", hex(&self.mac(path, expires).finalize().into_bytes()))
    }

    /// Why a link does not hold at this time, if it doesn't.
    pub(super) fn check(&self, path: &str, query: &str, now: SystemTime) -> Result<(), &'static str> {
        let fields = query.strip_prefix("expires=").and_then(|query| query.split_once("&signature="));
        let (expires, signature) = fields.ok_or("the link is not signed")?;
        let (Ok(expires), Some(signature)) = (expires.parse(), unhex(signature)) else {
            return Err("the link is not signed");
        };
        self.mac(path, expires).verify_slice(&signature).map_err(|_| "the signature is wrong")?;
        let end = UNIX_EPOCH.checked_add(Duration::from_secs(expires)).ok_or("the link is not signed")?;
        if now < end { Ok(()) } else { Err("the link has expired") }
    }

    fn mac(&self, path: &str, expires: u64) -> Hmac<Sha256> {
        // HMAC takes keys of every length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes a key of any length");
        mac.update(format!("{expires} {path}").as_bytes());
        mac
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<Vec<u32>>>()?;
    let pairs = digits.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_holds_for_its_path_and_time_only() {
        let signer = Signer::new([7; 32]);
        let start = UNIX_EPOCH + Duration::from_secs(1000);
        let query = signer.sign("/a", start + Duration::from_secs(10));
        assert_eq!(signer.check("/a", &query, start), Ok(()));
        assert_eq!(signer.check("/a", &query, start + Duration::from_secs(10)), Err("the link has expired"));
        assert_eq!(signer.check("/b", &query, start), Err("the signature is wrong"));
        assert_eq!(signer.check("/a", &query.replace("1010", "9010"), start), Err("the signature is wrong"));
        assert_eq!(Signer::new([8; 32]).check("/a", &query, start), Err("the signature is wrong"));
        for query in ["", "expires=1", "expires=1&signature=0", "expires=x&signature=00", "expires=1&signature=zz"] {
            assert_eq!(signer.check("/a", query, start), Err("the link is not signed"), "{query}");
        }
    }

    #[test]
    fn an_owner_is_known_by_the_key_and_does_not_tell_it() {
        let owner = Owner::of("tml-secret");
        assert_eq!(owner, Owner::of("tml-secret"));
        assert_ne!(owner, Owner::of("tml-other"));
        assert!(!owner.as_str().contains("secret"));
    }
}
