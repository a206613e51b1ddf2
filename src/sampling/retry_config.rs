//! When samples are resubmitted whose promise has expired.

use std::time::Duration;

use crate::config::{Config, MAX_DURATION};
use crate::rules::retry::resubmit_after;

/// When an expired sample is submitted again, and when it is given up. Set with
/// [`SamplingClient::with_retry_config`](crate::SamplingClient::with_retry_config).
///
/// A service forgets promises that it cannot keep, and responds with 410. A sample changes nothing, so it can be submitted again, as
/// a new request with a new sequence number. The waits double from [`base`](RetryConfig::base) to [`cap`](RetryConfig::cap),
/// and block no thread. This does not apply to a 429 or a lost connection: those are always retried under the same sequence
/// number. A service may ask its clients not to submit expired samples again; then it is as with [`off`](RetryConfig::off).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tinkex::RetryConfig;
///
/// let patient = RetryConfig::default().max_resubmissions(100).cap(Duration::from_secs(60));
/// let none = RetryConfig::off();
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct RetryConfig {
    max_resubmissions: u32,
    base: Duration,
    cap: Duration,
    jitter: f64,
    timeout_progress: Option<Duration>,
}

impl Default for RetryConfig {
    /// 10 resubmissions, with the Python client's waits: 500 ms to 10 s, with a jitter of 0.25.
    fn default() -> Self {
        RetryConfig {
            max_resubmissions: 10,
            base: Duration::from_millis(500),
            cap: Duration::from_secs(10),
            jitter: 0.25,
            timeout_progress: None,
        }
    }
}

impl RetryConfig {
    /// The default of a client with this configuration.
    pub(super) fn of(config: &Config) -> Self {
        let (base, cap) = (config.retry_base(), config.retry_cap());
        RetryConfig { max_resubmissions: config.max_retries(), base, cap, ..RetryConfig::default() }
    }

    /// No resubmissions: an expired promise is an error of kind [`Expired`](crate::ErrorKind::Expired).
    pub fn off() -> Self {
        RetryConfig::default().max_resubmissions(0)
    }

    /// The maximum number of resubmissions of a sample. Defaults to 10.
    pub fn max_resubmissions(mut self, max: u32) -> Self {
        self.max_resubmissions = max;
        self
    }

    /// The wait before the first resubmission. It doubles each time. Defaults to 500 ms.
    pub fn base(mut self, base: Duration) -> Self {
        self.base = base.min(MAX_DURATION);
        self
    }

    /// The maximum wait before a resubmission. Defaults to 10 s.
    pub fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap.min(MAX_DURATION);
        self
    }

    /// The fraction of each wait, from 0 to 1, by which it is randomly lengthened or shortened. Defaults to 0.25.
    pub fn jitter(mut self, jitter: f64) -> Self {
        self.jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.0 };
        self
    }

    /// The maximum time without any word from the service about a sample before it is given up. Defaults to the
    /// configuration's [`timeout_progress`](crate::ConfigBuilder::timeout_progress), or to no limit if the service asks for none.
    pub fn timeout_progress(mut self, timeout: Duration) -> Self {
        self.timeout_progress = Some(timeout.min(MAX_DURATION));
        self
    }

    pub(super) fn progress(&self) -> Option<Duration> {
        self.timeout_progress
    }

    /// The wait before a sample that has expired `expired` times before is submitted again, or `None` if it is given up.
    /// `random` is a random number in 0..1.
    pub(super) fn wait(&self, expired: u32, random: f64) -> Option<Duration> {
        (expired < self.max_resubmissions).then(|| resubmit_after(self.base, self.cap, self.jitter, expired, random))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap() {
        let millis = |config: RetryConfig, expired, random| config.wait(expired, random).map(|wait| wait.as_millis());
        let config = RetryConfig::default().max_resubmissions(4).cap(Duration::from_secs(3)).jitter(0.5);
        for (expired, least, most) in [(0, 250, 750), (1, 500, 1500), (2, 1000, 3000), (3, 1500, 3000)] {
            assert_eq!((millis(config, expired, 0.0), millis(config, expired, 1.0)), (Some(least), Some(most)));
        }
        assert_eq!(config.wait(4, 0.5), None);
        assert_eq!(RetryConfig::off().wait(0, 0.5), None);
        for jitter in [-1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(millis(config.jitter(jitter), 0, 1.0), Some(500));
        }
        assert_eq!(millis(config.jitter(9.0), 0, 0.0), Some(0));
    }
}
