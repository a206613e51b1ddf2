use quickcheck::quickcheck;
use serde_json::Value;

use super::super::testing::{float, golden, list, start};
use super::*;
use crate::error::ConnectionFault;

const EPOCH: SystemTime = SystemTime::UNIX_EPOCH;

fn policy(max_retries: u32) -> RetryPolicy {
    RetryPolicy { max_retries, ..RetryPolicy::default() }
}

/// This many failed attempts, none of them a conflict.
fn failed(attempts: u32) -> Failures {
    Failures { attempts, ..Failures::default() }
}

/// A response of this status with these headers, at this time.
fn response_at(now: SystemTime, status: u16, headers: &[(&str, &str)]) -> AttemptFailure {
    let lookup = |name: &str| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    AttemptFailure::Status { status, advice: RetryAdvice::read(lookup, now) }
}

fn response(status: u16, headers: &[(&str, &str)]) -> AttemptFailure {
    response_at(EPOCH, status, headers)
}

fn window_retries(status: u16, headers: &[(&str, &str)]) -> bool {
    is_worth_another_round(&response(status, headers))
}

fn u16_of(value: &Value) -> u16 {
    u16::try_from(value.as_u64().unwrap()).unwrap()
}

fn close(wait: Duration, seconds: f64) -> bool {
    (wait.as_secs_f64() - seconds).abs() < 1e-8
}

#[test]
fn retryable_responses_match_the_fixture() {
    for case in list(&golden("pure_retry")["should_retry"]) {
        let headers: Vec<_> =
            case["x-should-retry"].as_str().map(|value| ("x-should-retry", value)).into_iter().collect();
        let wait = policy(10).next(failed(0), &response(u16_of(&case["status"]), &headers), 0.0);
        assert_eq!(wait.is_some(), case["out"], "{case}");
    }
}

/// How many of these responses arrive until one is final; one more than their number if none is.
fn responses_until_final(policy: RetryPolicy, responses: &[(u16, &[(&str, &str)])]) -> usize {
    let mut before = Failures::default();
    let is_final = |(status, headers): &(u16, &[(&str, &str)])| {
        let failure = response(*status, headers);
        let wait = policy.next(before, &failure, 0.5);
        before.count(&failure);
        wait.is_none()
    };
    responses.iter().position(is_final).unwrap_or(responses.len()) + 1
}

#[test]
fn conflicts_are_retried_twice_unless_advised_otherwise() {
    const YES: &[(&str, &str)] = &[("x-should-retry", "true")];
    const LOUD: &[(&str, &str)] = &[("x-should-retry", "TRUE")];
    const NO: &[(&str, &str)] = &[("x-should-retry", "false")];
    let (conflict, passing) = ((409, [].as_slice()), (503, [].as_slice()));
    for (responses, expected) in [
        (vec![conflict; 5], 3),
        (vec![(409, LOUD); 5], 3),
        (vec![(409, YES); 12], 11),
        (vec![(409, NO); 5], 1),
        // Scenario 71.
        (vec![(500, [].as_slice()), (408, &[]), conflict, passing, (429, &[])], 6),
        (vec![passing, passing, passing, conflict, conflict, conflict, passing], 6),
        (vec![conflict, passing, passing, conflict, passing, conflict], 6),
        (vec![(409, YES), (409, YES), (409, YES), conflict, conflict, conflict], 6),
        (vec![conflict, conflict, (409, YES), passing, conflict], 5),
    ] {
        assert_eq!(responses_until_final(policy(10), &responses), expected, "{responses:?}");
    }
    assert_eq!(responses_until_final(policy(1), &[conflict; 5]), 2);
    assert_eq!((window_retries(409, &[]), window_retries(409, LOUD), window_retries(409, YES)), (false, false, true));
}

#[test]
fn a_new_round_allows_no_more_conflicts() {
    let mut before = Failures { attempts: 10, conflicts: 2, permanent: 0, shortages: 0 };
    before.next_round();
    assert!(policy(10).next(before, &AttemptFailure::Timeout, 0.5).is_some());
    assert_eq!(policy(10).next(before, &response(409, &[]), 0.5), None);
}

#[test]
fn permanent_faults_end_after_one_or_two_attempts() {
    let (once, never) =
        (AttemptFailure::Permanent { one_more_try: true }, AttemptFailure::Permanent { one_more_try: false });
    let window = || Some(SubmitWindow::new(start(), Duration::from_secs(300)));
    for (failures, attempts) in
        [(vec![never; 3], 1), (vec![once; 3], 2), (vec![AttemptFailure::Connection, never], 2), (vec![once, never], 2)]
    {
        let mut retry = RequestRetry::new(policy(10), window());
        let retried = failures.iter().take_while(|failure| retry.next(failure, start(), 0.5).is_some()).count();
        assert_eq!(retried + 1, attempts, "{failures:?}");
    }
}

