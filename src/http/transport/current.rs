//! Which request the calling thread is sending.
//!
//! Cancelling one request, recording how far it got and unmasking its headers all need to know, at the connection, which
//! request the bytes belong to. ureq does not say: connectors and transports get no context of the request, and a pooled
//! connection was made for an earlier one. An agent for each request would know, but would lose the pool and cost some 190 kB
//! with TLS. ureq does all I/O on the thread that makes the request, so a thread-local is exact.

use std::cell::RefCell;
use std::sync::Arc;

use log::{Level, log_enabled};
use ureq::http::HeaderMap;
use ureq::unversioned::transport::Buffers;

use super::super::cancel::RequestHandle;
use super::redact::{Hidden, SecretLines};
use super::veil::{Body, Veil};

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
    /// Over its response, while ureq's log shows what is read.
    veil: Option<Veil>,
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
        let current = CurrentRequest { handle, secrets: Some(secrets), unmasked: false, veil: None };
        let outer = CURRENT.replace(Some(current));
        CurrentRequestGuard { outer }
    }

    /// Whether ureq logs the bytes that it reads and writes, as it decides about that itself.
    pub(in crate::http) fn are_bytes_logged() -> bool {
        log_enabled!(target: "ureq_proto::util", Level::Trace)
    }
}

impl CurrentRequestGuard {
    /// Keeps secrets of the response out of ureq's log. [`lift`](Self::lift) gets them back.
    pub(in crate::http) fn veil(&self, hidden: &Hidden, body: Body) {
        if CurrentRequest::are_bytes_logged() {
            CURRENT.with_borrow_mut(|current| {
                current.iter_mut().for_each(|current| current.veil = Some(Veil::new(hidden.clone(), body)));
            });
        }
    }

    /// Puts what was kept out of ureq's log back into the headers and the body of the response.
    pub(in crate::http) fn lift(&self, headers: &mut HeaderMap, body: &mut [u8]) {
        CURRENT.with_borrow(|current| {
            if let Some(veil) = current.as_ref().and_then(|current| current.veil.as_ref()) {
                veil.lift(headers, body);
            }
        });
    }
}

impl Drop for CurrentRequestGuard {
    fn drop(&mut self) {
        if let Some(current) = CURRENT.replace(self.outer.take()) {
            current.handle.release_connection();
        }
    }
}

/// The request of the calling thread, if there is one.
pub(super) fn current() -> Option<Arc<RequestHandle>> {
    CURRENT.with_borrow(|current| current.as_ref().map(|current| Arc::clone(&current.handle)))
}

/// Acts on the request of the calling thread, if there is one.
pub(super) fn with_current<R>(act: impl FnOnce(&RequestHandle) -> R) -> Option<R> {
    CURRENT.with_borrow(|current| current.as_ref().map(|current| act(&current.handle)))
}

/// Runs something that reads no response: it makes a connection, or is one below another, which veils what both read.
pub(super) fn unveiled<R>(run: impl FnOnce() -> R) -> R {
    let veil = CURRENT.with_borrow_mut(|current| current.as_mut()?.veil.take());
    let result = run();
    if veil.is_some() {
        CURRENT.with_borrow_mut(|current| {
            if let Some(current) = current {
                current.veil = veil;
            }
        });
    }
    result
}

/// Hides secrets in the bytes that have come after the first `before` ones in the buffer of a connection.
pub(super) fn veil_current(buffers: &mut dyn Buffers, before: usize) {
    CURRENT.with_borrow_mut(|current| {
        let Some(veil) = current.as_mut().and_then(|current| current.veil.as_mut()) else { return };
        let mut input = buffers.input().to_vec();
        if veil.cover(&mut input[before..]) {
            buffers.input_consume(input.len());
            buffers.input_append_buf()[..input.len()].copy_from_slice(&input);
            buffers.input_appended(input.len());
        }
    });
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
