//! The last number in a text.

/// The last number in a text, as people and models write it: with a sign, with commas between groups of three digits, with a decimal
/// point or an exponent. A sign counts unless it is between two terms, as in `10-4`.
pub(super) fn last_number(text: &str) -> Option<f64> {
    let (mut at, mut last) = (0, None);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        match length(rest) {
            0 => at += 1,
            length => {
                // Digits and ASCII signs alone: both ends are borders of characters.
                let (before, number) = (&text[..at], &text[at..at + length]);
                let value = number.replace(',', "").parse::<f64>().ok();
                last = value.map(|value| if is_negative(before) { -value } else { value }).or(last);
                at += length;
            }
        }
    }
    last
}

/// The length of the unsigned number that these bytes begin with; 0 if they begin with something else.
fn length(bytes: &[u8]) -> usize {
    let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    let is = |at: usize, characters: &[u8]| bytes.get(at).is_some_and(|byte| characters.contains(byte));
    let mut end = digits(0);
    if (1..=3).contains(&end) {
        while is(end, b",") && digits(end + 1) == 3 {
            end += 4;
        }
    }
    if is(end, b".") && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
    }
    if end > 0 && is(end, b"eE") {
        let sign = usize::from(is(end + 1, b"+-"));
        if digits(end + 1 + sign) > 0 {
            end += 1 + sign + digits(end + 1 + sign);
        }
    }
    end
}

/// Whether this text before a number makes it negative.
fn is_negative(before: &str) -> bool {
    let before = before.strip_suffix('$').unwrap_or(before);
    let Some(term) = before.strip_suffix(['-', '\u{2212}']) else { return false };
    !term.ends_with(|character: char| character.is_alphanumeric() || ")]".contains(character))
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    #[test]
    fn the_last_number_is_found() {
        for (text, expected) in [
            ("", None),
            ("none", None),
            (".", None),
            ("4", Some(4.0)),
            ("The answer is 42.", Some(42.0)),
            ("1 and 2, so 3", Some(3.0)),
            ("-7", Some(-7.0)),
            ("x = \u{2212}7 °C", Some(-7.0)),
            ("10-4", Some(4.0)),
            ("f(x)-4", Some(4.0)),
            ("10 - -4", Some(-4.0)),
            ("-$5", Some(-5.0)),
            ("+3", Some(3.0)),
            ("$1,234,567.50!", Some(1_234_567.5)),
            ("1,234kg", Some(1234.0)),
            ("1,2,3", Some(3.0)),
            ("1,2345", Some(2345.0)),
            ("1234,567", Some(567.0)),
            ("12,345,67", Some(67.0)),
            (".5", Some(0.5)),
            ("6.02e23", Some(6.02e23)),
            ("1E-3 m", Some(1e-3)),
            ("3e", Some(3.0)),
            ("3e+", Some(3.0)),
            ("ü7ü", Some(7.0)),
            ("100%", Some(100.0)),
            ("٣", None),
        ] {
            assert_eq!(last_number(text), expected, "{text:?}");
        }
    }

    quickcheck! {
        fn a_written_number_is_read(before: String, value: f64) -> bool {
            !value.is_finite() || last_number(&format!("{before} {value}")) == Some(value)
        }

        fn any_text_is_searched(text: String) -> bool {
            last_number(&text).is_none_or(|_| text.contains(|character: char| character.is_ascii_digit()))
        }
    }
}
