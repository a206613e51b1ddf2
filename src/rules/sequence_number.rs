//! What a failed submission says about its sequence number.
//!
//! Servers identify a training request by its number. One that sees a number again returns the promise that it made for it; some
//! insist that no number is left out. So a number is used again only if it is certain that the server has not taken it.

use std::time::Duration;

use super::effect::{is_of_gateway, may_have_run};
use super::error_message::{error_message, is_services_own};

/// How many calls may get nothing but a gateway's response to a repeated request. Then the request itself may be why.
const MAX_GATEWAY_RESPONSES: u32 = 3;

/// How a submission failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailedSubmission<'a> {
    /// The number that it had.
    pub(crate) number: u64,
    /// Some of it was written in the last attempt.
    pub(crate) written_last: bool,
    /// It may have been run, in any attempt.
    pub(crate) may_have_run: bool,
    /// It was not tried for as long as it may be: its call has ended.
    pub(crate) is_cut_short: bool,
    /// The status of the last response, if one came.
    pub(crate) status: Option<u16>,
    /// The body of that response.
    pub(crate) body: &'a [u8],
}

/// What becomes of the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NumberFate {
    /// Nothing was run: the next request gets it.
    Free,
    /// The server has taken it, or is not asked again: the next request gets the one after it.
    Passed,
    /// The server may have taken it, and sending the same request again tells.
    Open,
    /// The server expects this number instead, and nothing was run.
    Expected(u64),
    /// The server has taken it, and expects this number next.
    Taken(u64),
}

impl FailedSubmission<'_> {
    /// Decides about the number of a request.
    pub(crate) fn fate(&self) -> NumberFate {
        match self.conflict() {
            // An earlier attempt has taken it.
            Some(Conflict::Expected(expected)) if self.may_have_run && expected > self.number => {
                NumberFate::Taken(expected)
            }
            Some(Conflict::Expected(expected)) => NumberFate::Expected(expected),
            _ if self.may_have_run => NumberFate::Open,
            Some(Conflict::Used) => NumberFate::Passed,
            None => NumberFate::Free,
        }
    }

    /// Whether the last response does not say what the service did with the request, which may not have got there: a success
    /// without a promise, or a refusal that is not in the service's own form.
    fn is_of_gateway(&self) -> bool {
        self.status.is_some_and(|status| match status {
            200..=299 => true,
            _ if may_have_run(true, self.status) => is_of_gateway(status),
            _ => !is_services_own(status, self.body),
        })
    }

    /// What a refusal says about the number, if it is about numbers and not, for example, about the name of a checkpoint. The
    /// service refuses a number with 409; the local server, so that no client repeats the request, with 400 or 410.
    fn conflict(&self) -> Option<Conflict> {
        let status = self.status.filter(|status| matches!(status, 400 | 409 | 410))?;
        let text = error_message(status, self.body).to_ascii_lowercase();
        match status {
            409 if text.contains("sequence") || text.contains("seq_id") => {
                Some(expected(&text).map_or(Conflict::Used, Conflict::Expected))
            }
            // Most of these are about the request, which may be about sequences, too.
            400 | 410 if text.contains("sequence number") && text.contains("was used") => Some(Conflict::Used),
            _ => None,
        }
    }
}

/// What came of sending a request once more, in the calls that settled nothing.
#[derive(Debug, Default)]
pub(crate) struct Repetitions {
    /// How many of them got nothing but a gateway's response.
    gateway_responses: u32,
    /// How long those sent it that ended meanwhile.
    cut_short: Duration,
}

