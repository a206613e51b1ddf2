//! Where a model is: at a path, in a cache, or on the hub, from which it is fetched once.
//!
//! In this crate's cache, the model `organization/name` is the directory `models/organization--name` with the files as the repository
//! has them, and [`LISTING`]: what the hub said of the repository, with the commit that all files are of. A file that has its name is
//! whole and checked; one that is being fetched ends in `.part`, and is continued by the next try.

mod cache;
mod fetch;
pub(crate) mod listing;
pub(crate) mod model_id;

use std::path::{Path, PathBuf};

use log::debug;

use self::model_id::ModelId;
use super::LoadProgress;
use crate::error::{Error, ErrorKind, Result};
use crate::local::model::Cancellation;
use crate::tokenizer::TokenizerSource;

/// The file of a model's directory in this crate's cache with what the hub said of the repository.
const LISTING: &str = "listing.json";

/// The name of a model for clients: the id on the hub, or that of the directory or file.
pub(super) fn name(model: &str) -> Result<String> {
    let path = Path::new(model);
    if path.exists() { Ok(name_of(path)) } else { ModelId::parse(model).map(|id| id.hub.repository.to_owned()) }
}

/// Finds a model by its path, or else by its id on the hub: in this crate's cache, in that of Hugging Face's programs, or on the hub,
/// from which it is fetched into this crate's cache: a directory, or a GGUF file. Blocks while it is fetched; `cancellation` ends that.
pub(in crate::local) fn locate(
    model: &str,
    source: &TokenizerSource,
    cancellation: &Cancellation,
    progress: &dyn Fn(LoadProgress),
) -> Result<PathBuf> {
    let path = Path::new(model);
    if path.exists() {
        return Ok(path.to_owned());
    }
    let id = ModelId::parse(model)?;
    let (own, snapshot) = (source.model_directory(&id.hub), source.snapshot(&id.hub));
    let found = |directory: &Option<PathBuf>| directory.as_ref().map_or(Ok(None), |at| cache::whole(at, &id));
    match (found(&own)?, found(&snapshot)?) {
        (Some(path), _) | (None, Some(path)) => {
            debug!("reading the model \"{id}\" from {}", path.display());
            Ok(path)
        }
        (None, None) => {
            let own = own.ok_or_else(|| {
                Error::config(format!("there is no cache for the model \"{id}\""))
                    .with_hint("set TINKEX_CACHE to a directory for it, or pass the path of a model")
            })?;
            let hint = format!("put its files at {}, or pass the path of a model", own.display());
            if source.is_offline() {
                let message = format!("the model \"{id}\" is not in the cache, and HF_HUB_OFFLINE forbids downloads");
                return Err(Error::new(ErrorKind::Io, message).with_hint(hint));
            }
            let hub = source.hub(None, &hint)?;
            fetch::Repository::open(hub, &id, own, hint, cancellation, progress)?.fetch()
        }
    }
}

/// The name of a directory, or of a file without its ending.
fn name_of(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    // A link to a directory or file may have a better name than its target.
    let path = if path.file_name().is_some() { path } else { &whole };
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_gives_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("My-Model-1.5");
        std::fs::create_dir(&model).unwrap();
        std::fs::write(folder.path().join("other.Q4_1.gguf"), "").unwrap();
        for (path, name) in [
            (model.clone(), "My-Model-1.5"),
            (model.join("."), "My-Model-1.5"),
            (model.join("..").join("My-Model-1.5"), "My-Model-1.5"),
            (folder.path().join("other.Q4_1.gguf"), "other.Q4_1"),
        ] {
            assert_eq!(name_of(&path), name, "{}", path.display());
        }
    }
}
