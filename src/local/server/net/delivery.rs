//! How a response leaves the server; injected faults change it.

use std::time::Duration;

/// When and how a response is written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Delivery {
    /// How long the finished response is withheld.
    pub(crate) delay: Duration,
    pub(crate) mode: DeliveryMode,
}

/// How much of a response the client receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DeliveryMode {
    #[default]
    Complete,
    /// Half of the body, then the connection is closed.
    Truncated,
    /// All of it, with a body that is not JSON.
    Malformed,
    /// A connection reset instead of the response.
    Reset,
    /// Half of the body, then a connection reset.
    ResetDuring,
    /// All of it, and a connection reset when the client sends the next request.
    ResetAfter,
    /// Nothing, on a connection that stays open.
    Never,
}
