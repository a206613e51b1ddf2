//! Text to tokens and back.
//!
//! A [`Tokenizer`] comes from a client ([`TrainingClient::tokenizer`](crate::TrainingClient::tokenizer),
//! [`SamplingClient::tokenizer`](crate::SamplingClient::tokenizer)), which asks the service for the tokenizer of its model. The
//! models of the local server read bytes and need nothing else. Any other tokenizer is a `tokenizer.json` in Hugging Face's
//! format, which the feature `tokenizers` reads: from a path, from a cache, or from the hub (`TokenizerSource`).
//!
//! ```
//! use tinkex::Tokenizer;
//! use tinkex::types::ModelInput;
//!
//! let tokenizer = Tokenizer::bytes();
//! let prompt = ModelInput::from_text(&tokenizer, "héllo")?;
//! assert_eq!(prompt.len(), 6);
//! assert_eq!(tokenizer.decode(&prompt.to_tokens()?)?, "héllo");
//! # Ok::<(), tinkex::Error>(())
//! ```

mod bytes;
#[cfg(feature = "tokenizers")]
mod hub;
#[cfg(feature = "tokenizers")]
mod hugging_face;
#[cfg(feature = "tokenizers")]
mod other_formats;
#[cfg(feature = "tokenizers")]
mod source;
mod stream;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::{END_OF_BYTES, END_OF_BYTES_TEXT, text_of_bytes, token_of_byte};
#[cfg(feature = "tokenizers")]
pub use source::TokenizerSource;
pub use stream::TextDecoder;

use crate::clock::Deadline;
use crate::error::Result;
use crate::rules::tokenizer_id::{self, BYTES};
use crate::types::ModelInput;

/// Converts text to the tokens of a model, and back. Cheap to clone.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "local")] {
/// # let server = tinkex::local::LocalServer::start()?;
/// # let config = tinkex::Config::builder().base_url(server.base_url()).api_key("tml-local").build()?;
/// use tinkex::types::{LoraConfig, ModelInput, SamplingParams};
///
/// let service = tinkex::ServiceClient::connect(config)?;
/// let sampler = service.create_sampling_client("tinkex/bytes-tiny")?;
/// let tokenizer = sampler.tokenizer()?;
/// let prompt = ModelInput::from_text(&tokenizer, "once upon")?;
/// let reply = sampler.sample(&prompt, 1, &SamplingParams::default().max_tokens(8))?;
/// println!("{}", tokenizer.decode(&reply.sequences[0].tokens)?);
/// # }
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone)]
pub struct Tokenizer(Arc<Kind>);

enum Kind {
    Bytes,
    #[cfg(feature = "tokenizers")]
    HuggingFace(Box<hugging_face::HuggingFace>),
}

