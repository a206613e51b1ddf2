//! Whether a request whose attempts failed may have been run.
//!
//! Only a response that says that nothing was run may say no. A server may fail after the work was done, and a gateway in front of
//! it may lose a response, or give up waiting for it. A later attempt does not undo an earlier one.

/// Whether an attempt that failed may have been run: with this status, or without a response that can be read. `written`: some of
/// it was sent.
pub(crate) fn may_have_run(written: bool, status: Option<u16>) -> bool {
    written && !status.is_some_and(is_refusal)
}

/// Whether a server with this status says that it has not run the request. Statuses without a standard meaning do not say so, nor
/// does a success that cannot be read.
fn is_refusal(status: u16) -> bool {
    match status {
        // "See other" follows a request that was run.
        300..=399 => status != 303,
        400..=499 => matches!(status, 400..=407 | 409..=418 | 421..=426 | 428 | 429 | 431 | 451),
        _ => matches!(status, 501 | 505 | 511),
    }
}

/// Whether a failure with this status is most likely that of a gateway, which did not get through to the server or did not wait for
/// it. It says nothing about the request: the same one may succeed a moment later.
pub(crate) fn is_of_gateway(status: u16) -> bool {
    matches!(status, 408 | 502..=504 | 520..=530)
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    #[test]
    fn only_a_refusal_says_that_nothing_was_run() {
        for (statuses, expected) in [
            (&[301, 302, 304, 307, 308][..], false),
            (&[400, 401, 402, 403, 404, 405, 406, 409, 410, 413, 414, 415, 418, 422, 426, 429, 431, 451], false),
            (&[501, 505, 511], false),
            (&[303, 408, 419, 420, 430, 444, 460, 499], true),
            (&[500, 502, 503, 504, 506, 507, 508, 520, 522, 524, 527, 529, 530, 599, 600, 999], true),
            (&[200, 201, 204, 299], true),
        ] {
            for &status in statuses {
                assert_eq!(may_have_run(true, Some(status)), expected, "{status}");
            }
        }
        assert!(may_have_run(true, None));
    }

    #[test]
    fn a_gateway_fails_for_others() {
        for (statuses, expected) in [
            (&[408, 502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527, 529, 530][..], true),
            (&[200, 302, 400, 404, 409, 410, 429, 499, 500, 501, 505, 507, 508, 511, 519, 531, 599], false),
        ] {
            for &status in statuses {
                assert_eq!(is_of_gateway(status), expected, "{status}");
                assert!(!expected || may_have_run(true, Some(status)), "{status}");
            }
        }
    }

    quickcheck! {
        fn what_was_not_written_was_not_run(status: Option<u16>) -> bool {
            !may_have_run(false, status)
        }

        fn a_failure_of_the_server_is_no_refusal(status: u16) -> bool {
            let status = 500 + status % 100;
            may_have_run(true, Some(status)) || [501, 505, 511].contains(&status)
        }
    }
}
