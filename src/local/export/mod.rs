//! Checkpoints for other programs: the adapter in PEFT's format, or merged into its base model.
//!
//! ```no_run
//! use tinkex::local::export::AdapterExport;
//! # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
//!
//! rest.download_checkpoint_archive("run-1", "sampler_weights/final", "checkpoint")?;
//! AdapterExport::new("checkpoint").write("adapter")?;
//! let merged = AdapterExport::new("checkpoint").merge_into("models/Qwen3-0.6B").write("merged")?;
//! println!("{} matrices changed; serve it with `tinkex serve --model {}`", merged.matrices, merged.path.display());
//! # Ok(())
//! # }
//! ```
//!
//! # The adapter alone
//!
//! `adapter_config.json` and `adapter_model.safetensors`, as PEFT's `PeftModel.from_pretrained` and vLLM's `--lora-modules` read them.
//! The tensors keep their type and numbers; their names become `base_model.model.MODULE.lora_A.weight` and `…lora_B.weight`, with the
//! modules of transformers. An optimizer state is left out.
//!
//! The adapter of the unembedding is named `lm_head`. In a model whose head is tied to its embedding, PEFT applies it to the output side
//! alone, as it was trained; but `merge_and_unload` of PEFT adds it to the shared matrix, and so changes the embedding, too. Merging
//! here does not: see below. vLLM refuses or ignores adapters of `lm_head` in some versions and models; the merged model is served by
//! any.
//!
//! # The merged model
//!
//! A directory in Hugging Face's format: each matrix W with an adapter becomes W + alpha / rank · B · A, computed in single precision
//! and rounded to the nearest number of its type, ties to even; all other tensors keep their bits. Files and index have the names of the
//! base's, the texts beside them (tokenizer, template, licence) are copied. It needs the memory of the adapter and a few megabytes,
//! whatever the size of the base.
//!
//! An adapter of the unembedding unties a tied head: the merged model has a matrix `lm_head.weight` of its own, and
//! `"tie_word_embeddings": false` in its configuration.
//!
//! A GGUF file as the base becomes such a directory, too: tensors of 16 and 32 bits keep their type, quantised ones become `f32`, unless
//! a [`precision`](AdapterExport::precision) is set. The tokenizer is made of the file's vocabulary.

mod adapter;
pub(crate) mod adapter_config;
mod base_files;
mod gguf_config;
mod merge;
mod module_names;
mod new_file;
mod peft;
mod precision;
mod tensor_file;
mod work;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::precision::ExportPrecision;
use super::model::Cancellation;
use crate::error::Result;
use crate::tokenizer::TokenizerSource;

/// Exports the adapter of a checkpoint; see the [module](self).
#[derive(Clone)]
#[must_use = "an export does nothing until `write` is called"]
pub struct AdapterExport {
    checkpoint: PathBuf,
    base: Option<String>,
    precision: Option<ExportPrecision>,
    overwrite: bool,
    source: Option<TokenizerSource>,
    cancellation: Cancellation,
    progress: Option<Arc<dyn Fn(ExportProgress) + Send + Sync>>,
}

/// What an [`AdapterExport`] is doing; see [`progress`](AdapterExport::progress).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExportProgress {
    /// A file of the base model is being downloaded into the cache.
    Downloading {
        /// Its name in the repository.
        file: String,
        /// Bytes that are there.
        bytes: u64,
        /// Its size, if the hub says it.
        total: Option<u64>,
    },
    /// The merged model is being written.
    Writing {
        /// Bytes of tensors that are written.
        bytes: u64,
        /// All of them.
        total: u64,
    },
}

/// What an export has written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// The new directory.
    pub path: PathBuf,
    /// The number of files in it.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// The number of matrices that the adapter changes.
    pub matrices: usize,
    /// Whether the head of the merged model was separated from its embedding.
    pub untied: bool,
}

impl AdapterExport {
    /// The export of a checkpoint: a directory with an adapter in PEFT's format, or its archive, `.tar` or `.tar.gz`, as
    /// [`download_checkpoint_archive`](crate::RestClient::download_checkpoint_archive) leaves them.
    pub fn new(checkpoint: impl Into<PathBuf>) -> Self {
        AdapterExport {
            checkpoint: checkpoint.into(),
            base: None,
            precision: None,
            overwrite: false,
            source: None,
            cancellation: Cancellation::new(),
            progress: None,
        }
    }

    /// Merges the adapter into this model, in place of writing it alone: a directory in Hugging Face's format, a GGUF file, or an id on
    /// the hub, as [`ModelLoader::new`](super::pretrained::ModelLoader::new) takes them.
    pub fn merge_into(mut self, base: impl Into<String>) -> Self {
        self.base = Some(base.into());
        self
    }

    /// The type of all numbers of the merged model. Defaults to the type that each tensor of the base has, and to
    /// [`F32`](ExportPrecision::F32) for quantised ones.
    pub fn precision(mut self, precision: ExportPrecision) -> Self {
        self.precision = Some(precision);
        self
    }

    /// Whether to replace an existing destination, once everything is written. Defaults to `false`.
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// Where a base model of the hub is looked for. Defaults to [`TokenizerSource::from_env`].
    pub fn source(mut self, source: &TokenizerSource) -> Self {
        self.source = Some(source.clone());
        self
    }

    /// Ends the export early, with an error and without files, once this is cancelled.
    pub fn cancellation(mut self, cancellation: &Cancellation) -> Self {
        self.cancellation = cancellation.clone();
        self
    }

    /// Calls this with the progress, on the thread that exports.
    pub fn progress(mut self, progress: impl Fn(ExportProgress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// Writes the new directory. It appears at the very end, all at once and synced to the disk; after an error, nothing is left behind.
    /// Blocks until then.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a destination that exists or holds the base or the checkpoint, an adapter of
    /// another kind than LoRA or with an option that would change the numbers, a tensor that is no part of such an adapter or does not
    /// fit the base, and a base that [`ModelLoader::load`](super::pretrained::ModelLoader::load) would refuse, each by name;
    /// [`Decode`](crate::ErrorKind::Decode) for damaged files, for archives that are refused, and for numbers that are not finite, before
    /// or after the merge; [`Io`](crate::ErrorKind::Io) for a file that cannot be read or written;
    /// [`Cancelled`](crate::ErrorKind::Cancelled) after the [`cancellation`](AdapterExport::cancellation).
    pub fn write(self, to: impl AsRef<Path>) -> Result<Exported> {
        work::export(&self, to.as_ref())
    }
}

impl fmt::Debug for AdapterExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdapterExport")
            .field("checkpoint", &self.checkpoint)
            .field("base", &self.base)
            .field("precision", &self.precision)
            .finish_non_exhaustive()
    }
}
