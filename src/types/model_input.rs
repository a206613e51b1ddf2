//! The input of a model: runs of tokens, and images.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};

use super::{ImageAssetPointerChunk, ImageChunk};
use crate::error::{Error, Result};

/// The input of a model, as a list of chunks: runs of tokens, and images between them.
///
/// ```
/// use tinkex::types::ModelInput;
///
/// let mut input = ModelInput::from_tokens([1, 2]);
/// input.append_token(3);
/// assert_eq!(input.len(), 3);
/// assert_eq!(input.to_tokens()?, [1, 2, 3]);
/// assert_eq!(serde_json::to_string(&input).unwrap(), r#"{"chunks":[{"type":"encoded_text","tokens":[1,2,3]}]}"#);
///
/// // Pieces: tokens, chunks and other inputs.
/// let longer = input.clone().append([4, 5]).append(&input);
/// assert_eq!(longer.to_tokens()?, [1, 2, 3, 4, 5, 1, 2, 3]);
/// assert_eq!(ModelInput::from_pieces([vec![1, 2], vec![3]]), input);
/// input.extend([4, 5]);
/// assert_eq!(input.chunks.len(), 1);
///
/// // Images count toward the length, but have no token ids: see `ImageChunk`.
/// assert!(ModelInput::default().is_empty());
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelInput {
    /// The chunks, in reading order.
    pub chunks: Vec<ModelInputChunk>,
}

impl ModelInput {
    /// An empty input, to add chunks to.
    #[must_use]
    pub fn new() -> Self {
        ModelInput::default()
    }

    /// An input of one run of tokens.
    #[doc(alias = "from_ints")]
    #[must_use]
    pub fn from_tokens(tokens: impl Into<Vec<u32>>) -> Self {
        ModelInput::new().chunk(EncodedTextChunk::new(tokens))
    }

    /// An input of these pieces, one after the other, as [`append`](ModelInput::append) joins them.
    #[must_use]
    pub fn from_pieces(pieces: impl IntoIterator<Item = impl Into<ModelInput>>) -> Self {
        pieces.into_iter().fold(ModelInput::new(), ModelInput::append)
    }

    /// Adds a chunk at the end and returns the input. The chunk stays one of its own.
    #[must_use]
    pub fn chunk(mut self, chunk: impl Into<ModelInputChunk>) -> Self {
        self.chunks.push(chunk.into());
        self
    }

    /// Adds tokens, a chunk or another input at the end and returns the whole. Tokens after tokens continue the same chunk, so
    /// that a text in pieces is sent like the whole text.
    #[must_use]
    pub fn append(mut self, more: impl Into<ModelInput>) -> Self {
        for chunk in more.into().chunks {
            match chunk {
                ModelInputChunk::EncodedText(text) => self.extend(text.tokens),
                image => self.chunks.push(image),
            }
        }
        self
    }

    /// Adds a token at the end: to the last chunk if it is text, else as a new chunk.
    #[doc(alias = "append_int")]
    pub fn append_token(&mut self, token: u32) {
        self.extend([token]);
    }

    /// The length in tokens. An image counts as its `expected_tokens`, else as its `tokens`; as 0 if it has neither: see
    /// [`ImageChunk`].
    #[doc(alias = "length")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.iter().map(ModelInputChunk::len).sum()
    }

    /// The length, unless an image does not say how many tokens it is.
    pub(crate) fn known_len(&self) -> Option<usize> {
        let is_known = |chunk: &ModelInputChunk| matches!(chunk, ModelInputChunk::EncodedText(_)) || !chunk.is_empty();
        self.chunks.iter().all(is_known).then(|| self.len())
    }

    /// The memory of its tokens and images in bytes, for the limits of a queue.
    pub(crate) fn heap_bytes(&self) -> usize {
        let bytes = |chunk: &ModelInputChunk| match chunk {
            ModelInputChunk::EncodedText(text) => size_of_val(text.tokens.as_slice()),
            ModelInputChunk::Image(image) => image.data.len(),
            ModelInputChunk::ImageAssetPointer(image) => image.location.len(),
        };
        self.chunks.iter().map(bytes).sum()
    }

    /// Whether the length is zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.iter().all(ModelInputChunk::is_empty)
    }

    /// The ids of all tokens.
    ///
    /// # Errors
    ///
    /// An input with images, which have no token ids ([`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput)).
    #[doc(alias = "to_ints")]
    pub fn to_tokens(&self) -> Result<Vec<u32>> {
        let mut tokens = Vec::with_capacity(self.len());
        for (index, chunk) in self.chunks.iter().enumerate() {
            match chunk {
                ModelInputChunk::EncodedText(text) => tokens.extend_from_slice(&text.tokens),
                _ => {
                    return Err(Error::invalid_input(format!(
                        "chunk {index} of the model input is an image, so the input has no list of tokens"
                    )));
                }
            }
        }
        Ok(tokens)
    }
}

