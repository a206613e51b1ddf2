//! GGUF files: the metadata with a model's vocabulary and chat template, and where the tensors are. Their data are read elsewhere.

mod fields;
mod header;
mod metadata;
#[cfg(feature = "pretrained")]
mod tensors;
#[cfg(feature = "chat")]
mod vocabulary;

#[cfg(feature = "pretrained")]
pub(crate) use self::header::Header;
pub(crate) use self::metadata::Metadata;
#[cfg(feature = "pretrained")]
pub(crate) use self::tensors::TensorInfo;
