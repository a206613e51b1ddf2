//! How a large thing is fetched that may break off on the way: what an answer begins, and what follows a failure.

use std::time::{Duration, Instant, SystemTime};

use super::retry::{Failure, Failures, RetryPolicy, retry_after};

/// How often in a row a fresh link may turn out to be refused.
const REFUSED_LINKS: u32 = 2;

/// What is stored of the thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// The first so many bytes.
    pub(crate) bytes: u64,
    /// Its length, where known.
    pub(crate) total: Option<u64>,
    /// What tells it from another thing in the same place: a strong entity tag or a date. None where the server cannot
    /// send the rest of it.
    pub(crate) validator: Option<String>,
}

impl Stored {
    /// What to ask for: the rest, provided that it is the same thing; or all.
    pub(crate) fn after(&self) -> Option<(u64, &str)> {
        self.validator.as_deref().filter(|_| self.bytes > 0).map(|validator| (self.bytes, validator))
    }

    /// Whether all of it is there, as far as anybody knows, once an answer has ended.
    pub(crate) fn is_whole(&self) -> bool {
        self.total.is_none_or(|total| total == self.bytes)
    }
}

/// What an answer begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Its body goes to where this ends.
    Store(Stored),
    /// All of it is stored already.
    Whole,
    /// It does not go with what is stored, which is of no use.
    Forget,
    /// The link does not hold, or no more.
    Refused,
    /// It is no answer to the request.
    Failed,
}

/// Reads the head of an answer. `header` looks up a header by its name in lower case.
pub(crate) fn begin<'h>(stored: &Stored, status: u16, header: impl Fn(&str) -> Option<&'h str>) -> Begin {
    let asked_for_rest = stored.after().is_some();
    match status {
        206 if asked_for_rest => match header("content-range").and_then(content_range) {
            Some(ContentRange { range: Some((first, last)), total }) if first == stored.bytes => {
                let total = total.unwrap_or(last.saturating_add(1));
                if last.checked_add(1) == Some(total) && stored.total.is_none_or(|known| known == total) {
                    Begin::Store(Stored { total: Some(total), ..stored.clone() })
                } else {
                    Begin::Forget
                }
            }
            _ => Begin::Forget,
        },
        416 if asked_for_rest => match header("content-range").and_then(content_range) {
            Some(ContentRange { range: None, total: Some(total) })
                if total == stored.bytes && stored.total == Some(total) =>
            {
                Begin::Whole
            }
            _ => Begin::Forget,
        },
        200 => {
            // The bytes that come are not those that the length and a range count.
            let encoded = header("content-encoding").is_some_and(|coding| coding != "identity");
            let total = header("content-length").filter(|_| !encoded).and_then(|length| length.trim().parse().ok());
            let tag = header("etag").filter(|tag| !tag.starts_with("W/"));
            let refuses = encoded || header("accept-ranges").is_some_and(|unit| unit.trim() == "none");
            let validator = tag.or_else(|| header("last-modified")).filter(|_| !refuses).map(str::to_owned);
            Begin::Store(Stored { bytes: 0, total, validator })
        }
        403 | 404 | 410 => Begin::Refused,
        _ => Begin::Failed,
    }
}

/// What `content-range` says: `bytes 0-99/200`, where either half may be `*`.
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

/// What stands in the way.
pub(crate) enum Trouble<'a> {
    /// A request failed.
    Failure(Failure<'a>),
    /// The thing is still being made, with what the server says of it.
    Making(&'a dyn Fn(&str) -> Option<&'a str>),
    /// The link is refused.
    Link,
}

/// How long to go on.
#[derive(Clone, Debug)]
pub(crate) struct Persistence {
    policy: RetryPolicy,
    /// How long the thing may be in the making.
    making: Duration,
    making_since: Option<Instant>,
    /// Since something new came.
    failures: Failures,
    refused: u32,
    most: u64,
}

