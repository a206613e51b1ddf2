//! The state of the server's queue for a request.

open_enum! {
    /// Whether the server's queue for a request is moving.
    ///
    /// ```
    /// use tinkex::types::QueueState;
    ///
    /// assert!(QueueState::from("paused_capacity").is_paused());
    /// assert!(!QueueState::Active.is_paused());
    /// assert_eq!(QueueState::from("draining"), QueueState::Other("draining".to_owned()));
    /// ```
    pub enum QueueState {
        /// The queue is moving.
        Active = "active",
        /// The queue is paused because the caller has too many requests in progress.
        PausedRateLimit = "paused_rate_limit",
        /// The queue is paused because the service has no free capacity.
        PausedCapacity = "paused_capacity",
    }
}

impl QueueState {
    /// Whether the queue is paused. Also true for an unknown state whose word starts with `paused_`.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.as_str().starts_with("paused_")
    }
}
