//! When a sample ends by what it says.

use crate::local::model::GenerationOptions;
use crate::tokenizer::{TextDecoder, Tokenizer};

/// Looks for the end of one sample, token by token.
#[derive(Clone, Debug, Default)]
pub(super) struct Ending {
    /// Each of them ends it.
    end_tokens: Vec<u32>,
    sequences: Vec<Vec<u32>>,
    texts: Option<TextEnding>,
}

/// Looks for texts in the text of a sample.
#[derive(Clone, Debug)]
struct TextEnding {
    stops: Vec<String>,
    decoder: TextDecoder,
    /// The end of the text so far, in which a stop may begin.
    text: String,
    /// The length of the longest stop.
    longest: usize,
}

impl Ending {
    /// The end of a sample with these options, of a model with these end tokens.
    pub(super) fn new(options: &GenerationOptions, end_tokens: &[u32], tokenizer: &Tokenizer) -> Self {
        let stops: Vec<_> = options.stop_strings.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        let longest = stops.iter().map(String::len).max();
        // A stop may be the text of a special token, such as that of the end of a message.
        let decoder = || tokenizer.decoder().with_special_tokens();
        let texts = longest.map(|longest| TextEnding { stops, decoder: decoder(), text: String::new(), longest });
        Ending {
            end_tokens: if options.stop_at_end_of_text { end_tokens.to_vec() } else { Vec::new() },
            sequences: options.stop_sequences.iter().filter(|stop| !stop.is_empty()).cloned().collect(),
            texts,
        }
    }

    /// Whether the sample ends with the last of its tokens, which is asked about once for each token in turn.
    pub(super) fn is_reached(&mut self, tokens: &[u32]) -> bool {
        let Some(last) = tokens.last() else { return false };
        let ends_text = self.texts.as_mut().is_some_and(|texts| texts.is_reached(*last));
        ends_text || self.end_tokens.contains(last) || self.sequences.iter().any(|stop| tokens.ends_with(stop))
    }
}

impl TextEnding {
    fn is_reached(&mut self, token: u32) -> bool {
        // A token without a text, such as one that only fills the vocabulary up, ends nothing.
        self.text.push_str(&self.decoder.push(&[token]).unwrap_or_default());
        if self.stops.iter().any(|stop| self.text.contains(stop)) {
            return true;
        }
        let mut cut = self.text.len().saturating_sub(self.longest);
        while !self.text.is_char_boundary(cut) {
            cut -= 1;
        }
        self.text.drain(..cut);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of tokens after which a text of bytes ends.
    fn end(text: &str, options: &GenerationOptions) -> Option<usize> {
        let tokens: Vec<u32> = text.bytes().map(u32::from).chain([256]).collect();
        let mut ending = Ending::new(options, &[256, 7], &Tokenizer::bytes());
        (1..=tokens.len()).find(|&count| ending.is_reached(&tokens[..count]))
    }

    fn strings(stops: &[&str]) -> GenerationOptions {
        let stops = stops.iter().map(|&stop| stop.to_owned()).collect();
        GenerationOptions::new().stop_strings(stops).stop_at_end_of_text(false)
    }

    #[test]
    fn texts_end_samples_where_they_are_complete() {
        let long = format!("{}stop here", "some text, é ".repeat(50));
        let table: [(&str, &[&str], Option<usize>); 8] = [
            ("abcabd", &["abd"], Some(6)),
            ("aaaab", &["aab", "x"], Some(5)),
            ("é", &["é"], Some(2)),
            ("xéy", &["éy", "é"], Some(3)),
            ("abc", &["", "z"], None),
            ("abc", &[], None),
            ("ab", &["<|endoftext|>"], Some(3)),
            (&long, &["stop"], Some(long.len() - 5)),
        ];
        for (text, stops, expected) in table {
            assert_eq!(end(text, &strings(stops)), expected, "{text} {stops:?}");
        }
    }

    #[test]
    fn tokens_end_samples() {
        let options = GenerationOptions::new().stop_sequences(vec![vec![], vec![98, 99]]);
        assert_eq!([end("abc", &options), end("ab", &options), end("a\u{7}b", &options)], [Some(3), Some(3), Some(2)]);
        let endless = options.stop_at_end_of_text(false);
        assert_eq!([end("abc", &endless), end("ab", &endless), end("a\u{7}b", &endless)], [Some(3), None, None]);
    }
}
