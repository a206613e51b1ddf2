//! Models that are in a cache already.

use std::fs;
use std::path::{Path, PathBuf};

use super::LISTING;
use super::listing::{Choice, Listed, Listing, shards};
use super::model_id::{ModelId, is_gguf};
use crate::error::Result;
use crate::local::pretrained::hugging_face::{CONFIG, WEIGHTS, WEIGHTS_INDEX};

/// The model in a directory, if it is whole: by what the hub said of it, or else, where somebody put the files there, by the files.
pub(super) fn whole(directory: &Path, id: &ModelId<'_>) -> Result<Option<PathBuf>> {
    let Some(listing) = listing(directory) else { return Ok(placed(directory, id)) };
    // The repository may have more by now. Which of several files is meant, though, is not for those that are here to say.
    let Ok(choice) = listing.choose(id) else { return Ok(id.file.and_then(|_| placed(directory, id))) };
    let has = |name: &str| has(directory, name, listing.get(name));
    let mut is_whole = choice.files().iter().all(|name| has(name));
    if is_whole && matches!(choice, Choice::Sharded(_)) {
        is_whole = shards(&fs::read(directory.join(WEIGHTS_INDEX)).unwrap_or_default())?.iter().all(|name| has(name));
    }
    Ok(is_whole.then(|| choice.path(directory)))
}

/// What the hub said when the files were fetched. One that cannot be read counts as none.
pub(super) fn listing(directory: &Path) -> Option<Listing> {
    Listing::parse(&fs::read(directory.join(LISTING)).ok()?).ok()
}

/// Whether a file is there, with the size that the hub says.
pub(super) fn has(directory: &Path, name: &str, listed: Option<&Listed>) -> bool {
    let size = listed.and_then(|listed| listed.size);
    fs::metadata(directory.join(name)).is_ok_and(|found| found.is_file() && size.is_none_or(|size| size == found.len()))
}

/// The model among files of which nothing else is known.
fn placed(directory: &Path, id: &ModelId<'_>) -> Option<PathBuf> {
    let has = |name: &str| directory.join(name).is_file();
    if let Some(name) = id.file {
        return has(name).then(|| directory.join(name));
    }
    let has_shards = || {
        let index = fs::read(directory.join(WEIGHTS_INDEX)).ok()?;
        shards(&index).ok().filter(|shards| shards.iter().all(|name| has(name)))
    };
    if has(CONFIG) && (has(WEIGHTS) || has_shards().is_some()) {
        return Some(directory.to_owned());
    }
    let files = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    let mut gguf = files.filter(|file| is_gguf(&file.to_string_lossy()) && file.is_file());
    gguf.next().filter(|_| gguf.next().is_none())
}
