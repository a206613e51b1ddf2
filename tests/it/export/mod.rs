//! Adapters are exported, alone and merged into their base models.

mod adapter;
mod adapter_folder;
mod archive;
mod merge;
mod merge_gguf;
#[cfg(feature = "cli")]
mod program;
mod refusals;