#[test]
fn a_shortage_is_retried_three_times_at_most() {
    let window = || Some(SubmitWindow::new(start(), Duration::from_secs(300)));
    let shortage = AttemptFailure::Shortage;
    let mixed = vec![shortage, shortage, AttemptFailure::Connection, shortage, shortage];
    for (retries, failures, attempts) in [(10, vec![shortage; 9], 4), (0, vec![shortage; 9], 4), (10, mixed, 5)] {
        let mut retry = RequestRetry::new(policy(retries), window());
        let retried = failures.iter().take_while(|failure| retry.next(failure, start(), 0.5).is_some()).count();
        assert_eq!(retried + 1, attempts, "{failures:?}");
    }
    let mut without_window = RequestRetry::new(policy(10), None);
    let retried = (0..9).take_while(|_| without_window.next(&shortage, start(), 0.5).is_some()).count();
    assert_eq!(retried, 3);
}

#[test]
fn attempts_are_limited_by_the_policy() {
    for failure in [AttemptFailure::Connection, AttemptFailure::Timeout] {
        assert!(policy(2).next(failed(1), &failure, 0.0).is_some());
        assert_eq!(policy(2).next(failed(2), &failure, 0.0), None);
        assert_eq!(policy(0).next(failed(0), &failure, 0.0), None);
    }
}

#[test]
fn retry_after_matches_the_fixture() {
    for case in list(&golden("pure_retry")["calculate_retry_timeout_headers"]) {
        let headers: Vec<_> = case["headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (&**name, value.as_str().unwrap()))
            .collect();
        let now = EPOCH + Duration::from_secs_f64(float(&case["now"]));
        let asked = retry_after(|name| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value), now);
        let parsed = &case["parsed"]["out"];
        match Some(parsed).filter(|out| !out.is_null()).map(float).filter(|out| *out > 0.0 && out.is_finite()) {
            Some(seconds) => assert!(close(asked.unwrap(), seconds), "{case}"),
            None => assert_eq!(asked, None, "{case}"),
        }
        let attempt = (case["max_retries"].as_u64().unwrap() - case["remaining_retries"].as_u64().unwrap()) as u32;
        let failure = response_at(now, 503, &headers);
        let wait = policy(10).next(failed(attempt), &failure, float(&case["random"])).unwrap();
        assert!(close(wait, float(&case["out"])), "{wait:?} {case}");
    }
}

#[test]
fn a_date_has_any_zone() {
    // 10:00:00 in UTC.
    let now = EPOCH + Duration::from_secs(1_761_991_200);
    for (date, wait) in [
        ("Sat, 01 Nov 2025 10:00:03 GMT", Some(3)),
        ("Sat, 01 Nov 2025 10:00:03", Some(3)),
        ("Sat, 01 Nov 2025 10:00:03 +0000", Some(3)),
        ("Sat, 01 Nov 2025 15:30:03 +0530", Some(3)),
        ("Sat, 01 Nov 2025 06:30:03 -0330", Some(3)),
        ("Sat, 01 Nov 2025 06:30:03 +0330", None),
        ("Sat, 01 Nov 2025 10:00:03 +1x00", None),
        ("Sat, 01 Nov 2025 10:00:03 +00xx", None),
        ("Sat, 01 Nov 2025 10:00:03 -00999999999999999999", None),
    ] {
        let asked = retry_after(|name| (name == "retry-after").then_some(date), now);
        assert_eq!(asked, wait.map(Duration::from_secs), "{date}");
    }
}

#[test]
fn a_date_counts_from_the_servers_time() {
    let until = "Sat, 01 Nov 2025 10:00:30 GMT";
    for (date, own_time, wait) in [
        (Some("Sat, 01 Nov 2025 10:00:00 GMT"), 0, Some(30)),
        (Some("Sat, 01 Nov 2025 10:00:00 GMT"), 2_000_000_000, Some(30)),
        (Some("Sat, 01 Nov 2025 10:00:30 GMT"), 0, None),
        (Some("today"), 1_761_991_200, Some(30)),
        (None, 1_761_991_200, Some(30)),
        (None, 1_761_991_231, None),
    ] {
        let header = |name: &str| if name == "date" { date } else { (name == "retry-after").then_some(until) };
        let asked = retry_after(header, EPOCH + Duration::from_secs(own_time));
        assert_eq!(asked, wait.map(Duration::from_secs), "{date:?} {own_time}");
    }
}

