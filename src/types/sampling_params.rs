//! How tokens are sampled, and where sampling stops.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How tokens are sampled.
///
/// ```
/// use tinkex::types::SamplingParams;
///
/// let params = SamplingParams::default().max_tokens(64).temperature(0.7).stop(["\n\n"]);
/// params.validate()?;
/// assert_eq!(
///     serde_json::to_string(&params).unwrap(),
///     r#"{"max_tokens":64,"stop":["\n\n"],"temperature":0.7,"top_k":-1,"top_p":1.0}"#
/// );
/// assert!(params.top_p(1.5).validate().is_err());
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SamplingParams {
    /// The maximum number of tokens to sample. Not sent if none: the server chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// The seed for sampling. Not sent if none: the server chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Where to stop. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// The temperature; 0 always takes the most likely token. Defaults to 1.
    pub temperature: f64,
    /// Samples from this many of the most likely tokens; −1 means all. Defaults to −1.
    pub top_k: i32,
    /// Samples from the most likely tokens whose probabilities add up to this. Defaults to 1.
    pub top_p: f64,
}

impl Default for SamplingParams {
    fn default() -> Self {
        SamplingParams { max_tokens: None, seed: None, stop: None, temperature: 1.0, top_k: -1, top_p: 1.0 }
    }
}

impl SamplingParams {
    /// The defaults: temperature 1, all tokens; no maximum length, seed or stop sequences.
    #[must_use]
    pub fn new() -> Self {
        SamplingParams::default()
    }

    /// Sets the maximum number of tokens to sample, at least 1. Defaults to none: the server chooses.
    #[must_use]
    pub fn max_tokens(mut self, max_tokens: u32) -> Self {
        self.max_tokens = Some(max_tokens);
        self
    }

    /// Sets the temperature; 0 always takes the most likely token. Defaults to 1.
    #[must_use]
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.temperature = temperature;
        self
    }

    /// Samples from this many of the most likely tokens; −1 means all. Defaults to −1.
    #[must_use]
    pub fn top_k(mut self, top_k: i32) -> Self {
        self.top_k = top_k;
        self
    }

    /// Samples from the most likely tokens whose probabilities add up to this (nucleus sampling). Defaults to 1.
    #[must_use]
    pub fn top_p(mut self, top_p: f64) -> Self {
        self.top_p = top_p;
        self
    }

    /// Sets the seed for sampling. Defaults to none: the server chooses.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets where to stop: a text, several texts, or token ids. Defaults to none: sampling stops at the model's
    /// end-of-text token.
    #[must_use]
    pub fn stop(mut self, stop: impl Into<Stop>) -> Self {
        self.stop = Some(stop.into());
        self
    }

    /// Checks the settings before they are sent.
    ///
    /// # Errors
    ///
    /// A temperature that is negative or not finite, a `top_p` outside 0 to 1, a `top_k` of 0 or below −1, `max_tokens` of 0,
    /// and an empty text to stop at.
    pub fn validate(&self) -> Result<()> {
        let refuse = |message: String| Err(Error::invalid_input(message));
        if !self.temperature.is_finite() || self.temperature < 0.0 {
            return refuse(format!("the temperature must be finite and not negative, but is {}", self.temperature));
        }
        if !(0.0..=1.0).contains(&self.top_p) {
            return refuse(format!("top_p must be between 0 and 1, but is {}", self.top_p));
        }
        if self.top_k < -1 || self.top_k == 0 {
            return refuse(format!("top_k must be positive, or -1 for all tokens, but is {}", self.top_k));
        }
        if self.max_tokens == Some(0) {
            return refuse("max_tokens must be at least 1".to_owned());
        }
        if matches!(&self.stop, Some(Stop::Texts(texts)) if texts.iter().any(String::is_empty)) {
            return refuse("a text to stop at is empty".to_owned());
        }
        Ok(())
    }
}

/// Where sampling stops. Always sent as a list, which every server understands. An empty list is sent too: a service may take
/// it to mean that the model's own end-of-text token does not stop either.
///
/// ```
/// use tinkex::types::Stop;
///
/// assert_eq!(Stop::from("\n"), Stop::Texts(vec!["\n".to_owned()]));
/// assert_eq!(Stop::from(["END", "###"]), Stop::Texts(vec!["END".to_owned(), "###".to_owned()]));
/// assert_eq!(Stop::from([151_645_u32]), Stop::Tokens(vec![151_645]));
/// assert_eq!(serde_json::to_string(&Stop::from("\n")).unwrap(), r#"["\n"]"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, from = "ListOrText")]
#[non_exhaustive]
pub enum Stop {
    /// When any of these texts is sampled.
    Texts(Vec<String>),
    /// When any of these token ids is sampled.
    Tokens(Vec<u32>),
}

/// What other clients send: the Python client sends a single text as a string.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text, a list of texts or a list of tokens")]
enum ListOrText {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
}

impl From<ListOrText> for Stop {
    fn from(written: ListOrText) -> Self {
        match written {
            ListOrText::Text(text) => text.into(),
            ListOrText::Texts(texts) => texts.into(),
            ListOrText::Tokens(tokens) => tokens.into(),
        }
    }
}

impl From<&str> for Stop {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<String> for Stop {
    fn from(text: String) -> Self {
        Stop::Texts(vec![text])
    }
}

impl From<Vec<String>> for Stop {
    fn from(texts: Vec<String>) -> Self {
        Stop::Texts(texts)
    }
}

impl From<&[&str]> for Stop {
    fn from(texts: &[&str]) -> Self {
        Stop::Texts(texts.iter().map(|&text| text.to_owned()).collect())
    }
}

impl<const N: usize> From<[&str; N]> for Stop {
    fn from(texts: [&str; N]) -> Self {
        texts.as_slice().into()
    }
}

impl From<Vec<u32>> for Stop {
    fn from(tokens: Vec<u32>) -> Self {
        Stop::Tokens(tokens)
    }
}

impl<const N: usize> From<[u32; N]> for Stop {
    fn from(tokens: [u32; N]) -> Self {
        Stop::Tokens(tokens.into())
    }
}
