//! How an interrupted download resumes: what to do with a response, and when to retry after a failure.

use std::time::{Duration, Instant};

use super::retry::{AttemptFailure, Failures, RetryPolicy};
use super::wait_log::WaitEnd;

/// How many fresh links in a row may be rejected.
const MAX_REJECTED_LINKS: u32 = 2;

/// How far a download is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoredProgress {
    /// The number of bytes stored, from the start.
    pub(crate) bytes: u64,
    /// The total length, if known.
    pub(crate) total: Option<u64>,
    /// Identifies the content: a strong entity tag or a date. `None` if the server cannot send the rest of it.
    pub(crate) validator: Option<String>,
    /// Whether the address always has the same content, so that the rest can be asked for without a validator.
    pub(crate) is_fixed: bool,
}

impl StoredProgress {
    /// Where to resume, and the validator that the content must still have; `None` to start from the beginning.
    pub(crate) fn resume_from(&self) -> Option<(u64, Option<&str>)> {
        let validator = self.validator.as_deref();
        (self.bytes > 0 && (self.is_fixed || validator.is_some())).then_some((self.bytes, validator))
    }

    /// Whether everything is stored, as far as is known, after the end of a response.
    pub(crate) fn is_complete(&self) -> bool {
        self.total.is_none_or(|total| total == self.bytes)
    }
}

/// What to do with a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResumeDecision {
    /// Store its body from this position on. What was stored beyond it is discarded.
    Append(StoredProgress),
    /// Everything is stored already.
    Complete,
    /// It does not match what is stored: start from the beginning.
    Restart,
    /// The link is rejected or has expired.
    LinkRejected,
    /// The request failed.
    Failed,
}

/// Decides by the head of a response. `header` looks up a header by its name in lower case.
pub(crate) fn decide<'h>(
    stored: &StoredProgress,
    status: u16,
    header: impl Fn(&str) -> Option<&'h str>,
) -> ResumeDecision {
    let resumes = stored.resume_from().is_some();
    match status {
        206 if resumes => match header("content-range").and_then(content_range) {
            Some(ContentRange { range: Some((first, last)), total }) if first == stored.bytes => {
                let total = total.unwrap_or(last.saturating_add(1));
                if last.checked_add(1) == Some(total) && stored.total.is_none_or(|known| known == total) {
                    ResumeDecision::Append(StoredProgress { total: Some(total), ..stored.clone() })
                } else {
                    ResumeDecision::Restart
                }
            }
            _ => ResumeDecision::Restart,
        },
        416 if resumes => match header("content-range").and_then(content_range) {
            Some(ContentRange { range: None, total: Some(total) })
                if total == stored.bytes && stored.total == Some(total) =>
            {
                ResumeDecision::Complete
            }
            _ => ResumeDecision::Restart,
        },
        200 => {
            // The length and ranges do not count the decoded bytes.
            let encoded = header("content-encoding").is_some_and(|coding| coding != "identity");
            let total = header("content-length").filter(|_| !encoded).and_then(|length| length.trim().parse().ok());
            let tag = header("etag").filter(|tag| !tag.starts_with("W/"));
            let no_ranges = encoded || header("accept-ranges").is_some_and(|unit| unit.trim() == "none");
            let validator = tag.or_else(|| header("last-modified")).filter(|_| !no_ranges).map(str::to_owned);
            ResumeDecision::Append(StoredProgress { bytes: 0, total, validator, is_fixed: stored.is_fixed })
        }
        403 | 404 | 410 => ResumeDecision::LinkRejected,
        _ => ResumeDecision::Failed,
    }
}

/// A `content-range`: `bytes 0-99/200`, where either half may be `*`.
struct ContentRange {
    /// The first and the last byte.
    range: Option<(u64, u64)>,
    total: Option<u64>,
}

fn content_range(text: &str) -> Option<ContentRange> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.trim().split_once('/')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    if range == "*" {
        return Some(ContentRange { range: None, total });
    }
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(ContentRange { range: Some((first, last)), total })
}

/// Why a download was interrupted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Interruption {
    /// A request failed.
    Failed(AttemptFailure),
    /// The service is still preparing the content, and may ask to wait this long.
    NotReady { retry_after: Option<Duration> },
    /// The link was rejected or has expired.
    LinkRejected,
}

/// Decides when an interrupted download is retried.
#[derive(Clone, Debug)]
pub(crate) struct DownloadRetry {
    policy: RetryPolicy,
    /// The maximum time for the service to prepare the content.
    preparation: Duration,
    not_ready_since: Option<Instant>,
    /// Since the last progress.
    failures: Failures,
    /// Links rejected since the last progress.
    rejected: u32,
    /// The most bytes ever stored.
    max_bytes: u64,
}

impl DownloadRetry {
    pub(crate) fn new(policy: RetryPolicy, preparation: Duration) -> Self {
        DownloadRetry {
            policy,
            preparation,
            not_ready_since: None,
            failures: Failures::default(),
            rejected: 0,
            max_bytes: 0,
        }
    }

