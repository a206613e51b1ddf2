//! The decisions of the protocol, as pure functions on data and an instant.
//!
//! Nothing here reads the clock, draws a random number, waits or talks to anyone: the time and the randomness are
//! arguments, and threads elsewhere carry the decisions out. So each rule is tested by a table or a property, in
//! microseconds.
//!
//! | rule | decides |
//! |---|---|
//! | [`retry`] | whether a failed HTTP attempt is retried, and when |
//! | [`backoff`] | how a wait grows with each failure |
//! | [`bucket`] | how fast samples may be submitted |
//! | [`answer`] | what a poll's answer means |
//! | [`poll`] | when a promise is asked for again, and when to stop |
//! | [`queue_log`] | when a paused queue is logged, and how |
//! | [`seats`] | which promise is polled next when connections are few |
//! | [`pagination`] | which page of a list is requested next, and when the list has ended |
//! | [`resume`] | how an interrupted download resumes, and when it is retried |
//! | [`error_message`] | how a server explains a failure |
//! | [`heartbeat`] | when a session's silence is worth a warning |
//! | [`reporting`] | which telemetry events go into the next request, and when |
//! | [`chunking`] | how a batch is split into requests |
//! | [`metrics`] | how the metrics of its parts become those of the batch |
//! | [`tokenizer_id`] | which tokenizer a model has |

pub(crate) mod answer;
pub(crate) mod backoff;
pub(crate) mod bucket;
pub(crate) mod chunking;
pub(crate) mod error_message;
pub(crate) mod heartbeat;
pub(crate) mod metrics;
pub(crate) mod pagination;
pub(crate) mod poll;
pub(crate) mod queue_log;
pub(crate) mod reporting;
pub(crate) mod resume;
pub(crate) mod retry;
pub(crate) mod seats;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod tokenizer_id;