impl Repetitions {
    /// Decides about a number whose fate was [`Open`](NumberFate::Open), after a call has sent its request once more, for this
    /// long, and failed. A request that fails the same way each time must not stop those behind it: unless nothing of it arrives,
    /// or any request would be refused now, three responses of gateways end the repetition, and so do calls that ended meanwhile
    /// and together took the submit window.
    pub(crate) fn failed(&mut self, failed: &FailedSubmission<'_>, took: Duration, window: Duration) -> NumberFate {
        let open_if = |is_open| if is_open { NumberFate::Open } else { NumberFate::Passed };
        match (failed.status, failed.conflict()) {
            _ if !failed.written_last => NumberFate::Open,
            (_, Some(Conflict::Expected(expected))) if expected > failed.number => NumberFate::Taken(expected),
            (_, Some(Conflict::Expected(expected))) => NumberFate::Expected(expected),
            (_, Some(Conflict::Used)) => NumberFate::Passed,
            // The key, the account or the moment: the next request would be refused for it too.
            (Some(300..=399 | 401 | 402 | 429), _) => NumberFate::Open,
            // It might have been settled in the rest of the window, whatever the last attempt got.
            (status, _) if failed.is_cut_short && may_have_run(true, status) => {
                self.cut_short = self.cut_short.saturating_add(took);
                open_if(self.cut_short < window)
            }
            _ if failed.is_of_gateway() => {
                self.gateway_responses = self.gateway_responses.saturating_add(1);
                open_if(self.gateway_responses < MAX_GATEWAY_RESPONSES)
            }
            (Some(409), _) => NumberFate::Passed,
            (status, _) if may_have_run(true, status) => NumberFate::Passed,
            // The server would have said the same the first time.
            _ => NumberFate::Free,
        }
    }
}

/// What the server says about a number that it does not take.
enum Conflict {
    /// It expects this one.
    Expected(u64),
    /// It has seen it before.
    Used,
}

