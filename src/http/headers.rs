//! The headers of a request: client, platform, credentials, and which attempt it is.

use ureq::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::transport::{SecretLines, mask};
use crate::config::{Config, Secret};
use crate::process::unique_bits;

/// The version of the protocol that this crate speaks. Servers gate on it.
pub(crate) const PROTOCOL_VERSION: &str = "0.4.1";

pub(super) const USER_AGENT: &str = concat!("tinkex-rust/", env!("CARGO_PKG_VERSION"));

/// The header of the key or token.
const API_KEY: &str = "x-api-key";

/// Headers of the user that ureq reads, and that hold no secret.
const PLAIN: [HeaderName; 9] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::HOST,
    header::TRANSFER_ENCODING,
    header::USER_AGENT,
];

/// The headers that all requests of a client share, in order of precedence: a later one of the same name overrides. Secrets
/// are masked.
#[derive(Clone)]
pub(super) struct CommonHeaders {
    own: HeaderMap,
    user: HeaderMap,
    secrets: SecretLines,
}

/// Those of them that requests with one key or token share, with the key, and the secrets for the connection to put in.
pub(super) struct KeyHeaders {
    headers: HeaderMap,
    secrets: SecretLines,
}

impl CommonHeaders {
    pub(super) fn new(config: &Config) -> Self {
        let mut own = HeaderMap::new();
        let mut set = |name: &'static str, value: &str| insert(&mut own, HeaderName::from_static(name), value);
        set("accept", "application/json");
        set("user-agent", USER_AGENT);
        set("x-stainless-package-version", PROTOCOL_VERSION);
        set("x-stainless-os", platform());
        set("x-stainless-arch", &arch(std::env::consts::ARCH));
        set("x-stainless-runtime", "rust");
        set("x-stainless-runtime-version", env!("CARGO_PKG_RUST_VERSION"));
        let mut secrets = Vec::new();
        if let Some((id, secret)) = config.cloudflare() {
            secrets.push((HeaderName::from_static("cf-access-client-id"), id.expose().as_bytes()));
            secrets.push((HeaderName::from_static("cf-access-client-secret"), secret.expose().as_bytes()));
        }
        own.extend(secrets.iter().map(|(name, secret)| (name.clone(), mask(secret))));
        let mut user = HeaderMap::new();
        for (name, value) in config.headers() {
            let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
            if PLAIN.contains(&name) {
                insert(&mut user, name, value.expose());
            } else {
                // It replaces our own of that name, or an earlier one.
                let value = value.expose().as_bytes();
                secrets.retain(|(other, _)| *other != name);
                user.insert(name.clone(), mask(value));
                secrets.push((name, value));
            }
        }
        let secrets = SecretLines::new(secrets.iter().map(|(name, secret)| (name, *secret)));
        CommonHeaders { own, user, secrets }
    }

    /// Whether requests carry a key of the program's own, in the header of the configuration or of the request, or none.
    pub(super) fn has_own_key(&self, overrides: &[(HeaderName, Option<HeaderValue>)]) -> bool {
        self.user.contains_key(API_KEY) || overrides.iter().any(|(name, _)| *name == API_KEY)
    }

    /// The headers of requests with this key or token.
    pub(super) fn with_key(&self, key: &Secret) -> KeyHeaders {
        let mut headers = self.own.clone();
        for (name, value) in &self.user {
            headers.insert(name.clone(), value.clone());
        }
        let mut secrets = Vec::new();
        if let (false, Ok(value)) = (self.has_own_key(&[]), HeaderValue::from_str(key.expose())) {
            headers.insert(API_KEY, mask(value.as_bytes()));
            secrets.push((HeaderName::from_static(API_KEY), value));
        }
        KeyHeaders { headers, secrets: self.secrets.with(&secrets) }
    }

    /// The headers of one request: the shared ones, then `own` where the user has none of that name, then `overrides`, where one
    /// without a value is left out. With them, the secrets for the connection to put in.
    pub(super) fn with<'a>(
        &self,
        own: impl IntoIterator<Item = (&'static str, &'a str)>,
        shared: &KeyHeaders,
        overrides: &[(HeaderName, Option<HeaderValue>)],
    ) -> (HeaderMap, SecretLines) {
        let mut headers = shared.headers.clone();
        for (name, value) in own {
            if !self.user.contains_key(name) {
                insert(&mut headers, HeaderName::from_static(name), value);
            }
        }
        let mut secrets = Vec::new();
        for (name, value) in overrides {
            match value {
                None => {
                    headers.remove(name);
                }
                Some(value) if PLAIN.contains(name) => {
                    headers.insert(name, value.clone());
                }
                Some(value) => {
                    headers.insert(name, mask(value.as_bytes()));
                    secrets.push((name.clone(), value.clone()));
                }
            }
        }
        (headers, shared.secrets.with(&secrets))
    }
}

/// Values are validated by the configuration or made by this crate. One that HTTP forbids is left out.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// The operating system, as the protocol names it.
pub(crate) fn platform() -> &'static str {
    os(std::env::consts::OS)
}

fn os(name: &str) -> &str {
    match name {
        "linux" => "Linux",
        "macos" => "MacOS",
        "windows" => "Windows",
        "ios" => "iOS",
        "android" => "Android",
        "freebsd" => "FreeBSD",
        "openbsd" => "OpenBSD",
        _ => "Unknown",
    }
}

fn arch(name: &str) -> String {
    match name {
        "x86_64" => "x64".into(),
        "aarch64" => "arm64".into(),
        "arm" => "arm".into(),
        "x86" => "x32".into(),
        other => format!("other:{other}"),
    }
}

/// A key by which the server recognizes the attempts of one request.
pub(crate) fn idempotency_key() -> String {
    format!("tinkex-{:032x}", unique_bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_have_the_protocols_names() {
        for (name, expected) in
            [("x86_64", "x64"), ("aarch64", "arm64"), ("arm", "arm"), ("x86", "x32"), ("riscv64", "other:riscv64")]
        {
            assert_eq!(arch(name), expected);
        }
    }

    #[test]
    fn a_users_header_overrides_ours() {
        let config = Config::builder()
            .api_key("tml-hidden")
            .base_url("http://127.0.0.1:1")
            .header("Accept", "text/plain")
            .build_with(|_| None)
            .unwrap();
        let common = CommonHeaders::new(&config);
        let shared = common.with_key(&Secret::new("tml-hidden"));
        let (headers, _) = common.with([("accept", "application/gzip")], &shared, &[]);
        assert_eq!(headers["accept"], "text/plain");
        assert_eq!(headers["x-api-key"], "**********");
    }
}
