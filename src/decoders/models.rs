//! Files of models and adapters, and what the hub says of them. In memory.

use std::path::Path;

use serde_json::{Map, Value};

use super::{taken, taken_of_service};
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::Header;
use crate::local::export::adapter_config as adapter;
use crate::local::pretrained::download::listing::{self, Listing};
use crate::local::pretrained::download::model_id::{ModelId, is_plain};
use crate::local::pretrained::hugging_face::{config, safetensors as header};

fn no_json(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Decode, error.to_string())
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>> {
    serde_json::from_slice(bytes).map_err(no_json)
}

/// The options of an adapter.
pub(super) fn adapter_config(bytes: &[u8]) -> bool {
    taken(object(bytes).and_then(|map| adapter::read(&map).map_err(Error::invalid_input)))
}

/// The options of a model.
pub(super) fn model_config(bytes: &[u8]) -> bool {
    taken(object(bytes).and_then(|map| config::read(&map).map_err(|refusal| refusal.of(Path::new("model")))))
}

/// The configuration of a tokenizer, with its chat templates.
pub(super) fn tokenizer_config(bytes: &[u8]) -> bool {
    taken(crate::chat::template::package::template("model", None, Some(bytes)))
}

/// The header of a file with weights. What is taken has each byte of the data once.
pub(super) fn safetensors(bytes: &[u8]) -> bool {
    let size = bytes.len() as u64;
    let tensors = header::tensors(bytes, size, 0).map_err(no_json);
    taken(tensors.and_then(|tensors| tensors.map_err(|refusal| refusal.of(Path::new("model")))).inspect(|tensors| {
        let data: u64 = tensors.iter().filter_map(|tensor| tensor.encoding.bytes(&tensor.shape)).sum();
        assert!(data < size, "{data} bytes of {size}");
    }))
}

/// The header of a GGUF file.
pub(super) fn gguf_header(bytes: &[u8]) -> bool {
    taken(Header::from_reader(bytes).map_err(no_json))
}

/// Which files have the weights. None leads elsewhere.
pub(super) fn weights_index(bytes: &[u8]) -> bool {
    let names = listing::shards(bytes).inspect(|names| assert!(names.iter().all(|name| is_plain(name)), "{names:?}"));
    taken_of_service(names)
}

/// The files of a repository, and the choice among them.
pub(super) fn hub_listing(bytes: &[u8]) -> bool {
    let listing = Listing::parse(bytes);
    if let Ok(listing) = &listing {
        for id in ["acme/small", "acme/small:small.gguf"] {
            let choice = ModelId::parse(id).and_then(|id| listing.choose(&id));
            if let Ok(choice) = &choice {
                assert!(choice.files().iter().all(|name| is_plain(name)), "{choice:?}");
            }
            taken_of_service(choice);
        }
    }
    taken_of_service(listing)
}
