//! What the hub says of a repository, and which of its files make the model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::model_id::{ModelId, is_gguf, is_plain};
use crate::error::{Error, ErrorKind, Result};
use crate::local::pretrained::hugging_face::{CONFIG, WEIGHTS, WEIGHTS_INDEX};

/// The small files that a model may have beside its weights and its configuration.
const BESIDE: [&str; 5] =
    ["chat_template.jinja", "generation_config.json", "tiktoken.model", "tokenizer.json", "tokenizer_config.json"];

/// The most names that an error lists.
const MAX_NAMES: usize = 20;

/// The files of a repository at one commit.
#[derive(Debug, PartialEq)]
pub(crate) struct Listing {
    /// Absent on a mirror that does not say it.
    pub(super) commit: Option<String>,
    files: BTreeMap<String, Listed>,
}

/// A file on the hub.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Listed {
    pub(super) size: Option<u64>,
    /// Of the content, in hexadecimal; the hub knows it of large files.
    pub(super) sha256: Option<String>,
}

/// What to fetch.
#[derive(Debug, PartialEq)]
pub(crate) enum Choice {
    /// One file, which is the model.
    Gguf(String),
    /// A directory with these files.
    Directory(Vec<String>),
    /// A directory with these files, of which the last names the files with the weights.
    Sharded(Vec<String>),
}

#[derive(Deserialize)]
struct Response {
    sha: Option<String>,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Choice {
    /// All files but the shards.
    pub(crate) fn files(&self) -> &[String] {
        match self {
            Choice::Gguf(name) => std::slice::from_ref(name),
            Choice::Directory(names) | Choice::Sharded(names) => names,
        }
    }

    /// The model, once it is in this directory.
    pub(super) fn path(&self, directory: &Path) -> PathBuf {
        match self {
            Choice::Gguf(name) => directory.join(name),
            Choice::Directory(_) | Choice::Sharded(_) => directory.to_owned(),
        }
    }
}

impl Listing {
    /// Reads the hub's description of a model.
    pub(crate) fn parse(json: &[u8]) -> Result<Self> {
        let response: Response = serde_json::from_slice(json).map_err(|error| {
            Error::new(ErrorKind::Decode, format!("the list of files cannot be read: {error}")).with_source(error)
        })?;
        let is_hex = |text: &String, length: usize| text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit());
        let listed = |file: Sibling| {
            let (hash, size) = file.lfs.map_or((None, None), |lfs| (lfs.sha256, lfs.size));
            let sha256 = hash.filter(|hash| is_hex(hash, 64)).map(|hash| hash.to_ascii_lowercase());
            (file.rfilename, Listed { size: size.or(file.size), sha256 })
        };
        Ok(Listing {
            commit: response.sha.filter(|commit| is_hex(commit, 40)),
            // A name that leads elsewhere is no file of a model.
            files: response.siblings.into_iter().map(listed).filter(|(name, _)| is_plain(name)).collect(),
        })
    }

    pub(super) fn get(&self, name: &str) -> Option<&Listed> {
        self.files.get(name)
    }

    /// The files of the model with this id.
    pub(crate) fn choose(&self, id: &ModelId<'_>) -> Result<Choice> {
        let has = |name: &str| self.files.contains_key(name);
        let gguf: Vec<&str> = self.files.keys().map(String::as_str).filter(|name| is_gguf(name)).collect();
        let refused = |message: String| Err(Error::invalid_input(message));
        let repository = id.hub;
        if let Some(name) = id.file {
            return match gguf.as_slice() {
                _ if has(name) => Ok(Choice::Gguf(name.to_owned())),
                [] => refused(format!("\"{repository}\" has no GGUF file")),
                _ => refused(format!("\"{repository}\" has no file {name}"))
                    .map_err(|error| error.with_hint(format!("it has {}", list(&gguf)))),
            };
        }
        if has(CONFIG) && (has(WEIGHTS_INDEX) || has(WEIGHTS)) {
            let beside = BESIDE.into_iter().filter(|name| has(name));
            let files = [CONFIG].into_iter().chain(beside);
            let last = if has(WEIGHTS) { WEIGHTS } else { WEIGHTS_INDEX };
            let files = files.chain([last]).map(str::to_owned).collect();
            return Ok(if has(WEIGHTS) { Choice::Directory(files) } else { Choice::Sharded(files) });
        }
        match gguf.as_slice() {
            [only] => Ok(Choice::Gguf((*only).to_owned())),
            [] => refused(format!("\"{repository}\" has no weights that can be read")).map_err(|error| {
                error.with_hint("use a repository with model.safetensors and config.json, or with a GGUF file")
            }),
            [first, ..] => refused(format!("\"{repository}\" has {} GGUF files, and no model.safetensors", gguf.len()))
                .map_err(|error| {
                    error.with_hint(format!("choose one, such as {repository}:{first}, of {}", list(&gguf)))
                }),
        }
    }
}

