//! Which request the calling thread is sending.
//!
//! Cancelling one request, recording how far it got and unmasking its headers all need to know, at the connection, which
//! request the bytes belong to. ureq does not say: connectors and transports get no context of the request, and a pooled
//! connection was made for an earlier one. An agent for each request would know, but would lose the pool and cost some 190 kB
//! with TLS. ureq does all I/O on the thread that makes the request, so a thread-local is exact.

use std::cell::RefCell;
use std::sync::Arc;

use super::super::cancel::RequestHandle;
use super::redact::SecretLines;

thread_local! {
    static CURRENT: RefCell<Option<CurrentRequest>> = const { RefCell::new(None) };
}

/// The request of a thread.
pub(in crate::http) struct CurrentRequest {
    handle: Arc<RequestHandle>,
    /// Until the head is written.
    secrets: Option<SecretLines>,
    /// Some of them are written: this is the head of the request, not of the handshake with a proxy.
    unmasked: bool,
}

/// While it lives, the connections that the thread uses belong to its request.
pub(in crate::http) struct CurrentRequestGuard {
    /// Of the same thread, which logged something, and whose logger made another request: it dropped the last handle of a
    /// client, for example.
    outer: Option<CurrentRequest>,
}

impl CurrentRequest {
    /// Makes this the request of the calling thread, with these secrets in its head, until the guard drops.
    pub(in crate::http) fn set(handle: &Arc<RequestHandle>, secrets: SecretLines) -> CurrentRequestGuard {
        handle.start_round_trip();
        let handle = Arc::clone(handle);
        let outer = CURRENT.replace(Some(CurrentRequest { handle, secrets: Some(secrets), unmasked: false }));
        CurrentRequestGuard { outer }
    }
}

impl Drop for CurrentRequestGuard {
    fn drop(&mut self) {
        if let Some(current) = CURRENT.replace(self.outer.take()) {
            current.handle.release_connection();
        }
    }
}

/// Acts on the request of the calling thread, if there is one.
pub(super) fn with_current<R>(act: impl FnOnce(&RequestHandle) -> R) -> Option<R> {
    CURRENT.with_borrow(|current| current.as_ref().map(|current| act(&current.handle)))
}

/// Puts the secrets of the calling thread's request into bytes that are about to leave, until its head is written.
pub(super) fn unmask_current(output: &mut [u8]) {
    CURRENT.with_borrow_mut(|current| {
        let Some(current) = current else { return };
        let Some(secrets) = &current.secrets else { return };
        current.unmasked |= secrets.unmask(output);
        if current.unmasked && output.ends_with(b"\r\n\r\n") {
            current.secrets = None;
        }
    });
}
