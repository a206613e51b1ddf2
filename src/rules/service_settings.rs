//! What the service's response to `client/config` or `client/dynamic_config` means.
//!
//! A service of 2025 does not know these requests. How it says so differs: 404 or 405 as a rule, 400, 401 or 422 where something
//! in front of it looks at the path, 500 where an unknown path is a failure of its own. None of these may keep a client from
//! working. So every definite refusal means the defaults. Nothing is lost by that if the key is at fault: the next request, which
//! every service knows, is refused for the same reason and says so (so 401 and 403 are not even worth a warning).

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::types::wire::{ClientConfig, ClientDynamicConfig};

/// How many attempts end with status 500 before it means that the service does not know the request.
const MAX_500: u32 = 3;

/// The shortest time between two requests for the settings that may change (Python client: 10 s).
const MIN_REFRESH: Duration = Duration::from_secs(10);

/// What to do after a response without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterFailure {
    /// The service has no such request: the defaults hold.
    Absent,
    /// The same, in a way that a user should know of.
    Refused,
    /// Try again, or fail, as any other request.
    Retry,
}

/// Decides about the failure with this status. `times` counts the attempts that ended with status 500, including this one.
pub(crate) fn after_failure(status: u16, times: u32) -> AfterFailure {
    match status {
        401 | 403 | 404 | 405 | 501 => AfterFailure::Absent,
        408 | 409 | 429 => AfterFailure::Retry,
        500 if times >= MAX_500 => AfterFailure::Refused,
        500..=599 => AfterFailure::Retry,
        _ => AfterFailure::Refused,
    }
}

/// Settings that the service sent.
pub(crate) trait Settings: DeserializeOwned + Default {
    /// Raises values with which nothing could be sent.
    fn bounded(self) -> Self;
}

impl Settings for ClientConfig {
    fn bounded(mut self) -> Self {
        for limit in [
            &mut self.fwdbwd_max_chunk_len,
            &mut self.fwdbwd_max_chunk_bytes_count,
            &mut self.fwdbwd_dispatch_bytes_semaphore_size,
            &mut self.sample_dispatch_bytes_semaphore_size,
            &mut self.sample_max_concurrent_requests,
            &mut self.inflight_response_bytes_semaphore_size,
        ] {
            *limit = (*limit).max(1);
        }
        self
    }
}

impl Settings for ClientDynamicConfig {
    fn bounded(mut self) -> Self {
        self.sample_cancel_max_batch_size = self.sample_cancel_max_batch_size.max(1);
        self
    }
}

/// Reads the settings. A null counts as left out. Fails if the response is no object or a known key has a value of another type.
pub(crate) fn read<T: Settings>(body: &[u8]) -> Result<T, serde_json::Error> {
    let mut keys: Map<String, Value> = serde_json::from_slice(body)?;
    drop_nulls(&mut keys);
    serde_json::from_value::<T>(Value::Object(keys)).map(T::bounded)
}

/// A setting of null counts as left out.
pub(crate) fn drop_nulls(keys: &mut Map<String, Value>) {
    keys.retain(|_, value| !value.is_null());
}

/// How long these settings hold.
pub(crate) fn refresh_after(settings: &ClientDynamicConfig) -> Duration {
    Duration::from_secs(settings.refresh_interval_sec).max(MIN_REFRESH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use AfterFailure::{Absent, Refused, Retry};

    #[test]
    fn no_definite_refusal_loses_a_service() {
        for (status, expected) in [
            (302, [Refused; 3]),
            (400, [Refused; 3]),
            (401, [Absent; 3]),
            (404, [Absent; 3]),
            (405, [Absent; 3]),
            (408, [Retry; 3]),
            (410, [Refused; 3]),
            (422, [Refused; 3]),
            (429, [Retry; 3]),
            (500, [Retry, Retry, Refused]),
            (501, [Absent; 3]),
            (503, [Retry; 3]),
        ] {
            assert_eq!([1, 2, 3].map(|times| after_failure(status, times)), expected, "{status}");
        }
    }

    #[test]
    fn absent_keys_have_defaults() {
        assert_eq!(read::<ClientConfig>(b"{}").unwrap(), ClientConfig::default());
        let config: ClientConfig =
            read(br#"{"pjwt_auth_enabled": null, "fwdbwd_max_chunk_len": 0, "use_pyqwest_transport": true}"#).unwrap();
        assert_eq!(config, ClientConfig { fwdbwd_max_chunk_len: 1, ..ClientConfig::default() });
        let config: ClientDynamicConfig = read(br#"{"sample_cancel_max_batch_size": 0}"#).unwrap();
        assert_eq!(config.sample_cancel_max_batch_size, 1);
        for broken in ["", "[]", "<html>", r#"{"fwdbwd_max_chunk_len": "3"}"#, r#"{"fwdbwd_max_chunk_len": -1}"#] {
            assert!(read::<ClientConfig>(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[test]
    fn settings_hold_at_least_ten_seconds() {
        for (seconds, expected) in [(0, 10), (9, 10), (300, 300)] {
            let settings = ClientDynamicConfig { refresh_interval_sec: seconds, ..ClientDynamicConfig::default() };
            assert_eq!(refresh_after(&settings).as_secs(), expected);
        }
    }
}
