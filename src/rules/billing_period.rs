//! For which time a service reports what it charges for.

use crate::error::{Error, Result};

const HOUR: i64 = 3600;

/// The longest time for one request.
const MAX_HOURS: i64 = 14 * 24;

/// Checks the start and the end of the time, in seconds since 1970 and nanoseconds: whole hours, at most 14 days.
pub(crate) fn check_billing_period(start: (i64, u32), end: (i64, u32)) -> Result<()> {
    let invalid =
        |message: &'static str| Err(Error::invalid_input(message).with_hint("use whole hours, at most 14 days"));
    if [start, end].iter().any(|(seconds, nanos)| seconds.rem_euclid(HOUR) != 0 || *nanos != 0) {
        return invalid("the start or the end of the time is not a whole hour");
    }
    match (end.0.saturating_sub(start.0)) / HOUR {
        ..=0 => invalid("the end of the time is not after its start"),
        1..=MAX_HOURS => Ok(()),
        _ => invalid("the time is longer than 14 days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_hours_of_two_weeks_are_allowed() {
        for (start, end, is_ok) in [
            ((0, 0), (3600, 0), true),
            ((7200, 0), (7200 + 14 * 86_400, 0), true),
            ((-3600, 0), (0, 0), true),
            ((7200, 0), (7200 + 14 * 86_400 + 3600, 0), false),
            ((0, 0), (0, 0), false),
            ((3600, 0), (0, 0), false),
            ((1, 0), (3601, 0), false),
            ((0, 1), (3600, 0), false),
            ((0, 0), (5400, 0), false),
            ((i64::MIN, 0), (i64::MAX, 0), false),
        ] {
            assert_eq!(check_billing_period(start, end).is_ok(), is_ok, "{start:?} {end:?}");
        }
    }
}
