//! Tokens with the weight of each.

use crate::error::{Error, Result};
use crate::types::{Datum, ImageChunk, ModelInput};

/// The tokens of a training example, and how much the loss of each counts: 0 for what is only read, 1 for what is learned.
///
/// [`datum`](WeightedTokens::datum) shifts them: each token becomes the target of the token before it.
///
/// ```
/// use tinkex::toolkit::WeightedTokens;
///
/// // A prompt of the tokens 10 and 11, and its completion.
/// let datum = WeightedTokens::new().context([10, 11]).trained([12, 13]).datum()?;
/// assert_eq!(datum.model_input.to_tokens()?, [10, 11, 12]);
/// assert_eq!(datum.loss_fn_inputs["target_tokens"].as_i64(), Some(&[11, 12, 13][..]));
/// assert_eq!(datum.loss_fn_inputs["weights"].as_f32(), Some(&[0.0, 1.0, 1.0][..]));
/// # Ok::<(), tinkex::Error>(())
/// ```
///
/// A chat, where the assistant's messages are learned:
///
/// ```
/// use tinkex::Tokenizer;
/// use tinkex::toolkit::WeightedTokens;
///
/// let tokenizer = Tokenizer::bytes();
/// let mut example = WeightedTokens::new();
/// for (text, learned) in [("User: Hi\n", 0.0), ("Assistant: Hello\n", 1.0)] {
///     example = example.weighted(tokenizer.encode_continuation(text)?, learned);
/// }
/// assert_eq!((example.len(), example.trained_len()), (26, 17));
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct WeightedTokens {
    tokens: Vec<u32>,
    weights: Vec<f32>,
    /// The images, each with the position of its first token, in order. Their tokens are 0.
    images: Vec<(usize, ImageChunk)>,
}

impl WeightedTokens {
    /// No tokens, to add some to.
    pub fn new() -> Self {
        WeightedTokens::default()
    }

    /// Tokens with the weight of each.
    ///
    /// # Errors
    ///
    /// Another number of weights than of tokens.
    ///
    /// ```
    /// use tinkex::toolkit::WeightedTokens;
    ///
    /// let tokens = WeightedTokens::from_parts([7, 8, 9], [0.0, 0.0, 1.0])?;
    /// assert_eq!(tokens, WeightedTokens::new().context([7, 8]).trained([9]));
    /// assert!(WeightedTokens::from_parts([7, 8, 9], [1.0]).is_err());
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn from_parts(tokens: impl Into<Vec<u32>>, weights: impl Into<Vec<f32>>) -> Result<Self> {
        let (tokens, weights) = (tokens.into(), weights.into());
        if tokens.len() != weights.len() {
            let message = format!("there are {} weights for {} tokens", weights.len(), tokens.len());
            return Err(Error::invalid_input(message).with_hint("give each token a weight, also the first"));
        }
        Ok(WeightedTokens { tokens, weights, images: Vec::new() })
    }

    /// Adds tokens that are only read, such as a prompt.
    pub fn context(self, tokens: impl AsRef<[u32]>) -> Self {
        self.weighted(tokens, 0.0)
    }

    /// Adds tokens that are learned, such as a completion.
    pub fn trained(self, tokens: impl AsRef<[u32]>) -> Self {
        self.weighted(tokens, 1.0)
    }

    /// Adds tokens whose loss counts `weight` times.
    pub fn weighted(mut self, tokens: impl AsRef<[u32]>, weight: f32) -> Self {
        self.tokens.extend_from_slice(tokens.as_ref());
        self.weights.resize(self.tokens.len(), weight);
        self
    }

