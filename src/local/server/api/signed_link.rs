//! Signed links: paths that may be fetched for a limited time without an API key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Signs and verifies links with HMAC-SHA-256. Anyone who has a link can use it.
#[derive(Debug)]
pub(crate) struct LinkSigner {
    secret: [u8; 32],
}

impl LinkSigner {
    pub(crate) fn new(secret: [u8; 32]) -> Self {
        LinkSigner { secret }
    }

    /// The query that turns a path into a link that is valid until `expires_at`.
    pub(crate) fn sign(&self, path: &str, expires_at: SystemTime) -> String {
        let expires = expires_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        format!("expires={expires}&signature={}", hex(&self.mac(path, expires).finalize().into_bytes()))
    }

    /// Verifies a link; the error says why it is invalid.
    pub(crate) fn verify(&self, path: &str, query: &str, now: SystemTime) -> Result<(), &'static str> {
        let fields = query.strip_prefix("expires=").and_then(|query| query.split_once("&signature="));
        let (expires, signature) = fields.ok_or("the link is not signed")?;
        let (Ok(expires), Some(signature)) = (expires.parse(), unhex(signature)) else {
            return Err("the link is not signed");
        };
        self.mac(path, expires).verify_slice(&signature).map_err(|_| "the signature is wrong")?;
        let expires_at = UNIX_EPOCH.checked_add(Duration::from_secs(expires)).ok_or("the link is not signed")?;
        if now < expires_at { Ok(()) } else { Err("the link has expired") }
    }

    fn mac(&self, path: &str, expires: u64) -> Hmac<Sha256> {
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
    fn links_are_valid_for_one_path_and_time() {
        let signer = LinkSigner::new([7; 32]);
        let start = UNIX_EPOCH + Duration::from_secs(1000);
        let query = signer.sign("/a", start + Duration::from_secs(10));
        assert_eq!(signer.verify("/a", &query, start), Ok(()));
        assert_eq!(signer.verify("/a", &query, start + Duration::from_secs(10)), Err("the link has expired"));
        assert_eq!(signer.verify("/b", &query, start), Err("the signature is wrong"));
        assert_eq!(signer.verify("/a", &query.replace("1010", "9010"), start), Err("the signature is wrong"));
        assert_eq!(LinkSigner::new([8; 32]).verify("/a", &query, start), Err("the signature is wrong"));
        for query in ["", "expires=1", "expires=1&signature=0", "expires=x&signature=00", "expires=1&signature=zz"] {
            assert_eq!(signer.verify("/a", query, start), Err("the link is not signed"), "{query}");
        }
    }
}