impl Tokenizer {
    /// The byte tokenizer of the local server's models: each byte of the UTF-8 text is a token, and token 256 ends a text.
    ///
    /// # Examples
    ///
    /// ```
    /// let tokenizer = tinkex::Tokenizer::bytes();
    /// assert_eq!(tokenizer.decode(&tokenizer.encode("hi")?)?, "hi");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn bytes() -> Self {
        Tokenizer(Arc::new(Kind::Bytes))
    }

    /// Reads a `tokenizer.json`: the file itself, or the directory that contains it. The end-of-text token is read from a
    /// `tokenizer_config.json` beside it, if present.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) for a file that cannot be read,
    /// [`ErrorKind::Decode`](crate::ErrorKind::Decode) for one that is not a tokenizer.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let tokenizer = tinkex::Tokenizer::from_path("models/Qwen3-8B")?;
    /// println!("{:?}", tokenizer.encode("hello")?);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[cfg(feature = "tokenizers")]
    pub fn from_path(path: impl AsRef<std::path::Path>) -> Result<Self> {
        source::from_path(path.as_ref(), None)
    }

    #[cfg(feature = "tokenizers")]
    fn hugging_face(inner: hugging_face::HuggingFace) -> Self {
        Tokenizer(Arc::new(Kind::HuggingFace(Box::new(inner))))
    }

    /// Loads the tokenizer with this id, for a client's `tokenizer` method.
    #[cfg_attr(not(feature = "tokenizers"), allow(unused_variables, reason = "the byte tokenizer needs no source"))]
    pub(crate) fn named(
        id: &str,
        config: &crate::config::Config,
        deadline: Option<Deadline>,
        operation: &'static str,
    ) -> Result<Self> {
        if id == BYTES {
            return Ok(Tokenizer::bytes());
        }
        #[cfg(feature = "tokenizers")]
        return TokenizerSource::from_env()
            .config(config)
            .load_until(id, deadline)
            .map_err(|error| error.with_operation(operation));
        #[cfg(not(feature = "tokenizers"))]
        return Err(crate::error::Error::config(format!("the tokenizer {id:?} is not supported by this build"))
            .with_operation(operation)
            .with_hint("build with the feature `tokenizers`"));
    }

    /// The id of a model's tokenizer if the service names none: the model's own id, except for a few rules of the Python
    /// client.
    ///
    /// # Examples
    ///
    /// ```
    /// use tinkex::Tokenizer;
    ///
    /// assert_eq!(Tokenizer::id_of_model("openai/gpt-oss-120b/variant"), "openai/gpt-oss-120b");
    /// assert_eq!(Tokenizer::id_of_model("meta-llama/Llama-3.1-8B"), "thinkingmachineslabinc/meta-llama-3-instruct-tokenizer");
    /// assert_eq!(Tokenizer::id_of_model("tinkex/bytes-tiny"), "bytes");
    /// ```
    #[must_use]
    pub fn id_of_model(model_name: &str) -> String {
        tokenizer_id::of_model(model_name)
    }

    /// Its id on the hub, the path it was read from, or `bytes`.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(tinkex::Tokenizer::bytes().id(), "bytes");
    /// ```
    #[must_use]
    pub fn id(&self) -> &str {
        match &*self.0 {
            Kind::Bytes => BYTES,
            #[cfg(feature = "tokenizers")]
            Kind::HuggingFace(inner) => inner.id(),
        }
    }

    /// The tokens of a text, with the special tokens that the tokenizer adds around a whole text, such as one at its start. The
    /// Python client's `encode` does the same. The text of a special token, such as `<|im_start|>`, becomes that token, except in
    /// the tokenizer of bytes.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a text that the tokenizer cannot encode.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(tinkex::Tokenizer::bytes().encode("aé")?, [97, 0xC3, 0xA9]);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encoded(text, true)
    }

    /// The tokens of a text that continues another, such as a completion after its prompt: as [`encode`](Tokenizer::encode),
    /// without special tokens around them.
    ///
    /// # Errors
    ///
    /// As [`encode`](Tokenizer::encode).
    ///
    /// # Examples
    ///
    /// ```
    /// let tokenizer = tinkex::Tokenizer::bytes();
    /// let tokens = [tokenizer.encode("1 + 1 =")?, tokenizer.encode_continuation(" 2")?].concat();
    /// assert_eq!(tokenizer.decode(&tokens)?, "1 + 1 = 2");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn encode_continuation(&self, text: &str) -> Result<Vec<u32>> {
        self.encoded(text, false)
    }

    #[cfg_attr(
        not(feature = "tokenizers"),
        allow(unused_variables, reason = "the byte tokenizer has no special tokens around a text")
    )]
    fn encoded(&self, text: &str, whole: bool) -> Result<Vec<u32>> {
        match &*self.0 {
            Kind::Bytes => Ok(text.bytes().map(u32::from).collect()),
            #[cfg(feature = "tokenizers")]
            Kind::HuggingFace(inner) => inner.encode(text, whole),
        }
    }

    /// The text of tokens, without special tokens such as the end-of-text token. Invalid UTF-8 becomes U+FFFD. For a stream of
    /// tokens use a [`decoder`](Tokenizer::decoder).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for tokens that the tokenizer cannot decode.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(tinkex::Tokenizer::bytes().decode(&[104, 105, 256])?, "hi");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.decoded(tokens, false)
    }

    /// The text of tokens with their special tokens, to inspect a rendered prompt. Otherwise as [`decode`](Tokenizer::decode).
    ///
    /// # Errors
    ///
    /// As [`decode`](Tokenizer::decode).
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(tinkex::Tokenizer::bytes().decode_with_special_tokens(&[104, 105, 256])?, "hi<|endoftext|>");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn decode_with_special_tokens(&self, tokens: &[u32]) -> Result<String> {
        self.decoded(tokens, true)
    }

    fn decoded(&self, tokens: &[u32], with_special: bool) -> Result<String> {
        match &*self.0 {
            Kind::Bytes => Ok(text_of_bytes(tokens, if with_special { END_OF_BYTES_TEXT } else { "" })),
            #[cfg(feature = "tokenizers")]
            Kind::HuggingFace(inner) => inner.decode(tokens, with_special),
        }
    }

    /// The id of one token, special or not, by its text in the vocabulary; `None` if there is no such token. The vocabulary may
    /// write characters in its own way, for example `Ġthe` for ` the`: to convert a text, use [`encode`](Tokenizer::encode).
    ///
    /// # Examples
    ///
    /// ```
    /// let tokenizer = tinkex::Tokenizer::bytes();
    /// assert_eq!(tokenizer.token_to_id("a"), Some(97));
    /// assert_eq!(tokenizer.token_to_id("<|endoftext|>"), tokenizer.eos_token());
    /// assert_eq!(tokenizer.token_to_id("<|im_end|>"), None);
    /// ```
    #[doc(alias = "convert_tokens_to_ids")]
    #[must_use]
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        match &*self.0 {
            Kind::Bytes => (0..=END_OF_BYTES).find(|id| token_of_byte(*id).as_deref() == Some(token)),
            #[cfg(feature = "tokenizers")]
            Kind::HuggingFace(inner) => inner.token_to_id(token),
        }
    }

    /// The text of one token in the vocabulary, special or not; `None` if no token has this id. The tokenizer of bytes writes a
    /// byte that is no visible ASCII character as `<0x0A>`.
    ///
    /// # Examples
    ///
    /// ```
    /// let tokenizer = tinkex::Tokenizer::bytes();
    /// assert_eq!(tokenizer.id_to_token(97).as_deref(), Some("a"));
    /// assert_eq!(tokenizer.id_to_token(10).as_deref(), Some("<0x0A>"));
    /// assert_eq!(tokenizer.id_to_token(300), None);
    /// ```
    #[doc(alias = "convert_ids_to_tokens")]
    #[must_use]
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        match &*self.0 {
            Kind::Bytes => token_of_byte(id),
            #[cfg(feature = "tokenizers")]
            Kind::HuggingFace(inner) => inner.id_to_token(id),
        }
    }

    /// The special tokens, such as `<|im_start|>`, with their ids: those that [`decode`](Tokenizer::decode) leaves out.
    ///
    /// # Examples
    ///
    /// ```
    /// for (token, id) in tinkex::Tokenizer::bytes().special_tokens() {
    ///     assert_eq!((token.as_str(), id), ("<|endoftext|>", 256));
    /// }
    /// ```
    #[doc(alias = "all_special_tokens")]
    #[must_use]
    pub fn special_tokens(&self) -> BTreeMap<String, u32> {
        match &*self.0 {
            Kind::Bytes => BTreeMap::from([(END_OF_BYTES_TEXT.to_owned(), END_OF_BYTES)]),
            #[cfg(feature = "tokenizers")]
            Kind::HuggingFace(inner) => inner.special_tokens(),
        }
    }

    /// A decoder for a stream of tokens.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut decoder = tinkex::Tokenizer::bytes().decoder();
    /// assert_eq!(decoder.push(&[0xC3])?, "");
    /// assert_eq!(decoder.push(&[0xA9])?, "é");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn decoder(&self) -> TextDecoder {
        TextDecoder::new(self.clone())
    }

    /// The end-of-text token, if known.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(tinkex::Tokenizer::bytes().eos_token(), Some(256));
    /// ```
    #[must_use]
    pub fn eos_token(&self) -> Option<u32> {
        match &*self.0 {
            Kind::Bytes => Some(END_OF_BYTES),
            #[cfg(feature = "tokenizers")]
            Kind::HuggingFace(inner) => inner.eos_token(),
        }
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("id", &self.id()).field("eos_token", &self.eos_token()).finish()
    }
}

