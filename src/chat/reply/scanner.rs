//! Finds the marks of a format in a text that arrives in pieces.

/// A mark as the tokenizer writes it, and what it means.
#[derive(Clone, Debug)]
pub(super) struct Mark<M> {
    pub(super) text: String,
    pub(super) meaning: M,
}

/// Takes the text before the first of the marks, and that mark; or, if none is there, all text that cannot be the beginning of
/// one. `None` if nothing can be taken.
pub(super) fn next<M: Copy>(
    buffer: &mut String,
    marks: &[Mark<M>],
    is_expected: impl Fn(M) -> bool,
) -> Option<(String, Option<M>)> {
    let expected = || marks.iter().filter(|mark| !mark.text.is_empty() && is_expected(mark.meaning));
    let found = expected().filter_map(|mark| Some((buffer.find(&mark.text)?, mark)));
    if let Some((start, mark)) = found.min_by_key(|(start, mark)| (*start, usize::MAX - mark.text.len())) {
        let rest = buffer.split_off(start + mark.text.len());
        buffer.truncate(start);
        return Some((std::mem::replace(buffer, rest), Some(mark.meaning)));
    }
    let held = expected().map(|mark| beginning_at_end(buffer, &mark.text)).max().unwrap_or(0);
    let rest = buffer.split_off(buffer.len() - held);
    let text = std::mem::replace(buffer, rest);
    (!text.is_empty()).then_some((text, None))
}

/// The length of the longest end of the text that the mark begins with.
fn beginning_at_end(text: &str, mark: &str) -> usize {
    let lengths = mark.char_indices().map(|(length, _)| length).rev();
    let is_at_end = |length: &usize| mark.get(..*length).is_some_and(|beginning| text.ends_with(beginning));
    lengths.into_iter().find(is_at_end).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(texts: &[&str]) -> Vec<(String, Option<char>)> {
        let mark = |text: &str, meaning| Mark { text: text.to_owned(), meaning };
        let marks = [mark("<a>", 'a'), mark("<ab>", 'b'), mark("\n\nUser:", 'u'), mark("never", 'n')];
        let mut buffer = String::new();
        let mut found = Vec::new();
        for text in texts {
            buffer.push_str(text);
            while let Some(piece) = next(&mut buffer, &marks, |meaning| meaning != 'n') {
                found.push(piece);
            }
        }
        found.push((buffer, None));
        found
    }

    #[test]
    fn a_mark_in_pieces_is_found() {
        let piece = |text: &str, mark| (text.to_owned(), mark);
        assert_eq!(
            pieces(&["x<", "a", ">y"]),
            [piece("x", None), piece("", Some('a')), piece("y", None), piece("", None)]
        );
        assert_eq!(pieces(&["never<ab>"]), [piece("never", Some('b')), piece("", None)]);
        assert_eq!(pieces(&["é\n", "\n"]), [piece("é", None), piece("\n\n", None)]);
        assert_eq!(pieces(&["\n", "\nUser: no"]), [piece("", Some('u')), piece(" no", None), piece("", None)]);
    }
}
