//! Tokens (JWT), which a client gets in exchange for its API key and sends in place of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::local::server::state::Owner;

/// `{"alg":"HS256","typ":"JWT"}`. No other header is accepted, so that a token cannot choose how it is verified.
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// What a token says. The times are seconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) sub: Owner,
    org_id: String,
    email: String,
    iat: f64,
    exp: f64,
}

impl Claims {
    /// The claims of a new token. With `ceiling`, it ends at the latest then.
    pub(super) fn new(owner: Owner, now: SystemTime, life: Duration, ceiling: Option<f64>) -> Self {
        let iat = seconds(now);
        let exp = (iat + life.as_secs_f64()).min(ceiling.unwrap_or(f64::INFINITY));
        Claims { org_id: "local".to_owned(), email: owner.email(), sub: owner, iat, exp }
    }

    /// The end of the token, in seconds since 1970.
    pub(super) fn end(&self) -> f64 {
        self.exp
    }
}

/// Issues tokens and verifies them, with HMAC-SHA-256.
#[derive(Debug)]
pub(crate) struct TokenSigner {
    secret: [u8; 32],
}

impl TokenSigner {
    pub(crate) fn new(secret: [u8; 32]) -> Self {
        TokenSigner { secret }
    }

    pub(super) fn issue(&self, claims: &Claims) -> serde_json::Result<String> {
        let signed = format!("{HEADER}.{}", URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims)?));
        let signature = URL_SAFE_NO_PAD.encode(self.mac(&signed).finalize().into_bytes());
        Ok(format!("{signed}.{signature}"))
    }

    /// The claims of a token; the error says why it is invalid.
    pub(super) fn verify(&self, token: &str, now: SystemTime) -> Result<Claims, &'static str> {
        const FORGED: &str = "this server did not issue the token";
        let (signed, signature) = token.rsplit_once('.').ok_or(FORGED)?;
        let payload = signed.strip_prefix(HEADER).and_then(|rest| rest.strip_prefix('.')).ok_or(FORGED)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| FORGED)?;
        self.mac(signed).verify_slice(&signature).map_err(|_| FORGED)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| FORGED)?;
        let claims: Claims = serde_json::from_slice(&payload).map_err(|_| FORGED)?;
        if seconds(now) < claims.exp { Ok(claims) } else { Err("the token has expired") }
    }

    fn mac(&self, signed: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes a key of any length");
        // The same secret signs links.
        mac.update(b"token ");
        mac.update(signed.as_bytes());
        mac
    }
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(10);

    fn time(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn token(signer: &TokenSigner, ceiling: Option<f64>) -> String {
        signer.issue(&Claims::new(Owner::of_key("tml-a"), time(1000), LIFE, ceiling)).unwrap()
    }

    #[test]
    fn tokens_are_valid_until_their_end() {
        let signer = TokenSigner::new([7; 32]);
        let token = token(&signer, None);
        let claims = signer.verify(&token, time(1009)).unwrap();
        assert_eq!((&claims.sub, claims.iat, claims.end()), (&Owner::of_key("tml-a"), 1000.0, 1010.0));
        assert_eq!(signer.verify(&token, time(1010)).unwrap_err(), "the token has expired");
    }

    #[test]
    fn a_token_for_a_token_ends_with_it() {
        let signer = TokenSigner::new([7; 32]);
        for (ceiling, end) in [(1004.0, 1004.0), (2000.0, 1010.0)] {
            assert_eq!(signer.verify(&token(&signer, Some(ceiling)), time(1000)).unwrap().end(), end);
        }
    }

    #[test]
    fn changed_tokens_are_forged() {
        let signer = TokenSigner::new([7; 32]);
        let token = token(&signer, None);
        let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
        let other = URL_SAFE_NO_PAD.encode(r#"{"sub":"key-1","org_id":"","email":"","iat":0,"exp":1e18}"#);
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        for forged in [
            format!("{header}.{other}.{signature}"),
            format!("{none}.{payload}."),
            format!("{none}.{payload}.{signature}"),
            format!("{header}.{payload}."),
            format!("{header}.{payload}"),
            format!("{header}.{payload}.{signature}.{signature}"),
            "eyJ".to_owned(),
            String::new(),
        ] {
            assert_eq!(
                signer.verify(&forged, time(1000)).unwrap_err(),
                "this server did not issue the token",
                "{forged}"
            );
        }
        assert!(TokenSigner::new([8; 32]).verify(&token, time(1000)).is_err());
        assert!(signer.verify(&token, time(1000)).is_ok());
    }
}
