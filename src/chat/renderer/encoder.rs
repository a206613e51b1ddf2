//! Rendered texts as tokens.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::script::has_marks;
use crate::chat::content::{Content, Part};
use crate::chat::literal::without_marks;
use crate::chat::message::Message;
use crate::error::{Error, Result};
use crate::tokenizer::{Tokenizer, beginning};
use crate::toolkit::WeightedTokens;
use crate::types::{ImageChunk, ModelInput};

/// The tokens that stand for an image in the templates of models with vision.
const IMAGE_TOKENS: [&str; 6] =
    ["<|image_pad|>", "<|media_pad|>", "<image>", "<|image|>", "<start_of_image>", "<image_soft_token>"];

/// A piece of an encoded text.
enum Piece {
    Tokens(Vec<u32>),
    /// The index of it.
    Image(usize),
}

impl Piece {
    /// The least number of tokens that it is.
    fn len(&self) -> usize {
        match self {
            Piece::Tokens(tokens) => tokens.len(),
            Piece::Image(_) => 1,
        }
    }
}

/// Encodes rendered texts. A text that is marked becomes no special token.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    tokenizer: Tokenizer,
    image_tokens: Vec<u32>,
    /// Whether the tokenizer itself finds added tokens in a text.
    finds_added_tokens: bool,
}

/// The images of messages, in order; `None` for one that is named but not given, whose place stays as it is.
pub(super) struct Images<'a> {
    images: Vec<Option<Cow<'a, ImageChunk>>>,
    /// The index of the one whose place is looked for.
    next: usize,
}

impl<'a> Images<'a> {
    pub(super) fn none() -> Self {
        Images { images: Vec::new(), next: 0 }
    }

    pub(super) fn of(messages: &'a [Message]) -> Result<Self> {
        let mut images = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            let Some(Content::Parts(parts)) = &message.content else { continue };
            for part in parts {
                match part {
                    Part::Image(image) => images.push(image.as_deref().map(Cow::Borrowed)),
                    Part::Other(part) if part.contains_key("image_url") => {
                        images.push(Some(Cow::Owned(image_of_url(index, part)?)));
                    }
                    Part::Text(_) | Part::Other(_) => {}
                }
            }
        }
        let given = images.iter().any(Option::is_some);
        Ok(Images { images: if given { images } else { Vec::new() }, next: 0 })
    }

    fn take(&mut self, index: usize) -> Option<ImageChunk> {
        self.images.get_mut(index)?.take().map(Cow::into_owned)
    }

    /// Whether all have found their places.
    pub(super) fn finish(self) -> Result<()> {
        match self.images.iter().skip(self.next).filter(|image| image.is_some()).count() {
            0 => Ok(()),
            count => Err(Error::invalid_input(format!("the template has no place for {count} of the images"))
                .with_hint("use the template of a model with vision, or leave the images out")),
        }
    }
}

/// The image of a part of OpenAI's form, whose address has the bytes of the image.
fn image_of_url(index: usize, part: &Map<String, Value>) -> Result<ImageChunk> {
    let url =
        part.get("image_url").map(|url| url.get("url").unwrap_or(url)).and_then(Value::as_str).unwrap_or_default();
    let data = url.strip_prefix("data:image/").and_then(|url| url.split_once(";base64,")).map(|(_, data)| data);
    let Some(data) = data else {
        return Err(Error::invalid_input(format!("an image of messages[{index}] is an address of another place"))
            .with_hint("load it, and give it as Part::Image or as data:image/png;base64,…"));
    };
    let bytes = STANDARD.decode(data).map_err(|error| {
        Error::invalid_input(format!("an image of messages[{index}] is no valid base64")).with_source(error)
    })?;
    ImageChunk::new(bytes, None).map_err(|error| error.with_detail(format!("in messages[{index}]")))
}

impl Encoder {
    pub(super) fn new(tokenizer: &Tokenizer) -> Self {
        let added = tokenizer.added_tokens();
        let finds =
            |(token, id): (&String, &u32)| tokenizer.encode_continuation(token).is_ok_and(|tokens| tokens == [*id]);
        Encoder {
            tokenizer: tokenizer.clone(),
            image_tokens: IMAGE_TOKENS.iter().filter_map(|token| added.get(*token).copied()).collect(),
            finds_added_tokens: added.iter().next().is_none_or(finds),
        }
    }

    /// A prompt.
    pub(super) fn input(&self, text: &str, images: &mut Images<'_>) -> Result<ModelInput> {
        Ok(self.pieces(text, images)?.into_iter().fold(ModelInput::new(), |input, piece| match piece {
            Piece::Tokens(tokens) => input.append(tokens),
            Piece::Image(index) => images.take(index).into_iter().fold(input, ModelInput::append),
        }))
    }

    /// Adds a text to an example, until that has `enough` tokens. Images are never trained.
    pub(super) fn weighted(
        &self,
        example: WeightedTokens,
        text: &str,
        weight: f32,
        images: &mut Images<'_>,
        enough: Option<usize>,
    ) -> Result<WeightedTokens> {
        let room = |example: &WeightedTokens| enough.map_or(usize::MAX, |enough| enough.saturating_sub(example.len()));
        let first = images.next;
        let encode = |text: &str| {
            images.next = first;
            self.pieces(text, images)
        };
        let pieces = beginning::of(text, room(&example), encode, |pieces| pieces.iter().map(Piece::len).sum())?;
        pieces.into_iter().try_fold(example, |example, piece| match (piece, room(&example)) {
            (_, 0) => Ok(example),
            (Piece::Tokens(mut tokens), room) => {
                tokens.truncate(room);
                Ok(example.weighted(tokens, weight))
            }
            (Piece::Image(index), _) => images.take(index).into_iter().try_fold(example, WeightedTokens::image),
        })
    }

    fn pieces(&self, text: &str, images: &mut Images<'_>) -> Result<Vec<Piece>> {
        if self.finds_added_tokens && !has_marks(text) && images.images.len() <= images.next {
            return Ok(vec![Piece::Tokens(self.tokenizer.encode_continuation(text)?)]);
        }
        let mut pieces = Vec::new();
        let mut tokens = Vec::new();
        for (part, id) in self.tokenizer.split_added_tokens(text)? {
            let Some(id) = id else {
                tokens.extend(self.tokenizer.encode_text(&without_marks(part))?);
                continue;
            };
            if !self.image_tokens.contains(&id) {
                tokens.push(id);
                continue;
            }
            match images.images.get(images.next) {
                Some(Some(_)) => {
                    pieces.push(Piece::Tokens(std::mem::take(&mut tokens)));
                    pieces.push(Piece::Image(images.next));
                }
                Some(None) | None => tokens.push(id),
            }
            images.next += 1;
        }
        pieces.push(Piece::Tokens(tokens));
        Ok(pieces)
    }
}
