//! The id of a model on the hub.

use std::fmt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::rules::tokenizer_id::{self, HubId};
use crate::tokenizer::file_kind::FileKind;

/// `organization/name`, `organization/name@revision`, and either with `:FILE` for one of its GGUF files.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ModelId<'a> {
    pub(super) hub: HubId<'a>,
    pub(super) file: Option<&'a str>,
}

impl<'a> ModelId<'a> {
    /// Takes a text apart that is no path of something that exists.
    pub(crate) fn parse(text: &'a str) -> Result<Self> {
        let (id, file) = text.split_once(':').map_or((text, None), |(id, file)| (id, Some(file)));
        // A name alone is rather a path with a mistake than one of the hub's few models without an organization.
        let hub = tokenizer_id::parse(id).ok().filter(|hub| hub.repository.contains('/'));
        match (hub, file) {
            (Some(hub), None) if !is_gguf(id) => Ok(ModelId { hub, file }),
            (Some(hub), Some(name)) if is_gguf(name) && is_plain(name) => Ok(ModelId { hub, file }),
            (Some(_), Some(name)) => {
                Err(Error::invalid_input(format!("{name:?} is not the name of a GGUF file of a repository"))
                    .with_hint(format!("use a name such as {id}:model.gguf, or {id} for its safetensors")))
            }
            _ => Err(Error::invalid_input(format!("there is no file or directory {text:?}"))
                .with_hint("pass the path of a model, or an id on the hub such as organization/name")),
        }
    }
}

impl fmt::Display for ModelId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hub.fmt(f)?;
        self.file.map_or(Ok(()), |file| write!(f, ":{file}"))
    }
}

pub(super) fn is_gguf(name: &str) -> bool {
    FileKind::of(Path::new(name)) == FileKind::Gguf
}

/// Whether a name of a file, perhaps in a folder, leads nowhere else, on any system, and is none of the cache's own.
pub(crate) fn is_plain(name: &str) -> bool {
    name.split('/').all(|part| {
        let is_named = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+=, ()[]".contains(&byte));
        is_named && !part.is_empty() && !part.starts_with('.') && !part.ends_with(['.', ' '])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_a_revision_and_file() {
        for (text, repository, revision, file) in [
            ("acme/small", "acme/small", None, None),
            ("acme/small@v1.0", "acme/small", Some("v1.0"), None),
            ("acme/small:Q4/small.Q4_1.GGUF", "acme/small", None, Some("Q4/small.Q4_1.GGUF")),
            ("acme/small@main:small.gguf", "acme/small", Some("main"), Some("small.gguf")),
        ] {
            let id = ModelId { hub: HubId { repository, revision }, file };
            assert_eq!(ModelId::parse(text).unwrap(), id, "{text}");
            assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for (text, words) in [
            ("small", "no file or directory \"small\""),
            ("./small", "no file or directory"),
            ("a/b/c", "no file or directory"),
            ("models/small.gguf", "no file or directory"),
            ("C:\\models\\small.gguf", "no file or directory"),
            ("", "no file or directory"),
            ("acme/small:", "not the name of a GGUF file"),
            ("acme/small:model.safetensors", "not the name of a GGUF file"),
            ("acme/small:../other.gguf", "not the name of a GGUF file"),
            ("acme/small:/etc/other.gguf", "not the name of a GGUF file"),
            ("acme/small:.hidden.gguf", "not the name of a GGUF file"),
        ] {
            let error = ModelId::parse(text).unwrap_err();
            assert!(error.to_string().contains(words) && error.hint().is_some(), "{text}: {error}");
        }
    }
}