/// The number in `Sequence conflict: expected 3, got 4`, in lower case. One that no request could have is none.
fn expected(conflict: &str) -> Option<u64> {
    let (_, after) = conflict.split_once("expected ")?;
    let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    after[..digits].parse::<i32>().ok().and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use NumberFate::{Expected, Free, Open, Passed, Taken};

    /// A request without a response.
    const WRITTEN: FailedSubmission<'_> = FailedSubmission {
        number: 3,
        written_last: true,
        may_have_run: true,
        is_cut_short: false,
        status: None,
        body: b"",
    };

    const WINDOW: Duration = Duration::from_secs(300);

    const CONFLICT: &[u8] = br#"{"detail":"Sequence conflict: expected 4, got 3"}"#;
    const BEHIND: &[u8] = br#"{"detail":"Sequence conflict: expected 2, got 3"}"#;
    const SAME: &[u8] = br#"{"detail":"Sequence conflict: expected 3, got 3"}"#;
    const LONG: &[u8] = br#"{"detail":"the sequence number is too long"}"#;
    const USED: &[u8] = br#"{"error":"this sequence number was used for a different request"}"#;
    const NAME: &[u8] = br#"{"detail":"the checkpoint a exists; expected 1 of its kind"}"#;

    #[test]
    fn only_a_definite_refusal_frees_the_number() {
        // The last column is the fate if an attempt before it may have been run.
        for (status, body, alone, repeated) in [
            (None, &b""[..], Open, Open),
            (Some(200), b"", Open, Open),
            (Some(302), b"", Free, Open),
            (Some(400), b"", Free, Open),
            (Some(400), USED, Passed, Open),
            (Some(400), LONG, Free, Open),
            (Some(400), CONFLICT, Free, Open),
            (Some(410), USED, Passed, Open),
            (Some(401), b"", Free, Open),
            (Some(402), b"", Free, Open),
            (Some(403), b"", Free, Open),
            (Some(404), b"", Free, Open),
            (Some(405), b"", Free, Open),
            (Some(408), b"", Open, Open),
            (Some(409), NAME, Free, Open),
            (Some(409), USED, Passed, Open),
            (Some(409), CONFLICT, Expected(4), Taken(4)),
            (Some(409), BEHIND, Expected(2), Expected(2)),
            (Some(409), SAME, Expected(3), Expected(3)),
            (Some(410), b"", Free, Open),
            (Some(413), b"", Free, Open),
            (Some(415), b"", Free, Open),
            (Some(422), CONFLICT, Free, Open),
            (Some(429), b"", Free, Open),
            (Some(499), b"", Open, Open),
            (Some(500), b"", Open, Open),
            (Some(501), b"", Free, Open),
            (Some(502), b"", Open, Open),
            (Some(503), b"", Open, Open),
            (Some(524), b"", Open, Open),
        ] {
            for (before, fate) in [(false, alone), (true, repeated)] {
                let may_have_run = before || may_have_run(true, status);
                let failed = FailedSubmission { may_have_run, status, body, ..WRITTEN };
                assert_eq!(failed.fate(), fate, "{status:?} {before}");
            }
        }
        let unwritten = FailedSubmission { written_last: false, may_have_run: false, ..WRITTEN };
        assert_eq!(unwritten.fate(), Free);
    }

    #[test]
    fn a_repeated_request_settles_its_number() {
        const OWN: &[u8] = br#"{"detail":"no"}"#;
        const ROUTER: &[u8] = br#"{"detail":"Not Found"}"#;
        // The last column is the fate after the third response of a gateway.
        for (status, body, early, late) in [
            (None, &b""[..], Passed, Passed),
            (Some(200), b"", Open, Passed),
            (Some(302), b"", Open, Open),
            (Some(400), OWN, Free, Free),
            (Some(400), USED, Passed, Passed),
            (Some(410), USED, Passed, Passed),
            (Some(401), OWN, Open, Open),
            (Some(402), b"", Open, Open),
            (Some(403), OWN, Free, Free),
            (Some(404), OWN, Free, Free),
            (Some(404), ROUTER, Open, Passed),
            (Some(404), b"<html>", Open, Passed),
            (Some(409), NAME, Passed, Passed),
            (Some(409), b"<html>", Open, Passed),
            (Some(409), USED, Passed, Passed),
            (Some(409), CONFLICT, Taken(4), Taken(4)),
            (Some(409), BEHIND, Expected(2), Expected(2)),
            (Some(409), SAME, Expected(3), Expected(3)),
            (Some(413), b"", Open, Passed),
            (Some(415), OWN, Free, Free),
            (Some(422), OWN, Free, Free),
            (Some(429), b"", Open, Open),
            (Some(408), OWN, Open, Passed),
            (Some(499), OWN, Passed, Passed),
            (Some(500), b"", Passed, Passed),
            (Some(501), b"", Open, Passed),
            (Some(503), OWN, Open, Passed),
            (Some(524), b"", Open, Passed),
        ] {
            let failed = FailedSubmission { status, body, ..WRITTEN };
            let mut repetitions = Repetitions::default();
            for expected in [early, early, late, late] {
                let not_now = FailedSubmission { written_last: false, ..failed };
                assert_eq!(repetitions.failed(&not_now, WINDOW, WINDOW), Open, "{status:?}");
                assert_eq!(repetitions.failed(&failed, WINDOW, WINDOW), expected, "{status:?} {repetitions:?}");
            }
        }
    }

    #[test]
    fn calls_that_end_settle_nothing_within_the_window() {
        let fates = |status, body, took, calls| {
            let (failed, mut repetitions) =
                (FailedSubmission { is_cut_short: true, status, body, ..WRITTEN }, Repetitions::default());
            (0..calls).map(|_| repetitions.failed(&failed, took, WINDOW)).collect::<Vec<_>>()
        };
        for status in [None, Some(200), Some(408), Some(499), Some(500), Some(503), Some(524)] {
            assert_eq!(fates(status, b"", WINDOW / 3, 4), [Open, Open, Passed, Passed], "{status:?}");
            assert_eq!(fates(status, b"", WINDOW / 1000, 999), [Open; 999], "{status:?}");
        }
        // What they would say without an end, too.
        for (status, body, fate) in [
            (303, &b""[..], Open),
            (402, b"", Open),
            (404, br#"{"detail":"no"}"#, Free),
            (409, CONFLICT, Taken(4)),
            (409, USED, Passed),
        ] {
            assert_eq!(fates(Some(status), body, WINDOW, 4), [fate; 4], "{status}");
        }
    }

    #[test]
    fn refusals_for_the_moment_do_not_count() {
        let mut repetitions = Repetitions::default();
        let mut failed = |status, is_cut_short| {
            let failed = FailedSubmission { status: Some(status), is_cut_short, ..WRITTEN };
            repetitions.failed(&failed, WINDOW / 10, WINDOW)
        };
        for status in [302, 401, 402, 429] {
            assert_eq!(failed(status, false), Open, "{status}");
            assert_eq!(failed(503, true), Open, "its call ended");
        }
        assert_eq!([503, 404, 503].map(|status| failed(status, false)), [Open, Open, Passed]);
    }

    #[test]
    fn expected_numbers_are_read_from_text() {
        for (text, number) in [
            ("sequence conflict: expected 17, got 3", Some(17)),
            ("sequence conflict: expected 17", Some(17)),
            ("expected seq 17", None),
            ("expected 0, got 1", None),
            ("expected 2147483647, got 1", Some(2_147_483_647)),
            ("expected 2147483648, got 1", None),
            ("expected 99999999999999999999999, got 1", None),
            ("", None),
        ] {
            assert_eq!(expected(text), number, "{text}");
        }
    }
}