#[test]
fn only_a_lost_connection_is_a_failure() {
    let failure = |error: Error| AttemptFailure::of_connection(&error).map(|failure| format!("{failure:?}"));
    let connect =
        |outlook| Error::new(ErrorKind::Connect, "lost").with_connection_fault(ConnectionFault::Route, outlook);
    for (error, expected) in [
        (connect(Outlook::Temporary), Some("Connection")),
        (connect(Outlook::Shortage), Some("Shortage")),
        (connect(Outlook::OneMoreTry), Some("Permanent { one_more_try: true }")),
        (connect(Outlook::Permanent), Some("Permanent { one_more_try: false }")),
        (Error::timeout(Limit::Read), Some("Timeout")),
        (Error::timeout(Limit::Operation), None),
        (Error::new(ErrorKind::Decode, "no JSON"), None),
    ] {
        assert_eq!(failure(error).as_deref(), expected);
    }
}

#[test]
fn an_absurd_retry_after_is_ignored() {
    let asked = |value: &'static str| retry_after(|name| (name == "retry-after").then_some(value), EPOCH);
    assert_eq!(asked("1e300"), None);
    assert_eq!(asked("99999999999999999999999"), None);
    assert_eq!(asked("86400"), Some(Duration::from_secs(86_400)));
    assert_eq!(asked("Sat, 01 Nov 2025 10:00:03 +99"), None);
    assert_eq!(asked("Sat, 01 Nov 2025 10:00:03 +0018446744073709551615"), None);
    assert_eq!(asked("+é0"), None);
}

#[test]
fn the_wait_grows_as_in_the_fixture() {
    for case in list(&golden("pure_retry")["calculate_retry_timeout_backoff"]["cases"]) {
        let attempt = (case["max_retries"].as_u64().unwrap() - case["remaining_retries"].as_u64().unwrap()) as u32;
        assert!(close(policy(10).wait(attempt, float(&case["random"])), float(&case["out"])), "{case}");
    }
}

#[test]
fn a_resubmission_waits_as_in_the_fixture() {
    for case in list(&golden("pure_retry")["RetryHandler._calculate_retry_delay"]["cases"]) {
        let setting = |name, default| case["config"].get(name).map_or(default, float);
        let base = setting("retry_delay_base", 0.5);
        // 0.4.1 jumps to the cap when its 2ⁿ overflows, also from a base of zero; here zero stays zero.
        let expected = if base == 0.0 { 0.0 } else { float(&case["out"]) };
        let wait = resubmit_after(
            Duration::from_secs_f64(base),
            Duration::from_secs_f64(setting("retry_delay_max", 10.0)),
            setting("jitter_factor", 0.25),
            case["attempt"].as_u64().unwrap() as u32,
            float(&case["random"]),
        );
        assert!(close(wait, expected), "{wait:?} {case}");
    }
}

/// Statuses that the Python client retries in the window, and we do not: a checkpoint name that is taken stays taken.
const FINAL_HERE: [u16; 1] = [409];

#[test]
fn statuses_for_another_round_match_the_fixture() {
    let fixture = golden("pure_retry");
    let by_code = list(&fixture["is_retryable_status_code"]).iter().map(|case| (u16_of(&case["status"]), &case["out"]));
    let by_error = list(&fixture["exceptions"]).iter().filter_map(|case| {
        let status = case["exception"].as_str()?.strip_prefix("status ")?.parse().unwrap();
        Some((status, &case["InternalClientHolder._is_retryable_exception"]))
    });
    for (status, out) in by_code.chain(by_error) {
        assert_eq!(window_retries(status, &[]), *out == true && !FINAL_HERE.contains(&status), "{status}");
    }
    assert!(window_retries(500, &[("x-should-retry", "false")]), "scenario 76: the header ends only the inner loop");
    let passing = [AttemptFailure::Connection, AttemptFailure::Timeout, AttemptFailure::Damaged];
    assert!(passing.iter().all(is_worth_another_round));
}

#[test]
fn the_window_waits_up_to_30_seconds() {
    let started = start();
    let window = SubmitWindow::new(started, Duration::from_secs(300));
    let (mut now, mut waits) = (started, Vec::new());
    while let Some(wait) = window.next(waits.len() as u32 + 1, &AttemptFailure::Connection, now) {
        waits.push(wait.as_secs());
        now += wait;
    }
    // 0.4.1 makes a last attempt at the very end. Here the window is absolute, so that attempt would have no time.
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30, 30, 30]);
    assert_eq!(window.remaining(now), Duration::from_secs(29));
    assert_eq!(window.remaining(started + Duration::from_secs(400)), Duration::ZERO);
    assert_eq!(window.next(1, &AttemptFailure::Timeout, started + Duration::from_secs(300)), None);
}

