//! When the requests of a session were queued, computed and done, and exports of that as Perfetto traces.
//!
//! It covers the newest requests since the server was started. Nothing of it is stored.

mod lanes;
mod perfetto;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::promises::PromiseId;
use crate::local::server::time::now;

/// Maximum number of requests, of all sessions.
const MAX_SPANS: usize = 20_000;

/// Maximum number of exports that can be downloaded.
const MAX_EXPORTS: usize = 8;

/// A request that takes time.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) session_id: String,
    /// The id of the training run or sampling session.
    pub(crate) subject: String,
    /// The endpoint.
    pub(crate) name: String,
    pub(crate) seq: Option<u64>,
}

#[derive(Debug)]
struct TimedSpan {
    span: Span,
    /// Times since the start of the server.
    submitted: Duration,
    started: Option<Duration>,
    finished: Option<Duration>,
    has_failed: bool,
}

/// An export of a session's requests.
#[derive(Debug)]
struct Export {
    session_id: String,
    number: u64,
    trace: Vec<u8>,
    /// The state of the session's requests when it was made.
    progress: usize,
    was_announced: bool,
}

/// What is known of an export.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ExportState {
    /// It has just been requested.
    Pending,
    /// It has this number.
    Ready(u64),
}

/// The requests of all sessions.
#[derive(Debug)]
pub(crate) struct Timeline {
    start: Instant,
    requests: Mutex<Requests>,
}

#[derive(Debug, Default)]
struct Requests {
    spans: BTreeMap<PromiseId, TimedSpan>,
    exports: VecDeque<Export>,
    last_export: u64,
}

impl Timeline {
    pub(crate) fn new() -> Self {
        Timeline { start: now(), requests: Mutex::default() }
    }

    /// A request was queued. Above the maximum number, the oldest is forgotten.
    pub(crate) fn submitted(&self, id: PromiseId, span: Span) {
        let submitted = self.time();
        let mut requests = self.requests.lock();
        let span = TimedSpan { span, submitted, started: None, finished: None, has_failed: false };
        requests.spans.insert(id, span);
        while requests.spans.len() > MAX_SPANS {
            requests.spans.pop_first();
        }
    }

    /// A worker has taken a request from the queue.
    pub(crate) fn started(&self, id: PromiseId) {
        let time = self.time();
        if let Some(span) = self.requests.lock().spans.get_mut(&id) {
            span.started = Some(time);
        }
    }

    /// A request is done.
    pub(crate) fn finished(&self, id: PromiseId, has_failed: bool) {
        let time = self.time();
        if let Some(span) = self.requests.lock().spans.get_mut(&id) {
            (span.finished, span.has_failed) = (Some(time), has_failed);
        }
    }

    /// Exports the requests of a session. The first call makes the export, and the next one announces it. After that, a session
    /// that has gone on is exported anew.
    pub(crate) fn export(&self, session_id: &str) -> ExportState {
        let Requests { spans, exports, last_export } = &mut *self.requests.lock();
        let of_session = || spans.iter().filter(|(_, span)| span.span.session_id == session_id);
        let progress = of_session().map(|(_, span)| span.progress()).sum();
        let last = exports.iter_mut().rev().find(|export| export.session_id == session_id);
        if let Some(last) = last.filter(|last| !last.was_announced || last.progress == progress) {
            last.was_announced = true;
            return ExportState::Ready(last.number);
        }
        *last_export += 1;
        let (session_id, number) = (session_id.to_owned(), *last_export);
        let trace = perfetto::trace(&session_id, of_session());
        exports.push_back(Export { session_id, number, trace, progress, was_announced: false });
        while exports.len() > MAX_EXPORTS {
            exports.pop_front();
        }
        ExportState::Pending
    }

    /// The file of an export; `None` if newer ones have taken its place.
    pub(crate) fn trace(&self, session_id: &str, number: u64) -> Option<Vec<u8>> {
        let requests = self.requests.lock();
        let mut exports = requests.exports.iter();
        let export = exports.find(|export| export.number == number && export.session_id == session_id);
        export.map(|export| export.trace.clone())
    }

    fn time(&self) -> Duration {
        now().duration_since(self.start)
    }
}

impl TimedSpan {
    /// How far the request has come; grows with each step.
    fn progress(&self) -> usize {
        1 + usize::from(self.started.is_some()) + usize::from(self.finished.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::super::owner::Owner;
    use super::super::promises::{PromiseSettings, PromiseTable};
    use super::*;

    fn span(session_id: &str) -> Span {
        Span {
            session_id: session_id.to_owned(),
            subject: format!("{session_id}:train:0"),
            name: "optim_step".to_owned(),
            seq: Some(1),
        }
    }

    fn ids(number: usize) -> Vec<PromiseId> {
        let (promises, owner) = (PromiseTable::new(PromiseSettings::default(), 0), Owner::of_key("tml-test"));
        (0..number).map(|_| promises.create(&owner)).collect()
    }

    #[test]
    fn an_export_is_pending_then_ready() {
        let (timeline, ids) = (Timeline::new(), ids(1));
        timeline.submitted(ids[0], span("s"));
        assert_eq!(timeline.export("s"), ExportState::Pending);
        timeline.started(ids[0]);
        assert_eq!(timeline.export("s"), ExportState::Ready(1));
        // The session has gone on.
        assert_eq!(timeline.export("s"), ExportState::Pending);
        assert_eq!(timeline.export("s"), ExportState::Ready(2));
        assert_eq!(timeline.export("s"), ExportState::Ready(2));
        assert!(timeline.trace("s", 1).is_some() && timeline.trace("s", 2).is_some());
        assert_eq!((timeline.trace("other", 2), timeline.trace("s", 3)), (None, None));
    }

    #[test]
    fn requests_and_exports_are_bounded() {
        let timeline = Timeline::new();
        for id in ids(MAX_SPANS + 7) {
            timeline.submitted(id, span("s"));
        }
        assert_eq!(timeline.requests.lock().spans.len(), MAX_SPANS);
        for number in 0..MAX_EXPORTS + 3 {
            timeline.export(&number.to_string());
        }
        assert_eq!(timeline.requests.lock().exports.len(), MAX_EXPORTS);
    }
}
