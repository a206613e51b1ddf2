//! Pauses while the service refuses requests because of the account's billing (402).

use std::time::{Duration, Instant};

use log::{info, warn};

use super::{Http, RetryDecision};
use crate::config::MAX_DURATION;
use crate::error::Error;
use crate::observer::Event;
use crate::rules::billing::{Billed, Refusal};
use crate::rules::wait_log::WaitEnd;

impl Http {
    /// The service refused this with a 402, and this very request since `since`, or for the first time. Returns how long to wait
    /// before sending it again, or `None` if the refusals have lasted too long. The first refusal of an incident is logged, and
    /// reported to observers.
    pub(crate) fn pause_for_billing(
        &self,
        what: Billed,
        wait: Duration,
        since: Option<Instant>,
        error: &Error,
    ) -> Option<Duration> {
        let limit = self.billing_limit();
        let now = self.config.clock().now();
        let refusal = self.billing.lock().refused(what, wait, limit, since.unwrap_or(now), now);
        let Refusal::Pause { wait, begins } = refusal else { return None };
        if begins {
            warn!("{error}; requests pause for up to {limit:.0?} until that is done");
            if self.events.is_observed() {
                self.events.emit(Event::BillingPaused { error: error.clone(), limit });
            }
        }
        Some(wait)
    }

    /// What follows from a 402 to a submission, which was refused since `since` and is to be sent again after this pause, if at
    /// all.
    pub(super) fn billing_decision(&self, error: Error, pause: Option<Duration>, since: Instant) -> RetryDecision {
        let end = WaitEnd::At(since + self.billing_limit(), "timeout_billing");
        let given_up_by = pause.is_none().then_some("timeout_billing");
        RetryDecision { end, given_up_by, ..RetryDecision::new(error, pause) }
    }

    /// How long the service may refuse requests because of the account's billing.
    pub(crate) fn billing_limit(&self) -> Duration {
        self.config.timeout_billing().unwrap_or_else(|| {
            let seconds = self.client_config().billing_exception_max_pause_duration_sec;
            Duration::from_secs(seconds).min(MAX_DURATION)
        })
    }

    /// The service did not refuse this.
    pub(crate) fn end_billing_pause(&self, what: Billed) {
        let ended = self.billing.lock().accepted(what, self.config.clock().now());
        if let Some(paused) = ended {
            info!("the service accepts requests again, after a pause of {paused:.0?}");
            if self.events.is_observed() {
                self.events.emit(Event::BillingResumed { paused });
            }
        }
    }
}