#[test]
fn a_window_without_time_is_over() {
    let (now, lost, refused) = (start(), AttemptFailure::Connection, response(400, &[]));
    for (millis, failure, wait, is_over) in [
        (1000, lost, None, true),
        (1001, lost, Some(1), false),
        (1000, refused, None, false),
        (1001, refused, None, false),
    ] {
        let window = SubmitWindow::new(now, Duration::from_millis(millis));
        let mut retry = RequestRetry::new(policy(0), Some(window));
        assert_eq!(retry.next(&failure, now, 0.5), wait.map(Duration::from_secs), "{millis} {failure:?}");
        assert_eq!(retry.is_window_over(), is_over, "{millis} {failure:?}");
    }
}

#[test]
fn a_submission_is_retried_in_rounds() {
    let started = start();
    let mut retry = RequestRetry::new(policy(1), Some(SubmitWindow::new(started, Duration::from_secs(300))));
    let waits = [(); 6].map(|()| retry.next(&AttemptFailure::Connection, started, 0.0).unwrap().as_millis());
    assert_eq!(waits, [500, 1000, 500, 2000, 500, 4000]);
    let after = started + Duration::from_secs(300);
    assert!(retry.next(&AttemptFailure::Connection, after, 0.0).is_some(), "the policy does not know the window");
    assert_eq!(retry.next(&AttemptFailure::Connection, after, 0.0), None);
}

#[test]
fn each_damaged_response_is_a_round() {
    let (lost, damaged) = (AttemptFailure::Connection, AttemptFailure::Damaged);
    let mut retry = RequestRetry::new(policy(1), Some(SubmitWindow::new(start(), Duration::from_secs(300))));
    let failures = [damaged, damaged, lost, damaged, lost, lost, damaged];
    let waits = failures.map(|failure| retry.next(&failure, start(), 0.0).unwrap().as_millis());
    assert_eq!(waits, [1000, 2000, 500, 4000, 500, 8000, 16_000]);
}

#[test]
fn chosen_failures_are_returned_at_once() {
    let busy: fn(Option<u16>) -> bool = |status| status == Some(429);
    let all_but_busy: fn(Option<u16>) -> bool = |status| status != Some(429);
    for (returns, failure, retries) in [
        (busy, response(429, &[]), false),
        (busy, response(503, &[]), true),
        (busy, AttemptFailure::Connection, true),
        (all_but_busy, response(429, &[]), true),
        (all_but_busy, response(503, &[]), false),
        (all_but_busy, AttemptFailure::Connection, false),
        (all_but_busy, AttemptFailure::Timeout, false),
        (all_but_busy, AttemptFailure::Damaged, false),
    ] {
        let window = SubmitWindow::new(start(), Duration::from_secs(300));
        let mut retry = RequestRetry::new(policy(0), Some(window)).returning(returns);
        assert_eq!(retry.next(&failure, start(), 0.0).is_some(), retries, "{failure:?}");
    }
}

#[test]
fn a_date_may_have_a_zone() {
    let seconds = |text| Some(date(text)?.duration_since(EPOCH).ok()?.as_secs());
    let noon = seconds("Wed, 21 Oct 2015 12:00:00 GMT").unwrap();
    for (text, expected) in [
        ("Wed, 21 Oct 2015 12:00:00", Some(noon)),
        ("Wed, 21 Oct 2015 12:00:00 +0000", Some(noon)),
        ("Wed, 21 Oct 2015 17:30:00 +0530", Some(noon)),
        ("Wed, 21 Oct 2015 08:30:00 -0330", Some(noon)),
        ("Wed, 21 Oct 2015 13:00:00 +0100", Some(noon)),
        ("Wed, 21 Oct 2015 12:00:00 +01", None),
        ("Wed, 21 Oct 2015 12:00:00 +", None),
        ("Wed, 21 Oct 2015 12:00:00 +0\u{fc}", None),
        ("Wed, 21 Oct 2015 12:00:00 +00999999999999999999", None),
        ("Wed, 21 Oct 2015 12:00:00 -99999999999999999999", None),
        ("Thu, 01 Jan 1970 00:00:00 +9999", None),
    ] {
        assert_eq!(seconds(text), expected, "{text}");
    }
}

quickcheck! {
    fn any_header_is_parsed_without_a_panic(value: String, millis: bool) -> bool {
        let name = if millis { "retry-after-ms" } else { "retry-after" };
        retry_after(|key| (key == name).then_some(&*value), EPOCH).is_none_or(|wait| !wait.is_zero())
    }

    fn a_wait_is_never_longer_than_a_minute(attempt: u32, seconds: f64, jitter: f64) -> bool {
        let value = seconds.to_string();
        let failure = response(429, &[("retry-after", &value)]);
        policy(u32::MAX).next(failed(attempt), &failure, jitter).is_none_or(|wait| wait <= MAX_RETRY_AFTER)
    }
}
