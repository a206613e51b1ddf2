//! The Gregorian calendar, on days since 1970.

pub(super) const DAY: i64 = 24 * 60 * 60;

/// Whether the year has four digits.
pub(super) fn in_range(seconds: i64) -> bool {
    (days(0, 1, 1) * DAY..days(10_000, 1, 1) * DAY).contains(&seconds)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (Howard Hinnant's `days_from_civil`: years begin in March).
pub(crate) fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year.div_euclid(400) * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The date this many days after 1970-01-01: the inverse of [`days`].
pub(crate) fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let (day, month) = (day_of_year - (153 * month + 2) / 5 + 1, (month + 2) % 12 + 1);
    (days.div_euclid(146_097) * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_a_cycle_round_trips() {
        let (first, last) = (days(1800, 1, 1), days(2200, 1, 1));
        let mut before = date(first - 1);
        for day in first..last {
            let (year, month, of_month) = date(day);
            assert_eq!(days(year, month, of_month), day);
            assert!(date(day) > before, "{before:?}");
            before = date(day);
        }
        for ymd in [(0, 1, 1), (1, 3, 1), (1970, 1, 1), (9999, 12, 31)] {
            assert_eq!(date(days(ymd.0, ymd.1, ymd.2)), ymd);
        }
    }
}
