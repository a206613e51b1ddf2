//! Texts that end a reply, in a text that arrives in pieces.

/// Cuts a text before the first stop. What may be the beginning of a stop is held back.
#[derive(Clone, Debug)]
pub(super) struct StopText {
    stops: Vec<String>,
    held: String,
    is_stopped: bool,
}

impl StopText {
    pub(super) fn new(stops: &[String]) -> Self {
        StopText { stops: stops.to_vec(), held: String::new(), is_stopped: false }
    }

    /// Whether a stop has been found.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Whether some text is held back.
    pub(super) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Adds a text, and takes what can be given out: nothing after a stop.
    pub(super) fn push(&mut self, text: &str) -> String {
        if self.is_stopped {
            return String::new();
        }
        self.held.push_str(text);
        let first = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(start) = first {
            self.is_stopped = true;
            let mut text = std::mem::take(&mut self.held);
            text.truncate(start);
            return text;
        }
        let kept = self.stops.iter().map(|stop| beginning_at_end(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - kept);
        std::mem::replace(&mut self.held, rest)
    }

    /// Takes what is held back: the text ends here.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// The length of the longest beginning of `stop` that the text ends with.
fn beginning_at_end(text: &str, stop: &str) -> usize {
    let mut lengths = stop.char_indices().map(|(length, _)| length).rev();
    lengths.find(|length| text.ends_with(&stop[..*length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    fn cut(pieces: &[&str], stops: &[&str]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut text = StopText::new(&stops);
        let mut given: Vec<String> = pieces.iter().map(|piece| text.push(piece)).collect();
        given.push(text.finish());
        (given, text.is_stopped())
    }

    #[test]
    fn text_comes_out_once_no_stop_can_follow() {
        for (pieces, stops, given, is_stopped) in [
            (&["a", "b"][..], &[][..], &["a", "b", ""][..], false),
            (&["a\n", "b"], &["\n\n"], &["a", "\nb", ""], false),
            (&["a\n", "\nb"], &["\n\n"], &["a", "", ""], true),
            (&["a\n"], &["\n\n"], &["a", "\n"], false),
            (&["one END two", "three"], &["two", "END"], &["one ", "", ""], true),
            (&["é", "à!"], &["àb"], &["é", "à!", ""], false),
        ] {
            let given: Vec<String> = given.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(cut(pieces, stops), (given, is_stopped), "{pieces:?} {stops:?}");
        }
    }

    quickcheck! {
        fn pieces_make_what_the_whole_makes(text: Vec<bool>, cuts: Vec<usize>, stop: Vec<bool>) -> bool {
            let letters = |bits: &[bool]| bits.iter().map(|bit| if *bit { 'a' } else { 'b' }).collect::<String>();
            let (text, stop) = (letters(&text), format!("a{}", letters(&stop)));
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            let (given, is_stopped) = cut(&pieces, &[&stop]);
            let expected = text.split_once(&stop).map_or(text.as_str(), |(before, _)| before);
            given.concat() == expected && is_stopped == text.contains(&stop)
        }
    }
}