impl Persistence {
    pub(crate) fn new(policy: RetryPolicy, making: Duration) -> Self {
        Persistence { policy, making, making_since: None, failures: Failures::default(), refused: 0, most: 0 }
    }

    /// So many bytes are stored. More than ever before means that it goes on.
    pub(crate) fn stored(&mut self, bytes: u64) {
        if bytes > self.most {
            (self.most, self.failures, self.refused) = (bytes, Failures::default(), 0);
        }
    }

    /// The wait before the next attempt, or `None` when there is none. `jitter` is a random number in 0..1.
    pub(crate) fn next(
        &mut self,
        trouble: &Trouble<'_>,
        now: Instant,
        wall: SystemTime,
        jitter: f64,
    ) -> Option<Duration> {
        if !matches!(trouble, Trouble::Making(_)) {
            self.making_since = None;
        }
        match trouble {
            Trouble::Failure(failure) => {
                let wait = self.policy.next(self.failures, failure, wall, jitter);
                self.failures.note(failure);
                wait
            }
            Trouble::Link => {
                self.refused += 1;
                (self.refused <= REFUSED_LINKS).then_some(Duration::ZERO)
            }
            Trouble::Making(headers) => {
                let since = *self.making_since.get_or_insert(now);
                let wait = retry_after(headers, wall).unwrap_or_else(|| self.policy.wait(u32::MAX, jitter));
                let waited = now.saturating_duration_since(since);
                waited.checked_add(wait).filter(|waited| *waited <= self.making).map(|_| wait)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::super::testing::start;
    use super::*;

    const EPOCH: SystemTime = SystemTime::UNIX_EPOCH;

    fn lookup<'h>(headers: &'h [(&'h str, &'h str)]) -> impl Fn(&str) -> Option<&'h str> {
        |name| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    fn stored(bytes: u64, total: Option<u64>, validator: Option<&str>) -> Stored {
        Stored { bytes, total, validator: validator.map(str::to_owned) }
    }

    #[test]
    fn a_whole_answer_is_stored_from_its_beginning() {
        for (headers, expected) in [
            (vec![], stored(0, None, None)),
            (vec![("content-length", "9"), ("etag", "\"a\"")], stored(0, Some(9), Some("\"a\""))),
            (vec![("etag", "W/\"a\""), ("last-modified", "Sat")], stored(0, None, Some("Sat"))),
            (vec![("etag", "W/\"a\"")], stored(0, None, None)),
            (vec![("etag", "\"a\""), ("accept-ranges", "none")], stored(0, None, None)),
            (vec![("content-length", "9"), ("etag", "\"a\""), ("content-encoding", "gzip")], stored(0, None, None)),
            (vec![("content-length", "many")], stored(0, None, None)),
        ] {
            for before in [Stored::default(), stored(5, Some(9), Some("\"old\""))] {
                assert_eq!(begin(&before, 200, lookup(&headers)), Begin::Store(expected.clone()), "{headers:?}");
            }
        }
    }

    #[test]
    fn the_rest_is_stored_only_where_it_goes_on() {
        let (before, unknown) = (stored(5, Some(9), Some("\"a\"")), stored(5, None, Some("\"a\"")));
        let store = |total| Begin::Store(stored(5, Some(total), Some("\"a\"")));
        for (before, status, range, expected) in [
            (&before, 206, "bytes 5-8/9", store(9)),
            (&before, 206, "bytes 5-8/*", store(9)),
            (&unknown, 206, "bytes 5-8/9", store(9)),
            (&before, 206, "bytes 4-8/9", Begin::Forget),
            (&before, 206, "bytes 5-7/9", Begin::Forget),
            (&before, 206, "bytes 5-9/10", Begin::Forget),
            (&before, 206, "bytes 8-5/9", Begin::Forget),
            (&before, 206, "bytes */9", Begin::Forget),
            (&before, 206, "", Begin::Forget),
            (&before, 206, "bytes 5-18446744073709551615/*", Begin::Forget),
            (&before, 416, "bytes */9", Begin::Forget),
            (&stored(9, Some(9), Some("\"a\"")), 416, "bytes */9", Begin::Whole),
            (&stored(9, None, Some("\"a\"")), 416, "bytes */9", Begin::Forget),
            // Nothing of the kind was asked for.
            (&stored(0, None, None), 206, "bytes 0-8/9", Begin::Failed),
            (&stored(5, Some(9), None), 416, "bytes */9", Begin::Failed),
            (&before, 403, "", Begin::Refused),
            (&before, 404, "", Begin::Refused),
            (&before, 410, "", Begin::Refused),
            (&before, 500, "", Begin::Failed),
            (&before, 204, "", Begin::Failed),
        ] {
            assert_eq!(begin(before, status, lookup(&[("content-range", range)])), expected, "{status} {range}");
        }
    }

    fn persistence() -> Persistence {
        let policy = RetryPolicy { max_retries: 2, ..RetryPolicy::default() };
        Persistence::new(policy, Duration::from_secs(100))
    }

    #[test]
    fn failures_count_until_something_new_comes() {
        let (mut persistence, lost) = (persistence(), Trouble::Failure(Failure::Connection));
        let goes_on = |persistence: &mut Persistence| persistence.next(&lost, start(), EPOCH, 0.0).is_some();
        persistence.stored(10);
        assert!(goes_on(&mut persistence));
        // The same again, from the beginning, is nothing new.
        persistence.stored(10);
        assert!(goes_on(&mut persistence));
        assert!(!goes_on(&mut persistence));
        persistence.stored(11);
        assert!(goes_on(&mut persistence));
    }

    #[test]
    fn a_status_that_does_not_pass_ends_it() {
        let headers = |_: &str| None;
        let failure = |status| Trouble::Failure(Failure::Status { status, headers: &headers });
        assert_eq!(persistence().next(&failure(400), start(), EPOCH, 0.0), None);
        assert!(persistence().next(&failure(503), start(), EPOCH, 0.0).is_some());
    }

    #[test]
    fn a_refused_link_is_replaced_twice() {
        let mut persistence = persistence();
        let waits = [(); 3].map(|()| persistence.next(&Trouble::Link, start(), EPOCH, 0.0));
        assert_eq!(waits, [Some(Duration::ZERO), Some(Duration::ZERO), None]);
        persistence.stored(1);
        assert!(persistence.next(&Trouble::Link, start(), EPOCH, 0.0).is_some());
    }

    #[test]
    fn what_is_being_made_is_waited_for_as_the_server_says_and_not_for_ever() {
        let (mut persistence, began) = (persistence(), start());
        let mut wait = |seconds: u64, wish: Option<&'static str>| {
            let headers = |name: &str| wish.filter(|_| name == "retry-after");
            let now = began + Duration::from_secs(seconds);
            persistence.next(&Trouble::Making(&headers), now, EPOCH, 0.0).map(|wait| wait.as_secs())
        };
        assert_eq!(wait(0, None), Some(10));
        // Longer than an ordinary retry would wait.
        assert_eq!(wait(10, Some("80")), Some(80));
        assert_eq!(wait(90, Some("10")), Some(10));
        assert_eq!(wait(90, Some("11")), None);
        assert_eq!(wait(95, None), None);
    }

    quickcheck! {
        fn any_range_is_read_without_a_panic(text: String, bytes: u64) -> bool {
            let before = stored(bytes, None, Some("\"a\""));
            !matches!(begin(&before, 206, |_| Some(&*text)), Begin::Whole)
        }

        fn what_is_stored_goes_on_from_where_it_ended(bytes: u64, first: u64, last: u64, total: u64) -> bool {
            let before = stored(bytes, Some(total), Some("\"a\""));
            let range = format!("bytes {first}-{last}/{total}");
            match begin(&before, 206, |name| (name == "content-range").then_some(&*range)) {
                Begin::Store(after) => first == bytes && after.bytes == bytes && last.checked_add(1) == Some(total),
                _ => true,
            }
        }
    }
}
