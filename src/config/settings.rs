//! Every plain setting: its meaning, default and bounds, in one list.

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
            /// Durations are cut at a year, so that every instant can be computed.
            pub(super) fn cut(&mut self) {
                $(self.$name.cut();)*
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

settings! {
    /// How long resolving a name may take, and after it connecting with the TLS handshake. Defaults to 5 s, the Python client's.
    timeout_connect: Duration = Duration::from_secs(5), zero refused;
    /// How long a request may go without a byte of progress while it is sent, waited for or read. Not a total: a large body
    /// over a slow link gets through. Defaults to 60 s, the Python client's.
    timeout_idle: Duration = Duration::from_secs(60), zero refused;
    /// How long a submission is sent again after retryable failures, from the first attempt on. Attempts are cut off at its
    /// end. While the service asks all sampling to wait (429), the window of a sample does not run. Defaults to 300 s.
    timeout_submit: Duration = Duration::from_secs(300), zero refused;
    /// How long a poll waits for the head of its answer before it is repeated. Must be longer than the server holds a poll
    /// without answering. Defaults to 45 s, the Python client's.
    timeout_poll: Duration = Duration::from_secs(45), zero refused;
    /// How long nothing at all may be heard of a promise, not even "not yet", before it is given up. Defaults to 30 min.
    timeout_progress: Duration = Duration::from_secs(30 * 60), zero refused;
    /// How long a whole blocking call may take; `None` waits as long as it takes. Defaults to `None`. Clients have a method
    /// of the same name that overrides it for their calls.
    timeout_operation: Option<Duration> = None, zero refused;
    /// How long dropping the last handle waits for the client's threads. Defaults to 500 ms.
    timeout_drop: Duration = Duration::from_millis(500), zero refused;
    /// The time between two heartbeats. Defaults to 10 s, the Python client's.
    heartbeat_interval: Duration = Duration::from_secs(10), zero refused;
    /// How often one request is repeated after a retryable failure, and how often a sample is submitted anew when its promise
    /// has expired. Defaults to 10. With 0, submissions are still sent again within
    /// [`timeout_submit`](ConfigBuilder::timeout_submit).
    max_retries: u32 = 10, zero allowed;
    /// The wait before the first repeat; it doubles with each. Defaults to 500 ms.
    retry_base: Duration = Duration::from_millis(500), zero refused;
    /// The longest wait between two repeats. Defaults to 10 s.
    retry_cap: Duration = Duration::from_secs(10), zero refused;
    /// How many promises are polled at once, each on a thread and connection of its own. Defaults to 128.
    max_poll_connections: usize = 128, zero refused;
    /// How many threads submit samples and models for `submit_` calls. Defaults to 32.
    max_sampling_threads: usize = 32, zero refused;
    /// How many sample submissions of this base URL and key are under way at once in the process. Of several clients with one
    /// base URL and key, the first decides this, `sampling_burst` and `sampling_rate`. Defaults to 400.
    max_sampling_in_flight: usize = 400, zero refused;
    /// How many sample submissions may leave at once before `sampling_rate` holds them back. Defaults to 400.
    sampling_burst: u32 = 400, zero refused;
    /// How many sample submissions leave per second in the long run. Defaults to 10 000.
    sampling_rate: u32 = 10_000, zero refused;
    /// How many calls may wait in the queue of a training client, or of all sampling clients of a service client together.
    /// Defaults to 10 000.
    max_queued: usize = 10_000, zero refused;
    /// How many bytes of input may wait in such a queue. Defaults to 1 GiB. A single call may be larger.
    max_queued_bytes: usize = 1 << 30, zero refused;
    /// The largest answer that is read. Defaults to 1 GiB.
    max_response_bytes: u64 = 1 << 30, zero refused;
    /// How many idle connections each purpose (training, sampling, session, futures, telemetry) keeps open. Defaults to 128.
    max_idle_connections: usize = 128, zero refused;
    /// How long an idle connection or pool thread is kept. Defaults to 15 s.
    idle_retention: Duration = Duration::from_secs(15), zero refused;
    /// How long a resolved address is used before the name is looked up again. Defaults to 60 s.
    dns_retention: Duration = Duration::from_secs(60), zero refused;
    /// The size of each connection's input and output buffer in bytes; the head of an answer must fit. Defaults to 16 KiB.
    connection_buffer: usize = 16 * 1024, zero refused;
    /// The stack of each thread of the library in bytes. Defaults to 256 KiB; less than 128 KiB is refused. A build without
    /// optimisation needs 192 KiB for TLS.
    thread_stack_size: usize = 256 * 1024, zero refused;
}

/// The longest time that a limit means: longer ones are as good as none.
pub(crate) const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

trait Limited {
    fn is_zero_limit(&self) -> bool;

    fn cut(&mut self) {}
}

impl Limited for Duration {
    fn is_zero_limit(&self) -> bool {
        self.is_zero()
    }

    fn cut(&mut self) {
        *self = (*self).min(MAX_DURATION);
    }
}

impl Limited for Option<Duration> {
    fn is_zero_limit(&self) -> bool {
        self.is_some_and(|limit| limit.is_zero())
    }

    fn cut(&mut self) {
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
