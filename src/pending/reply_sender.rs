//! The reply of a job to the poller.

use crossbeam_channel::Sender;

use super::messages::{Command, Reply};
use crate::rules::poll_queue::Ticket;

/// Makes sure that each job replies exactly once, even if it panics or is dropped in the queue.
pub(super) struct ReplySender {
    ticket: Ticket,
    replies: Option<Sender<Command>>,
}

impl ReplySender {
    pub(super) fn new(ticket: Ticket, replies: &Sender<Command>) -> Self {
        ReplySender { ticket, replies: Some(replies.clone()) }
    }

    pub(super) fn send(mut self, reply: Reply) {
        if let Some(replies) = self.replies.take() {
            replies.send(Command::Replied(self.ticket, reply)).ok();
        }
    }

    /// Drops the job without a reply.
    pub(super) fn forget(mut self) {
        self.replies = None;
    }
}

impl Drop for ReplySender {
    fn drop(&mut self) {
        if let Some(replies) = self.replies.take() {
            replies.send(Command::Replied(self.ticket, Reply::Panicked)).ok();
        }
    }
}