/// The files that an index names, without repetition: of weights, so that none takes the place of another file of the cache.
pub(crate) fn shards(index: &[u8]) -> Result<Vec<String>> {
    let unusable = |why: String| Error::new(ErrorKind::Decode, format!("{WEIGHTS_INDEX} cannot be used: {why}"));
    let index: Index = serde_json::from_slice(index).map_err(|error| unusable(error.to_string()).with_source(error))?;
    let mut names: Vec<String> = index.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    match names.iter().find(|name| !is_plain(name) || !name.ends_with(".safetensors")) {
        Some(name) => Err(unusable(format!("{name:?} is no name of a file with weights"))),
        None => Ok(names),
    }
}

fn list(names: &[&str]) -> String {
    let shown = names.iter().take(MAX_NAMES).copied().collect::<Vec<_>>().join(", ");
    if names.len() > MAX_NAMES { format!("{shown} and {} more", names.len() - MAX_NAMES) } else { shown }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn listing(names: &[&str]) -> Listing {
        let siblings: Vec<_> = names.iter().map(|name| json!({"rfilename": name})).collect();
        Listing::parse(json!({ "siblings": siblings }).to_string().as_bytes()).unwrap()
    }

    fn chosen(names: &[&str], id: &str) -> Result<Choice> {
        listing(names).choose(&ModelId::parse(id).unwrap())
    }

    #[test]
    fn sizes_and_hashes_are_read() {
        let (commit, hash) = ("0123456789abcdef0123456789abcdef01234567", "AB".repeat(32));
        let json = json!({"id": "acme/small", "sha": commit, "siblings": [
            {"rfilename": "config.json", "size": 7, "blobId": "x"},
            {"rfilename": "model.safetensors", "size": 1, "lfs": {"sha256": hash, "size": 9, "pointerSize": 135}},
            {"rfilename": "../../etc/passwd", "size": 7},
            {"rfilename": ".gitattributes"},
        ]});
        let listing = Listing::parse(json.to_string().as_bytes()).unwrap();
        assert_eq!(listing.commit.as_deref(), Some(commit));
        let weights = Listed { size: Some(9), sha256: Some("ab".repeat(32)) };
        assert_eq!(listing.get("model.safetensors"), Some(&weights));
        assert_eq!(listing.get("config.json"), Some(&Listed { size: Some(7), sha256: None }));
        assert_eq!(listing.files.len(), 2, "{listing:?}");
        assert!(Listing::parse(b"<html>").unwrap_err().to_string().contains("list of files"));
    }

    #[test]
    fn safetensors_come_before_gguf_files() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let all = ["config.json", "pytorch_model.bin", "tokenizer.json", "vocab.json", "a.gguf", "b.gguf"];
        for (weights, id, expected) in [
            (
                vec!["model.safetensors"],
                "acme/small",
                Choice::Directory(names(&["config.json", "tokenizer.json", "model.safetensors"])),
            ),
            (
                vec!["model.safetensors.index.json", "model-00001-of-00001.safetensors"],
                "acme/small",
                Choice::Sharded(names(&["config.json", "tokenizer.json", "model.safetensors.index.json"])),
            ),
            (vec!["model.safetensors"], "acme/small:b.gguf", Choice::Gguf("b.gguf".to_owned())),
        ] {
            assert_eq!(chosen(&[all.as_slice(), &weights].concat(), id).unwrap(), expected, "{weights:?}");
        }
        let only = ["README.md", "config.json", "sub/only.gguf"];
        assert_eq!(chosen(&only, "acme/small").unwrap(), Choice::Gguf("sub/only.gguf".to_owned()));
    }

    #[test]
    fn what_cannot_be_chosen_is_explained() {
        for (names, id, message, hint) in [
            (vec!["a.gguf", "b.gguf"], "acme/small", "has 2 GGUF files", "acme/small:a.gguf, of a.gguf, b.gguf"),
            (vec!["a.gguf", "b.gguf"], "acme/small:c.gguf", "has no file c.gguf", "it has a.gguf, b.gguf"),
            (vec!["model.safetensors"], "acme/small:c.gguf", "has no GGUF file", ""),
            (
                vec!["pytorch_model.bin", "config.json"],
                "acme/small",
                "no weights that can be read",
                "model.safetensors",
            ),
        ] {
            let error = chosen(&names, id).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
            assert!(error.hint().unwrap_or_default().contains(hint), "{error}");
        }
    }

    #[test]
    fn an_index_names_files_of_the_repository() {
        let index = |file: &str| json!({"metadata": {}, "weight_map": {"a": "x.safetensors", "b": file, "c": file}});
        let read = |file: &str| shards(index(file).to_string().as_bytes());
        assert_eq!(read("y.safetensors").unwrap(), ["x.safetensors", "y.safetensors"]);
        for file in ["../x", "/etc/passwd", "a/../b", "", "a\\b", "C:x", "listing.json"] {
            assert!(read(file).unwrap_err().to_string().contains("no name of a file"), "{file}");
        }
    }
}