impl<T: Into<ModelInputChunk>> FromIterator<T> for ModelInput {
    fn from_iter<I: IntoIterator<Item = T>>(chunks: I) -> Self {
        ModelInput { chunks: chunks.into_iter().map(Into::into).collect() }
    }
}

impl FromIterator<u32> for ModelInput {
    fn from_iter<I: IntoIterator<Item = u32>>(tokens: I) -> Self {
        ModelInput::from_tokens(tokens.into_iter().collect::<Vec<_>>())
    }
}

/// Adds tokens at the end: to the last chunk if it is text, else as a new chunk.
impl Extend<u32> for ModelInput {
    fn extend<I: IntoIterator<Item = u32>>(&mut self, tokens: I) {
        match self.chunks.last_mut() {
            Some(ModelInputChunk::EncodedText(text)) => text.tokens.extend(tokens),
            _ => {
                let tokens: Vec<u32> = tokens.into_iter().collect();
                if !tokens.is_empty() {
                    self.chunks.push(EncodedTextChunk::new(tokens).into());
                }
            }
        }
    }
}

impl<'a> From<&'a ModelInput> for Cow<'a, ModelInput> {
    fn from(input: &'a ModelInput) -> Self {
        Cow::Borrowed(input)
    }
}

impl From<ModelInput> for Cow<'_, ModelInput> {
    fn from(input: ModelInput) -> Self {
        Cow::Owned(input)
    }
}

impl From<&ModelInput> for ModelInput {
    fn from(input: &ModelInput) -> Self {
        input.clone()
    }
}

macro_rules! from_chunk {
    ($($Chunk:ident)*) => {$(
        impl From<$Chunk> for ModelInput {
            fn from(chunk: $Chunk) -> Self {
                ModelInput::new().chunk(chunk)
            }
        }
    )*};
}

from_chunk!(ModelInputChunk EncodedTextChunk ImageChunk ImageAssetPointerChunk);

impl From<Vec<u32>> for ModelInput {
    fn from(tokens: Vec<u32>) -> Self {
        ModelInput::from_tokens(tokens)
    }
}

impl From<&[u32]> for ModelInput {
    fn from(tokens: &[u32]) -> Self {
        ModelInput::from_tokens(tokens)
    }
}

impl From<&Vec<u32>> for ModelInput {
    fn from(tokens: &Vec<u32>) -> Self {
        ModelInput::from_tokens(tokens.as_slice())
    }
}

impl<const N: usize> From<&[u32; N]> for ModelInput {
    fn from(tokens: &[u32; N]) -> Self {
        ModelInput::from_tokens(tokens.as_slice())
    }
}

impl<const N: usize> From<[u32; N]> for ModelInput {
    fn from(tokens: [u32; N]) -> Self {
        ModelInput::from_tokens(tokens)
    }
}

/// One part of a [`ModelInput`].
///
/// ```
/// use tinkex::types::{EncodedTextChunk, ModelInput, ModelInputChunk};
///
/// let input: ModelInput = [vec![1, 2], vec![3]].into_iter().map(EncodedTextChunk::new).collect();
/// let lengths: Vec<usize> = input.chunks.iter().map(ModelInputChunk::len).collect();
/// assert_eq!(lengths, [2, 1]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum ModelInputChunk {
    /// A run of tokens.
    EncodedText(EncodedTextChunk),
    /// An image that is sent with the request.
    Image(ImageChunk),
    /// An image that the server fetches.
    ImageAssetPointer(ImageAssetPointerChunk),
}