    /// Adds an image, which is only read. It counts as many tokens as it says, which [`tokens`](WeightedTokens::tokens) has as 0.
    ///
    /// # Errors
    ///
    /// An image that does not say how many tokens it is.
    ///
    /// ```
    /// use tinkex::toolkit::WeightedTokens;
    /// use tinkex::types::ImageChunk;
    ///
    /// let cat = ImageChunk::new(*b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x02\x80\0\0\x01\xe0", 2)?;
    /// let datum = WeightedTokens::new().context([10]).image(cat)?.context([11]).trained([12]).datum()?;
    /// assert_eq!(datum.model_input.len(), 4);
    /// assert_eq!(datum.loss_fn_inputs["target_tokens"].as_i64(), Some(&[0, 0, 11, 12][..]));
    /// assert_eq!(datum.loss_fn_inputs["weights"].as_f32(), Some(&[0.0, 0.0, 0.0, 1.0][..]));
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn image(mut self, image: ImageChunk) -> Result<Self> {
        let Some(tokens) = image.expected_tokens.or(image.tokens).filter(|tokens| *tokens > 0) else {
            return Err(Error::invalid_input("an image of a training example does not say how many tokens it is")
                .with_hint("set its tokens, or its expected_tokens"));
        };
        let start = self.tokens.len();
        self.images.push((start, image));
        self.tokens.resize(start + tokens as usize, 0);
        self.weights.resize(self.tokens.len(), 0.0);
        Ok(self)
    }

    /// Keeps the first `len` tokens, if there are more: fewer, if the last of them are a part of an image.
    pub fn truncate(&mut self, len: usize) {
        let mut len = len;
        while let Some((start, _)) = self.images.last().filter(|(start, image)| start + tokens_of(image) > len) {
            len = len.min(*start);
            self.images.pop();
        }
        self.tokens.truncate(len);
        self.weights.truncate(len);
    }

    /// The tokens.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The weight of each token.
    #[must_use]
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no tokens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The number of tokens that are learned: those with a weight other than 0. The first token is never one of them, since
    /// nothing comes before it to predict it from.
    #[must_use]
    pub fn trained_len(&self) -> usize {
        self.weights.iter().skip(1).filter(|weight| **weight != 0.0).count()
    }

    /// The datum for [`LossFn::CrossEntropy`](crate::types::LossFn::CrossEntropy): the model input is all tokens but the last, the
    /// `target_tokens` are all but the first, and so are the `weights`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for fewer than two tokens, and for a weight that is not finite.
    pub fn datum(&self) -> Result<Datum> {
        let Some((_, targets)) = self.tokens.split_first().filter(|(_, targets)| !targets.is_empty()) else {
            return Err(too_short(self.len()));
        };
        let input = self.input()?;
        Datum::new(input).input("target_tokens", targets)?.input("weights", &self.weights[1..])
    }

    /// All but the last token, with the images at their places.
    fn input(&self) -> Result<ModelInput> {
        let tokens = |from: usize, to: usize| self.tokens.get(from..to).unwrap_or_default();
        let end = self.tokens.len().saturating_sub(1);
        let mut input = ModelInput::new();
        let mut from = 0;
        for (start, image) in &self.images {
            input = input.append(tokens(from, *start)).append(image.clone());
            from = start + tokens_of(image);
        }
        if from > end {
            return Err(Error::invalid_input("the example ends in an image, which has nothing to predict")
                .with_hint("end it with tokens"));
        }
        Ok(input.append(tokens(from, end)))
    }
}

fn tokens_of(image: &ImageChunk) -> usize {
    image.expected_tokens.or(image.tokens).unwrap_or(0) as usize
}

