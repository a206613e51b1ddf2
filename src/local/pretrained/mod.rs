//! Real language models, read from files in the formats of Hugging Face and GGUF.
//!
//! ```no_run
//! use std::sync::Arc;
//! use tinkex::local::LocalServer;
//! use tinkex::local::pretrained::ModelLoader;
//!
//! let model = ModelLoader::new("models/SmolLM2-135M-Instruct").load()?;
//! let server = LocalServer::builder().model(Arc::new(model)).start()?;
//! # Ok::<(), tinkex::Error>(())
//! ```
//!
//! | | what is read |
//! |---|---|
//! | families | Llama (with the stretched context of Llama 3), Mistral, Qwen2, Qwen3 |
//! | a directory | `config.json`, `generation_config.json`; `model.safetensors`, or the files of `model.safetensors.index.json`, of F32, F16, BF16; `tokenizer.json`, `tokenizer_config.json`, `chat_template.jinja` |
//! | a GGUF file | F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K; the tokenizer and template in its metadata, or a `tokenizer.json` beside it where its vocabulary is of another kind than `gpt2` |
//!
//! Another family, or an option that would change the numbers, such as a sliding window, is refused by its name. Weights are used as
//! they are stored, or as [`WeightPrecision`] says; quantised ones are unpacked once, when they are read.
//!
//! A model must fit into the memory that is free: its weights, and what it takes to sample 2048 tokens and to train an adapter of rank
//! 32 with 512 tokens at a time. `open` finds and checks a model, `parameters` reads its weights, `text` its tokenizer.

pub(crate) mod architecture;
pub(crate) mod checkpoint;
pub(crate) mod download;
pub(crate) mod encoding;
mod gguf;
pub(crate) mod hugging_face;
mod labels;
mod load;
pub(in crate::local) mod memory;
mod open;
mod parameters;
mod refusal;
pub(crate) mod stored;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;
use std::sync::Arc;

pub(in crate::local) use self::download::locate;
pub(in crate::local) use self::hugging_face::{CONFIG, WEIGHTS, WEIGHTS_INDEX, tensors_of_file};
pub(in crate::local) use self::text::package as text_package;
use super::model::Cancellation;
use super::transformer::Transformer;
use crate::error::Result;
use crate::tokenizer::TokenizerSource;

/// How the weights of a model are kept in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WeightPrecision {
    /// F16 if all matrices of the file have 16 bits, and no number is beyond half precision; F32 otherwise. Numbers of BF16 below
    /// 6e-5 become coarser as F16; F32 keeps them exactly.
    #[default]
    Auto,
    /// IEEE half precision: 2 bytes for each weight. It reaches from 6e-8 to 65504, and is coarser below 6e-5; a number beyond that
    /// is an error.
    F16,
    /// Single precision: 4 bytes for each weight.
    F32,
}

/// What a [`ModelLoader`] is doing; see [`progress`](ModelLoader::progress).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum LoadProgress {
    /// A file is being downloaded into the cache.
    Downloading {
        /// Its name in the repository.
        file: String,
        /// Bytes that are there, with those of an earlier download that is continued.
        bytes: u64,
        /// Its size, if the hub says it.
        total: Option<u64>,
    },
    /// The model has been checked and fits; its weights are read next. With [`WeightPrecision::Auto`] it comes a second time, if a
    /// number turns out to be beyond half precision.
    Planned {
        /// How the weights will be kept: never [`WeightPrecision::Auto`].
        precision: WeightPrecision,
        /// The memory that the weights will take, in bytes.
        weight_bytes: u64,
    },
    /// Weights are being read.
    Reading {
        /// Bytes of weights that are in memory.
        bytes: u64,
        /// All of them.
        total: u64,
    },
}

/// Loads a real model: from a directory in Hugging Face's format, from a GGUF file, or from the hub.
#[derive(Clone)]
#[must_use = "a loader does nothing until `load` is called"]
pub struct ModelLoader {
    model: String,
    name: Option<String>,
    weights: WeightPrecision,
    threads: Option<usize>,
    source: Option<TokenizerSource>,
    cancellation: Cancellation,
    progress: Option<Arc<dyn Fn(LoadProgress) + Send + Sync>>,
}

impl ModelLoader {
    /// A model at a path: a directory or a GGUF file; or, where there is no such file, with this id on the hub:
    /// `organization/name`, `organization/name@revision`, and either with `:FILE` for one of several GGUF files. A model of the hub is
    /// fetched once, into the cache, and after an interruption from where that came.
    pub fn new(model: impl Into<String>) -> Self {
        ModelLoader {
            model: model.into(),
            name: None,
            weights: WeightPrecision::Auto,
            threads: None,
            source: None,
            cancellation: Cancellation::new(),
            progress: None,
        }
    }

    /// The name by which clients request the model. Defaults to the id on the hub, or to the name of the directory or file.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How the weights are kept. Defaults to [`WeightPrecision::Auto`].
    pub fn weights(mut self, precision: WeightPrecision) -> Self {
        self.weights = precision;
        self
    }

    /// The number of threads that compute, from 1 to 1024. Defaults to one for each processor.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Where models of the hub are looked for: in this crate's cache, below `models`; in that of Hugging Face's programs; on the hub.
    /// Defaults to [`TokenizerSource::from_env`].
    ///
    /// ```
    /// use tinkex::TokenizerSource;
    /// use tinkex::local::pretrained::ModelLoader;
    ///
    /// let offline = TokenizerSource::from_env().cache_dir("/no/such/cache").hub_cache_dir("/no/such/cache").offline(true);
    /// let error = ModelLoader::new("acme/small").source(&offline).load().unwrap_err();
    /// assert!(error.to_string().contains("put its files at /no/such/cache/models/acme--small"), "{error}");
    /// ```
    pub fn source(mut self, source: &TokenizerSource) -> Self {
        self.source = Some(source.clone());
        self
    }

    /// Ends the loading early, with an error, once this is cancelled.
    pub fn cancellation(mut self, cancellation: &Cancellation) -> Self {
        self.cancellation = cancellation.clone();
        self
    }

    /// Calls this with what the loader is doing, on the thread that loads.
    pub fn progress(mut self, progress: impl Fn(LoadProgress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// The name by which clients will request the model: the one that was [set](ModelLoader::name), or else that of its id or path.
    ///
    /// ```
    /// use tinkex::local::pretrained::ModelLoader;
    ///
    /// assert_eq!(ModelLoader::new("acme/small:small.Q4_1.gguf").served_name()?, "acme/small");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a text that is neither a path of something that exists nor an id.
    pub fn served_name(&self) -> Result<String> {
        self.name.clone().map_or_else(|| download::name(&self.model), Ok)
    }

    /// Loads the model: the Llama family, Mistral, Qwen2 and Qwen3. Everything that can be refused without the weights is, before
    /// they are read. Blocks until they are in memory.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io) for a file that cannot be read; [`Decode`](crate::ErrorKind::Decode) for one that is damaged,
    /// for files that do not fit each other, and for weights that are not finite;
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a path without a model, a model of another family or with an option that
    /// would change the numbers, by its name, and for a model that does not fit into the free memory, with numbers;
    /// [`Cancelled`](crate::ErrorKind::Cancelled) within a second of the [`cancellation`](ModelLoader::cancellation).
    pub fn load(self) -> Result<Transformer> {
        load::load(&self)
    }
}

impl fmt::Debug for ModelLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelLoader").field("model", &self.model).finish_non_exhaustive()
    }
}