impl ModelInputChunk {
    /// The length in tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            ModelInputChunk::EncodedText(text) => text.tokens.len(),
            ModelInputChunk::Image(ImageChunk { expected_tokens, tokens, .. })
            | ModelInputChunk::ImageAssetPointer(ImageAssetPointerChunk { expected_tokens, tokens, .. }) => {
                expected_tokens.or(*tokens).unwrap_or(0) as usize
            }
        }
    }

    /// Whether the length is zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<EncodedTextChunk> for ModelInputChunk {
    fn from(text: EncodedTextChunk) -> Self {
        ModelInputChunk::EncodedText(text)
    }
}

impl From<ImageChunk> for ModelInputChunk {
    fn from(image: ImageChunk) -> Self {
        ModelInputChunk::Image(image)
    }
}

impl From<ImageAssetPointerChunk> for ModelInputChunk {
    fn from(image: ImageAssetPointerChunk) -> Self {
        ModelInputChunk::ImageAssetPointer(image)
    }
}

/// A run of tokens. [`ModelInputChunk`] has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "encoded_text")]
#[non_exhaustive]
pub struct EncodedTextChunk {
    /// The token ids.
    pub tokens: Vec<u32>,
}

impl EncodedTextChunk {
    /// A run of these tokens.
    #[must_use]
    pub fn new(tokens: impl Into<Vec<u32>>) -> Self {
        EncodedTextChunk { tokens: tokens.into() }
    }
}

impl<'de> Deserialize<'de> for ModelInputChunk {
    /// Distinguishes the kinds by `type`. The Python client 0.4.1 omits it; then the keys that only one kind has decide.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use super::image::{Base64, ImageFormat};
        use serde::de::Error as _;

        #[derive(Deserialize)]
        struct Fields {
            r#type: Option<String>,
            tokens: Option<Tokens>,
            expected_tokens: Option<u32>,
            data: Option<Base64>,
            location: Option<String>,
            format: Option<ImageFormat>,
            height: Option<u32>,
            width: Option<u32>,
        }

        let Fields { r#type, tokens, expected_tokens, data, location, format, height, width } =
            Fields::deserialize(deserializer)?;
        let kind = match r#type.as_deref() {
            Some(kind) => kind,
            None if data.is_some() => "image",
            None if location.is_some() => "image_asset_pointer",
            None => "encoded_text",
        };
        let format = || format.ok_or_else(|| D::Error::missing_field("format"));
        let count = || match tokens {
            None => Ok(None),
            Some(Tokens::Count(count)) => Ok(Some(count)),
            Some(Tokens::Ids(_)) => Err(D::Error::custom("the tokens of an image chunk are a number")),
        };
        match kind {
            "encoded_text" => match tokens {
                Some(Tokens::Ids(tokens)) => Ok(EncodedTextChunk { tokens }.into()),
                Some(Tokens::Count(_)) => Err(D::Error::custom("the tokens of a text chunk are a list")),
                None => Err(D::Error::missing_field("tokens")),
            },
            "image" => {
                let Base64(data) = data.ok_or_else(|| D::Error::missing_field("data"))?;
                let image = ImageChunk::from_parts(data, format()?, width, height, count()?);
                Ok(ImageChunk { expected_tokens, ..image }.into())
            }
            "image_asset_pointer" => {
                let location = location.ok_or_else(|| D::Error::missing_field("location"))?;
                let image = ImageAssetPointerChunk::new(location, format()?, width, height, count()?);
                Ok(ImageAssetPointerChunk { expected_tokens, ..image }.into())
            }
            kind => Err(D::Error::custom(format!(
                "unknown chunk type {kind:?}, expected encoded_text, image or image_asset_pointer"
            ))),
        }
    }
}

/// The key `tokens`: token ids of text, the number of tokens of an image.
enum Tokens {
    Ids(Vec<u32>),
    Count(u32),
}

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Tokens;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("token ids or a number of tokens")
            }

            fn visit_u64<E: serde::de::Error>(self, count: u64) -> Result<Tokens, E> {
                u32::try_from(count)
                    .map(Tokens::Count)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(count), &self))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, ids: A) -> Result<Tokens, A::Error> {
                Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(ids)).map(Tokens::Ids)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}