impl ModelInput {
    /// The tokens of a text, as by [`Tokenizer::encode`].
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a text that the tokenizer cannot encode.
    ///
    /// # Examples
    ///
    /// ```
    /// use tinkex::Tokenizer;
    /// use tinkex::types::ModelInput;
    ///
    /// let prompt = ModelInput::from_text(&Tokenizer::bytes(), "hi")?;
    /// assert_eq!(prompt.to_tokens()?, [104, 105]);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn from_text(tokenizer: &Tokenizer, text: &str) -> Result<ModelInput> {
        tokenizer.encode(text).map(ModelInput::from_tokens)
    }
}

#[cfg(test)]
mod tests {
    #[cfg(not(feature = "tokenizers"))]
    #[test]
    fn an_unsupported_tokenizer_names_the_feature() {
        use crate::tokenizer::Tokenizer;
        let config = crate::config::Config::builder()
            .api_key("tml-k")
            .base_url("http://127.0.0.1:1")
            .build_with(|_| None)
            .unwrap();
        let error = Tokenizer::named("Qwen/Qwen3-8B", &config, None, "tokenizer").unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Config);
        assert!(
            error.to_string().contains("Qwen/Qwen3-8B") && error.to_string().contains("feature `tokenizers`"),
            "{error}"
        );
        assert_eq!(Tokenizer::named("bytes", &config, None, "tokenizer").unwrap().id(), "bytes");
    }
}