    /// This many bytes are stored. More than ever before is progress, and resets the counts.
    pub(crate) fn stored(&mut self, bytes: u64) {
        if bytes > self.max_bytes {
            (self.max_bytes, self.failures, self.rejected) = (bytes, Failures::default(), 0);
        }
    }

    /// What ends the attempts if nothing changes.
    pub(crate) fn end(&self) -> WaitEnd {
        match self.not_ready_since {
            Some(since) => match since.checked_add(self.preparation) {
                Some(at) => WaitEnd::At(at, "timeout_preparation"),
                None => WaitEnd::Never,
            },
            None => WaitEnd::Tries(self.policy.max_retries.saturating_add(1), "max_retries"),
        }
    }

    /// The wait before the next attempt; `None` to give up. `jitter` is a random number in 0..1.
    pub(crate) fn next(&mut self, interruption: &Interruption, now: Instant, jitter: f64) -> Option<Duration> {
        if !matches!(interruption, Interruption::NotReady { .. }) {
            self.not_ready_since = None;
        }
        match interruption {
            Interruption::Failed(failure) => {
                let wait = self.policy.next(self.failures, failure, jitter);
                self.failures.count(failure);
                wait
            }
            Interruption::LinkRejected => {
                self.rejected += 1;
                (self.rejected <= MAX_REJECTED_LINKS).then_some(Duration::ZERO)
            }
            Interruption::NotReady { retry_after } => {
                let since = *self.not_ready_since.get_or_insert(now);
                let wait = retry_after.unwrap_or_else(|| self.policy.wait(u32::MAX, jitter));
                let waited = now.saturating_duration_since(since);
                waited.checked_add(wait).filter(|waited| *waited <= self.preparation).map(|_| wait)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::super::retry::RetryAdvice;
    use super::super::testing::start;
    use super::*;

    fn lookup<'h>(headers: &'h [(&'h str, &'h str)]) -> impl Fn(&str) -> Option<&'h str> {
        |name| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    fn stored(bytes: u64, total: Option<u64>, validator: Option<&str>) -> StoredProgress {
        StoredProgress { bytes, total, validator: validator.map(str::to_owned), is_fixed: false }
    }

    #[test]
    fn only_what_cannot_have_changed_is_resumed() {
        for (bytes, validator, is_fixed, expected) in [
            (0, Some("v"), true, None),
            (5, None, false, None),
            (5, None, true, Some((5, None))),
            (5, Some("v"), false, Some((5, Some("v")))),
        ] {
            let progress = StoredProgress { is_fixed, ..stored(bytes, None, validator) };
            assert_eq!(progress.resume_from(), expected, "{progress:?}");
        }
    }

    #[test]
    fn a_body_is_complete_at_its_length() {
        for (total, expected) in [(None, true), (Some(4), false), (Some(5), true), (Some(6), false)] {
            assert_eq!(stored(5, total, None).is_complete(), expected, "{total:?}");
        }
    }

    #[test]
    fn a_whole_response_is_stored_from_the_start() {
        for (headers, expected) in [
            (vec![], stored(0, None, None)),
            (vec![("content-length", "9"), ("etag", "\"a\"")], stored(0, Some(9), Some("\"a\""))),
            (vec![("etag", "W/\"a\""), ("last-modified", "Sat")], stored(0, None, Some("Sat"))),
            (vec![("etag", "W/\"a\"")], stored(0, None, None)),
            (vec![("etag", "\"a\""), ("accept-ranges", "none")], stored(0, None, None)),
            (vec![("content-length", "9"), ("etag", "\"a\""), ("content-encoding", "gzip")], stored(0, None, None)),
            (vec![("content-length", "many")], stored(0, None, None)),
        ] {
            for before in [StoredProgress::default(), stored(5, Some(9), Some("\"old\""))] {
                assert_eq!(
                    decide(&before, 200, lookup(&headers)),
                    ResumeDecision::Append(expected.clone()),
                    "{headers:?}"
                );
            }
        }
    }

    #[test]
    fn a_range_is_appended_only_if_it_fits() {
        let (before, unknown) = (stored(5, Some(9), Some("\"a\"")), stored(5, None, Some("\"a\"")));
        let fixed = StoredProgress { is_fixed: true, ..stored(5, Some(9), None) };
        let append = |total| ResumeDecision::Append(stored(5, Some(total), Some("\"a\"")));
        for (before, status, range, expected) in [
            (&before, 206, "bytes 5-8/9", append(9)),
            (&before, 206, "bytes 5-8/*", append(9)),
            (&unknown, 206, "bytes 5-8/9", append(9)),
            (&before, 206, "bytes 4-8/9", ResumeDecision::Restart),
            (&before, 206, "bytes 5-7/9", ResumeDecision::Restart),
            (&before, 206, "bytes 5-9/10", ResumeDecision::Restart),
            (&before, 206, "bytes 8-5/9", ResumeDecision::Restart),
            (&before, 206, "bytes */9", ResumeDecision::Restart),
            (&before, 206, "", ResumeDecision::Restart),
            (&before, 206, "bytes 5-18446744073709551615/*", ResumeDecision::Restart),
            (&before, 416, "bytes */9", ResumeDecision::Restart),
            (&stored(9, Some(9), Some("\"a\"")), 416, "bytes */9", ResumeDecision::Complete),
            (&stored(9, None, Some("\"a\"")), 416, "bytes */9", ResumeDecision::Restart),
            (&fixed, 206, "bytes 5-8/9", ResumeDecision::Append(StoredProgress { total: Some(9), ..fixed.clone() })),
            (&fixed, 206, "bytes 5-9/10", ResumeDecision::Restart),
            // No range was requested.
            (&stored(0, None, None), 206, "bytes 0-8/9", ResumeDecision::Failed),
            (&stored(5, Some(9), None), 416, "bytes */9", ResumeDecision::Failed),
            (&before, 403, "", ResumeDecision::LinkRejected),
            (&before, 404, "", ResumeDecision::LinkRejected),
            (&before, 410, "", ResumeDecision::LinkRejected),
            (&before, 500, "", ResumeDecision::Failed),
            (&before, 204, "", ResumeDecision::Failed),
        ] {
            assert_eq!(decide(before, status, lookup(&[("content-range", range)])), expected, "{status} {range}");
        }
    }

    fn retry() -> DownloadRetry {
        let policy = RetryPolicy { max_retries: 2, ..RetryPolicy::default() };
        DownloadRetry::new(policy, Duration::from_secs(100))
    }

    #[test]
    fn failures_count_until_there_is_progress() {
        let (mut retry, lost) = (retry(), Interruption::Failed(AttemptFailure::Connection));
        let retries = |retry: &mut DownloadRetry| retry.next(&lost, start(), 0.0).is_some();
        retry.stored(10);
        assert!(retries(&mut retry));
        // The same bytes again are not progress.
        retry.stored(10);
        assert!(retries(&mut retry));
        assert!(!retries(&mut retry));
        retry.stored(11);
        assert!(retries(&mut retry));
    }

    #[test]
    fn a_permanent_status_is_not_retried() {
        let failure = |status| Interruption::Failed(AttemptFailure::Status { status, advice: RetryAdvice::default() });
        assert_eq!(retry().next(&failure(400), start(), 0.0), None);
        assert!(retry().next(&failure(503), start(), 0.0).is_some());
    }

    #[test]
    fn a_rejected_link_is_replaced_twice() {
        let mut retry = retry();
        let waits = [(); 3].map(|()| retry.next(&Interruption::LinkRejected, start(), 0.0));
        assert_eq!(waits, [Some(Duration::ZERO), Some(Duration::ZERO), None]);
        retry.stored(1);
        assert!(retry.next(&Interruption::LinkRejected, start(), 0.0).is_some());
    }

    #[test]
    fn preparation_is_waited_for_within_its_limit() {
        let (mut retry, started) = (retry(), start());
        let mut wait = |seconds: u64, retry_after: Option<u64>| {
            let now = started + Duration::from_secs(seconds);
            let not_ready = Interruption::NotReady { retry_after: retry_after.map(Duration::from_secs) };
            retry.next(&not_ready, now, 0.0).map(|wait| wait.as_secs())
        };
        assert_eq!(wait(0, None), Some(10));
        // Longer than an ordinary retry would wait.
        assert_eq!(wait(10, Some(80)), Some(80));
        assert_eq!(wait(90, Some(10)), Some(10));
        assert_eq!(wait(90, Some(11)), None);
        assert_eq!(wait(95, None), None);
    }

    #[test]
    fn attempts_end_by_number_or_after_the_preparation() {
        let (now, lost) = (start(), Interruption::Failed(AttemptFailure::Connection));
        let not_ready = Interruption::NotReady { retry_after: None };
        let preparation = WaitEnd::At(now + Duration::from_secs(100), "timeout_preparation");
        let mut retry = retry();
        assert_eq!(retry.end(), WaitEnd::Tries(3, "max_retries"));
        retry.next(&not_ready, now, 0.0);
        retry.next(&not_ready, now + Duration::from_secs(9), 0.0);
        assert_eq!(retry.end(), preparation, "from the first such response on");
        retry.next(&lost, now, 0.0);
        assert_eq!(retry.end(), WaitEnd::Tries(3, "max_retries"));
        let mut patient = DownloadRetry::new(retry.policy, Duration::MAX);
        patient.next(&not_ready, now, 0.0);
        assert_eq!(patient.end(), WaitEnd::Never);
    }

    quickcheck! {
        fn any_range_is_parsed_without_a_panic(text: String, bytes: u64) -> bool {
            let before = stored(bytes, None, Some("\"a\""));
            !matches!(decide(&before, 206, |_| Some(&*text)), ResumeDecision::Complete)
        }

        fn bytes_are_appended_where_they_end(bytes: u64, first: u64, last: u64, total: u64) -> bool {
            let before = stored(bytes, Some(total), Some("\"a\""));
            let range = format!("bytes {first}-{last}/{total}");
            match decide(&before, 206, |name| (name == "content-range").then_some(&*range)) {
                ResumeDecision::Append(after) => first == bytes && after.bytes == bytes && last.checked_add(1) == Some(total),
                _ => true,
            }
        }
    }
}