fn too_short(tokens: usize) -> Error {
    let message = format!("an example of {tokens} tokens has nothing to predict");
    Error::invalid_input(message).with_hint("an example needs at least two tokens")
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    quickcheck! {
        fn each_target_follows_its_input(pieces: Vec<(Vec<u16>, bool)>) -> bool {
            let all = pieces.iter().fold(WeightedTokens::new(), |all, (tokens, trained)| {
                let tokens: Vec<u32> = tokens.iter().copied().map(u32::from).collect();
                if *trained { all.trained(tokens) } else { all.context(tokens) }
            });
            let Ok(datum) = all.datum() else { return all.len() < 2 };
            let inputs = datum.model_input.to_tokens().unwrap();
            let targets = datum.loss_fn_inputs["target_tokens"].as_i64().unwrap();
            let weights = datum.loss_fn_inputs["weights"].as_f32().unwrap();
            datum.validate().is_ok()
                && inputs == all.tokens()[..all.len() - 1]
                && targets.iter().copied().eq(all.tokens()[1..].iter().copied().map(i64::from))
                && weights == &all.weights()[1..]
                && weights.iter().filter(|weight| **weight == 1.0).count() == all.trained_len()
        }
    }

    /// An image of this many tokens.
    fn image(tokens: u32) -> ImageChunk {
        ImageChunk::new(*b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x02\x80\0\0\x01\xe0", tokens).unwrap()
    }

    /// Two tokens, an image of three, and two tokens that are trained.
    fn with_image() -> WeightedTokens {
        WeightedTokens::new().context([1, 2]).image(image(3)).unwrap().trained([6, 7])
    }

    #[test]
    fn an_image_stands_at_its_place() {
        let tokens = with_image();
        assert_eq!(tokens.tokens(), [1, 2, 0, 0, 0, 6, 7]);
        assert_eq!(tokens.weights(), [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
        assert_eq!((tokens.len(), tokens.trained_len(), tokens.is_empty()), (7, 2, false));
        let datum = tokens.datum().unwrap();
        assert_eq!(datum.model_input, ModelInput::new().append(&[1_u32, 2][..]).append(image(3)).append(&[6_u32][..]));
        assert_eq!(datum.loss_fn_inputs["target_tokens"].as_i64(), Some(&[2, 0, 0, 0, 6, 7][..]));
        let one_behind = WeightedTokens::new().context([1]).image(image(2)).unwrap().trained([4]);
        assert_eq!(one_behind.datum().unwrap().model_input, ModelInput::new().append(&[1_u32][..]).append(image(2)));
        let at_the_end = WeightedTokens::new().context([1]).image(image(2)).unwrap().datum().unwrap_err();
        assert!(at_the_end.to_string().contains("ends in an image"), "{at_the_end}");
        assert!(WeightedTokens::new().image(image(0)).is_err());
    }

    #[test]
    fn an_image_is_cut_off_as_a_whole() {
        for (len, left) in [(9, 7), (7, 7), (6, 6), (5, 5), (4, 2), (3, 2), (2, 2), (1, 1), (0, 0)] {
            let mut tokens = with_image();
            tokens.truncate(len);
            assert_eq!((tokens.len(), tokens.images.len()), (left, usize::from(left >= 5)), "{len}");
        }
    }

    #[test]
    fn each_token_has_its_weight() {
        let tokens = WeightedTokens::from_parts([7, 8, 9], [0.0, 0.5, 1.0]).unwrap();
        assert_eq!(tokens, WeightedTokens::new().context([7]).weighted([8], 0.5).trained([9]));
        assert_eq!(tokens.trained_len(), 2);
        let error = WeightedTokens::from_parts([7, 8, 9], [1.0]).unwrap_err().to_string();
        assert!(error.contains("1 weights for 3 tokens"), "{error}");
        assert!(WeightedTokens::new().is_empty());
    }

    #[test]
    fn too_few_tokens_are_refused() {
        for tokens in [&[][..], &[5]] {
            let error = WeightedTokens::new().trained(tokens).datum().unwrap_err().to_string();
            assert!(error.contains(&format!("an example of {} tokens", tokens.len())), "{error}");
        }
        assert!(WeightedTokens::new().context([1]).weighted([2], f32::NAN).datum().is_err());
        let mut tokens = WeightedTokens::new().context([1]).trained([2, 3]);
        tokens.truncate(9);
        assert_eq!((tokens.len(), tokens.trained_len()), (3, 2));
        tokens.truncate(2);
        assert_eq!((tokens.len(), tokens.trained_len()), (2, 1));
    }
}
