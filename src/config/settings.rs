//! Every plain setting in one list: its meaning, default and bounds.

use std::time::Duration;

use super::{Config, ConfigBuilder};
use crate::error::{Error, Result};

/// Defines each plain setting once: its documentation on getter and setter, its type, default and whether zero is allowed.
macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr, zero $zero:ident;)*) => {
        #[derive(Clone, Debug)]
        pub(super) struct Settings { $(pub(super) $name: $type,)* }

        impl Default for Settings {
            fn default() -> Self {
                Settings { $($name: $default,)* }
            }
        }

        impl Settings {
            /// Caps each duration at [`MAX_DURATION`].
            pub(super) fn cap_durations(&mut self) {
                $(self.$name.cap();)*
            }

            pub(super) fn check(&self) -> Result<()> {
                $(if !zero_is!($zero) && self.$name.is_zero_limit() {
                    return Err(Error::config(concat!(stringify!($name), " must be greater than zero")));
                })*
                Ok(())
            }
        }

        impl Config {
            $($(#[$doc])* #[must_use] pub fn $name(&self) -> $type { self.0.builder.settings.$name })*
        }

        impl ConfigBuilder {
            $($(#[$doc])* pub fn $name(mut self, $name: $type) -> Self {
                self.settings.$name = $name;
                self
            })*
        }
    };
}

macro_rules! zero_is {
    (allowed) => {
        true
    };
    (refused) => {
        false
    };
}

/// The usual size in bytes of a connection's buffers.
pub(crate) const CONNECTION_BUFFER: usize = 16 * 1024;

settings! {
    /// The timeout for resolving a host name, and again for connecting, including the TLS handshake. Defaults to 5 s, as in the
    /// Python client.
    timeout_connect: Duration = Duration::from_secs(5), zero refused;
    /// How long a request may go without a byte of progress while sending, waiting or reading. Not a total: neither a head nor a
    /// large body that arrives slowly is cut off. Defaults to 60 s, as in the Python client.
    timeout_idle: Duration = Duration::from_secs(60), zero refused;
    /// How long a submission is retried, counted from the first attempt. An attempt still running at the end is cut off.
    /// For a sample, the time during which the service asks all sampling to wait (429) does not count. Defaults to 300 s.
    timeout_submit: Duration = Duration::from_secs(300), zero refused;
    /// How long a poll waits for the whole head of the response before the next poll is sent. Must be longer than the server holds a poll.
    /// Defaults to 45 s, as in the Python client.
    timeout_poll: Duration = Duration::from_secs(45), zero refused;
    /// How long a promise is polled without a word of the service about it, not even "not ready yet", before the call fails. What a
    /// gateway or a captive portal says is no such word, nor is a damaged response. Defaults to 2 h, as in the Python client for
    /// samples: a service may be down that long without losing what it has promised.
    timeout_progress: Duration = Duration::from_secs(2 * 60 * 60), zero refused;
    /// The time limit of a whole blocking call; `None` means no limit. Defaults to `None`. The clients'
    /// `with_timeout_operation` overrides it for their calls.
    timeout_operation: Option<Duration> = None, zero refused;
    /// How long requests and polls pause while the service refuses them because of the account's billing (402), before they fail
    /// with [`ErrorKind::Billing`](crate::ErrorKind::Billing). Counted from the first refusal; any success in between ends the
    /// pause, but no request pauses for longer than this. Zero fails at once. Defaults to `None`: as long as the service says, or
    /// an hour if it does not, as in the Python client.
    timeout_billing: Option<Duration> = None, zero allowed;
    /// How long dropping the last handle waits for the client's threads to end. Defaults to 500 ms.
    timeout_drop: Duration = Duration::from_millis(500), zero refused;
    /// The time between two heartbeats. Defaults to 10 s, as in the Python client.
    heartbeat_interval: Duration = Duration::from_secs(10), zero refused;
    /// The maximum number of retries of a request after retryable failures, and of resubmissions of a sample whose promise
    /// has expired. Defaults to 10. Even with 0, submissions are retried within
    /// [`timeout_submit`](ConfigBuilder::timeout_submit).
    max_retries: u32 = 10, zero allowed;
    /// The wait before the first retry; it doubles with each further one. Defaults to 500 ms.
    retry_base: Duration = Duration::from_millis(500), zero refused;
    /// The maximum wait between two retries. Defaults to 10 s.
    retry_cap: Duration = Duration::from_secs(10), zero refused;
    /// The maximum number of concurrent polls, each on its own thread and connection. Defaults to 128.
    max_poll_connections: usize = 128, zero refused;
    /// The maximum number of threads that submit samples and create models for `submit_` calls. Defaults to 32.
    max_sampling_threads: usize = 32, zero refused;
    /// The maximum number of concurrent sample submissions in this process for one base URL and key. If several clients share
    /// a base URL and key, the first one sets this, `sampling_burst` and `sampling_rate` for all. Defaults to 400. Stricter limits
    /// of the service hold as well: for the bytes of prompts and for the samples of a client from submission to result, if it has
    /// them, and of 10 for 10 s after a 429.
    max_sampling_in_flight: usize = 400, zero refused;
    /// How many samples may be submitted at once before `sampling_rate` slows them down. Defaults to 400.
    sampling_burst: u32 = 400, zero refused;
    /// The maximum number of samples submitted per second in the long run. Defaults to 10 000.
    sampling_rate: u32 = 10_000, zero refused;
    /// The maximum number of calls in the queue of a training client, and in the shared queue of all sampling clients of a
    /// service client. Defaults to 10 000.
    max_queued: usize = 10_000, zero refused;
    /// The maximum number of input bytes in such a queue. A single call may be larger. Defaults to 1 GiB.
    max_queued_bytes: usize = 1 << 30, zero refused;
    /// The maximum size of a response in bytes. Defaults to 1 GiB.
    max_response_bytes: u64 = 1 << 30, zero refused;
    /// The maximum number of idle connections for each purpose (training, sampling, session, futures, telemetry). Defaults to
    /// 128, or to [`max_poll_connections`](ConfigBuilder::max_poll_connections) or
    /// [`max_sampling_threads`](ConfigBuilder::max_sampling_threads) if one of them is more.
    max_idle_connections: usize = 128, zero refused;
    /// How long an idle connection or pool thread is kept. Defaults to 15 s.
    idle_retention: Duration = Duration::from_secs(15), zero refused;
    /// How long the addresses of a resolved host name are cached. Defaults to 60 s.
    dns_retention: Duration = Duration::from_secs(60), zero refused;
    /// The size in bytes of each connection's input and output buffer. A response head must fit. Defaults to 16 KiB. The connection of
    /// a training client writes its batches through eight times that, unless it is less than 16 KiB.
    connection_buffer: usize = CONNECTION_BUFFER, zero refused;
    /// The stack size in bytes of each of the library's threads. Defaults to 256 KiB; less than 128 KiB is refused. A build
    /// without optimization needs 192 KiB for TLS.
    thread_stack_size: usize = 256 * 1024, zero refused;
}

impl Settings {
    /// Keeps as many idle connections as polls or submissions of samples use at once, unless another number was set: they would be
    /// opened anew all the time.
    pub(super) fn tie_connections(&mut self) {
        if self.max_idle_connections == Settings::default().max_idle_connections {
            let used_at_once = self.max_poll_connections.max(self.max_sampling_threads);
            self.max_idle_connections = self.max_idle_connections.max(used_at_once);
        }
    }
}

/// A year. Longer durations are capped at this, so that adding one to an instant cannot overflow.
pub(crate) const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

trait Limited {
    fn is_zero_limit(&self) -> bool;

    /// Caps a duration at [`MAX_DURATION`]; leaves a number unchanged.
    fn cap(&mut self) {}
}

impl Limited for Duration {
    fn is_zero_limit(&self) -> bool {
        self.is_zero()
    }

    fn cap(&mut self) {
        *self = (*self).min(MAX_DURATION);
    }
}

impl Limited for Option<Duration> {
    fn is_zero_limit(&self) -> bool {
        self.is_some_and(|limit| limit.is_zero())
    }

    fn cap(&mut self) {
        *self = self.map(|limit| limit.min(MAX_DURATION));
    }
}

macro_rules! limited_integers {
    ($($type:ty)*) => {$(impl Limited for $type {
        fn is_zero_limit(&self) -> bool {
            *self == 0
        }
    })*};
}
limited_integers!(u32 u64 usize);

#[cfg(test)]
mod tests {
    use super::*;

    /// Each documentation says the same; so does the README.
    #[test]
    fn every_default_is_as_documented() {
        assert_eq!(
            format!("{:?}", Settings::default()),
            "Settings { timeout_connect: 5s, timeout_idle: 60s, timeout_submit: 300s, timeout_poll: 45s, \
             timeout_progress: 7200s, timeout_operation: None, timeout_billing: None, timeout_drop: 500ms, \
             heartbeat_interval: 10s, max_retries: 10, retry_base: 500ms, retry_cap: 10s, max_poll_connections: 128, \
             max_sampling_threads: 32, max_sampling_in_flight: 400, sampling_burst: 400, sampling_rate: 10000, \
             max_queued: 10000, max_queued_bytes: 1073741824, max_response_bytes: 1073741824, \
             max_idle_connections: 128, idle_retention: 15s, dns_retention: 60s, connection_buffer: 16384, \
             thread_stack_size: 262144 }"
        );
    }
}
