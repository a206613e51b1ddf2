//! Text to tokens and back.
//!
//! A [`Tokenizer`] comes from a client ([`TrainingClient::tokenizer`](crate::TrainingClient::tokenizer),
//! [`SamplingClient::tokenizer`](crate::SamplingClient::tokenizer)), which asks the service for the tokenizer of its model. The
//! models of the local server read bytes and need nothing else. Any other tokenizer is a `tokenizer.json` in Hugging Face's
//! format, a `tiktoken.model` or a GGUF file, which the feature `tokenizers` reads: from a path, from a cache, or from the hub
//! (`TokenizerSource`).
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

pub(crate) mod beginning;
#[cfg(feature = "tokenizers")]
mod byte_level;
mod bytes;
#[cfg(any(feature = "chat", feature = "tokenizers"))]
pub(crate) mod file_kind;
#[cfg(feature = "tokenizers")]
pub(crate) mod gguf_vocabulary;
#[cfg(feature = "tokenizers")]
pub(crate) mod hub;
#[cfg(feature = "tokenizers")]
mod hugging_face;
#[cfg(feature = "tokenizers")]
pub(crate) mod package;
#[cfg(feature = "tokenizers")]
mod service_files;
#[cfg(feature = "tokenizers")]
mod source;
mod stream;
#[cfg(feature = "tokenizers")]
mod tiktoken;
mod vocabulary;
#[cfg(feature = "tokenizers")]
mod words;

use std::fmt;
use std::sync::Arc;

use bytes::{END_OF_BYTES_TEXT, text_of_bytes};
#[cfg(feature = "tokenizers")]
pub use source::TokenizerSource;
pub use stream::TextDecoder;

use crate::clock::Deadline;
use crate::error::Result;
use crate::rules::tokenizer_id::{self, BYTES};
use crate::types::{ModelInput, TokenizerPackage};

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

    /// Reads a tokenizer from a file, or from the directory that contains it:
    ///
    /// | file | what is read |
    /// |---|---|
    /// | `tokenizer.json` | all of it; the end-of-text token is in a `tokenizer_config.json` beside it |
    /// | `tiktoken.model` | the words; the added tokens are in `tokenizer_config.json`, and a pattern in its `pat_str`, without which words are cut as Kimi's models do |
    /// | `*.gguf` | the vocabulary in its metadata, if it is byte-level BPE |
    ///
    /// Of a directory, the first of them is read. Blocks while it reads; a large vocabulary takes some hundred milliseconds.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) for a file that cannot be read,
    /// [`ErrorKind::Decode`](crate::ErrorKind::Decode) for one that is not a tokenizer, or is one of another kind,
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for a directory with several GGUF files and nothing else.
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
        package::from_path(path.as_ref(), None)
    }

    #[cfg(feature = "tokenizers")]
    fn hugging_face(inner: hugging_face::HuggingFace) -> Self {
        Tokenizer(Arc::new(Kind::HuggingFace(Box::new(inner))))
    }

    /// Loads the tokenizer with this id, for a client's `tokenizer` method, from the service if that has it.
    #[cfg_attr(not(feature = "tokenizers"), allow(unused_variables, reason = "the byte tokenizer needs no source"))]
    pub(crate) fn named(
        id: &str,
        config: &crate::config::Config,
        package: Option<TokenizerPackage>,
        deadline: Option<Deadline>,
        operation: &'static str,
    ) -> Result<Self> {
        if id == BYTES {
            return Ok(Tokenizer::bytes());
        }
        #[cfg(feature = "tokenizers")]
        return TokenizerSource::of_service(config, package)
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

    /// Its id on the hub, the path it was read from, or `bytes`. A path that could be an id begins with `./`.
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

    /// The first `max_tokens` tokens of [`encode`](Tokenizer::encode), for a text of any size: of a long text only as much is
    /// encoded as has these tokens.
    ///
    /// # Errors
    ///
    /// As [`encode`](Tokenizer::encode), if the text that is encoded has them.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(tinkex::Tokenizer::bytes().encode_beginning("abcd", 2)?, [97, 98]);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn encode_beginning(&self, text: &str, max_tokens: usize) -> Result<Vec<u32>> {
        beginning::tokens(text, max_tokens, |text| self.encoded(text, true))
    }

    /// The first `max_tokens` tokens of [`encode_continuation`](Tokenizer::encode_continuation), as
    /// [`encode_beginning`](Tokenizer::encode_beginning).
    ///
    /// # Errors
    ///
    /// As [`encode_beginning`](Tokenizer::encode_beginning).
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(tinkex::Tokenizer::bytes().encode_continuation_beginning(" 42", 2)?, [32, 52]);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn encode_continuation_beginning(&self, text: &str, max_tokens: usize) -> Result<Vec<u32>> {
        beginning::tokens(text, max_tokens, |text| self.encoded(text, false))
    }

    /// The tokens of a text that is only text: no token is added around it, and what looks like an added token, such as
    /// `<|im_end|>`, becomes the tokens of its characters. For what a user wrote.
    ///
    /// # Errors
    ///
    /// As [`encode`](Tokenizer::encode).
    ///
    /// # Examples
    ///
    /// ```
    /// let tokenizer = tinkex::Tokenizer::bytes();
    /// let tokens = tokenizer.encode_text("<|endoftext|>")?;
    /// assert_eq!(tokens.len(), 13);
    /// assert!(!tokens.contains(&256));
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[doc(alias = "split_special_tokens")]
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        match &*self.0 {
            Kind::Bytes => Ok(text.bytes().map(u32::from).collect()),
            #[cfg(feature = "tokenizers")]
            Kind::HuggingFace(inner) => inner.encode_text(text),
        }
    }

    /// The parts of a text, in order: those that are added tokens, with their ids, and those between them, which are the text of
    /// [`encode_text`](Tokenizer::encode_text). A part that is a token holds the white space that the token takes with it. The
    /// end-of-text token of bytes is found, too.
    #[cfg(feature = "chat")]
    pub(crate) fn split_added_tokens<'a>(&self, text: &'a str) -> Result<Vec<(&'a str, Option<u32>)>> {
        match &*self.0 {
            Kind::Bytes => Ok(bytes::split_end(text)),
            #[cfg(feature = "tokenizers")]
            Kind::HuggingFace(inner) => inner.split_added_tokens(text),
        }
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
        let error = Tokenizer::named("Qwen/Qwen3-8B", &config, None, None, "tokenizer").unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Config);
        assert!(
            error.to_string().contains("Qwen/Qwen3-8B") && error.to_string().contains("feature `tokenizers`"),
            "{error}"
        );
        assert_eq!(Tokenizer::named("bytes", &config, None, None, "tokenizer").unwrap().id(), "bytes");
    }
}
