//! The decisions of the protocol, as pure functions on data and an instant.
//!
//! Nothing here reads the clock, draws a random number, waits, logs or does any I/O: time and randomness are arguments, and
//! threads elsewhere act on the decisions. So each rule is tested by a table or a property, in microseconds.
//!
//! | rule | decides |
//! |---|---|
//! | [`retry`] | whether a failed HTTP attempt is retried, and when |
//! | [`effect`] | whether a request whose attempts failed may have been run |
//! | [`connection_failure`] | what a failed connection means, and whether another attempt can help |
//! | [`backoff`] | how a wait grows with each failure |
//! | [`credential`] | how long a token is used, and when it is replaced |
//! | [`proxy`] | which proxy a request uses, by the environment's variables |
//! | [`token_bucket`] | how fast samples may be submitted |
//! | [`sample_admission`] | how many of them at the same time |
//! | [`poll_response`] | what the response to a poll says about its promise |
//! | [`poll_schedule`] | when a promise is polled again, and when it is given up |
//! | [`outage`] | whether the service can be reached at all |
//! | [`recovery`] | whether the service is back after an outage |
//! | [`queue_log`] | when a paused queue is logged, and how |
//! | [`wait_log`] | when a call that waits is worth a line, and what the line says |
//! | [`poll_queue`] | which promise is polled next when connections are few |
//! | [`pagination`] | which page of a list is requested next, and when the list has ended |
//! | [`resume`] | how an interrupted download resumes, and when it is retried |
//! | [`error_message`] | how a server explains a failure |
//! | [`heartbeat`] | when missing heartbeats are worth a warning |
//! | [`service_settings`] | what a service says about its settings, or without saying it |
//! | [`telemetry_batch`] | which telemetry events go into the next request, and when |
//! | [`telemetry_close`] | how long a close waits for the last of them |
//! | [`chunking`] | how a batch is split into requests |
//! | [`wire_format`] | how a pass over a batch is written, and in which format it is sent again when the service refuses one |
//! | [`sequence_number`] | whether the number of a failed training request is used again |
//! | [`metrics`] | how the metrics of its parts become those of the batch |
//! | [`pass_result`] | whether the result of a pass has what belongs to each datum |
//! | [`json_numbers`] | how the numbers of a response are read that are not finite |
//! | [`json_structure`] | how deep a JSON text is, and which words its top level has |
//! | [`result_form`] | whether a result is JSON or protobuf |
//! | [`single_line`] | whether a text can be an id or a name |
//! | [`tokenizer_id`] | which tokenizer a model has |
//! | [`ttl`] | how long a checkpoint may be kept before it expires |
//! | [`billing_period`] | for which time a service reports what it charges for |

pub(crate) mod backoff;
pub(crate) mod billing;
pub(crate) mod billing_period;
pub(crate) mod chunking;
pub(crate) mod connection_failure;
pub(crate) mod credential;
pub(crate) mod effect;
pub(crate) mod error_message;
pub(crate) mod heartbeat;
pub(crate) mod idle_list;
pub(crate) mod json_numbers;
pub(crate) mod json_structure;
pub(crate) mod metrics;
pub(crate) mod outage;
pub(crate) mod pagination;
pub(crate) mod pass_result;
pub(crate) mod payload_budget;
pub(crate) mod poll_queue;
pub(crate) mod poll_response;
pub(crate) mod poll_room;
pub(crate) mod poll_schedule;
pub(crate) mod proxy;
pub(crate) mod queue_log;
pub(crate) mod recovery;
pub(crate) mod result_form;
pub(crate) mod resume;
pub(crate) mod retry;
pub(crate) mod sample_admission;
pub(crate) mod sampler_handle;
pub(crate) mod sequence_number;
pub(crate) mod service_settings;
pub(crate) mod session_poll;
pub(crate) mod single_line;
pub(crate) mod telemetry_batch;
pub(crate) mod telemetry_close;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod token_bucket;
pub(crate) mod tokenizer_id;
pub(crate) mod ttl;
pub(crate) mod wait_log;
pub(crate) mod wire_format;
