//! Models in GGUF files.

mod config;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::architecture::{Architecture, EMBEDDING, HEAD};
use super::checkpoint::Checkpoint;
use super::encoding::Encoding;
use super::labels::{ROPE_DIVISORS, of_label};
use super::refusal::Refusal::{self, Damaged, OtherType};
use super::refusal::{unsupported, unusable};
use super::stored::StoredTensor;
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::{Header, TensorInfo};
use crate::local::model::Cancellation;

/// Reads the header of a file.
pub(super) fn open(path: &Path) -> Result<Checkpoint> {
    let header = Header::read(path)?;
    let size = fs::metadata(path).map_err(|error| {
        Error::new(ErrorKind::Io, format!("the GGUF file {} cannot be read: {error}", path.display()))
            .with_source(error)
    })?;
    if header.metadata.has("split.count") && !matches!(header.metadata.integer("split.count"), Some(0 | 1)) {
        return Err(unsupported(path, "it is one of several files (split.count)")
            .with_hint("join them with llama-gguf-split --merge"));
    }
    let architecture = config::architecture(&header.metadata).map_err(|refusal| refusal.of(path))?;
    let mut stored = tensors(&header, size.len()).map_err(|refusal| refusal.of(path))?;
    let divisors = stored.remove(ROPE_DIVISORS);
    let vocab_size = stored.get(EMBEDDING).and_then(|table| table.shape.first()).copied().unwrap_or_default();
    let mut config = config::read(architecture, &header.metadata, vocab_size).map_err(|refusal| refusal.of(path))?;
    if let Some(tensor) = divisors {
        if tensor.shape != [config.head_size / 2] {
            return Err(unusable(path, &format!("{ROPE_DIVISORS} has the shape {:?}", tensor.shape)));
        }
        config.rope_divisors = Some(rope_divisors(&tensor, path)?);
    }
    if architecture == Architecture::Llama {
        for (part, heads) in [("q_proj", config.num_heads), ("k_proj", config.num_kv_heads)] {
            let ending = format!(".self_attn.{part}.weight");
            for (_, tensor) in stored.iter_mut().filter(|(name, _)| name.ends_with(&ending)) {
                tensor.interleaved_heads = Some(heads);
            }
        }
    }
    let is_tied = !stored.contains_key(HEAD);
    let (path, files) = (path.to_owned(), vec![path.to_owned()]);
    Ok(Checkpoint { path, architecture, config, is_tied, files, tensors: stored, gguf: Some(header.metadata) })
}

fn rope_divisors(tensor: &StoredTensor, path: &Path) -> Result<Vec<f64>> {
    let mut divisors: Vec<f64> = Vec::new();
    tensor.read(path, &Cancellation::new(), &mut |numbers| {
        divisors.extend(numbers.iter().map(|&number| f64::from(number)));
        Ok(())
    })?;
    match divisors.iter().all(|&divisor| divisor > 0.0) {
        true => Ok(divisors),
        false => Err(unusable(path, &format!("{ROPE_DIVISORS} has numbers that are not above zero"))),
    }
}

/// The tensors of a file of this size, by their names in Hugging Face's format.
fn tensors(header: &Header, size: u64) -> std::result::Result<BTreeMap<String, StoredTensor>, Refusal> {
    let mut stored: BTreeMap<String, StoredTensor> = BTreeMap::new();
    for info in &header.tensors {
        let tensor = tensor(info, header, size)?;
        if let Some(twin) = stored.insert(of_label(&info.name), tensor) {
            return Err(Damaged(format!("it has the tensor {} twice", twin.label)));
        }
    }
    let mut places: Vec<(u64, u64, &str)> =
        stored.values().map(|tensor| (tensor.offset, tensor.offset + tensor.bytes(), tensor.label.as_str())).collect();
    places.sort_unstable();
    match places.windows(2).find(|pair| pair[1].0 < pair[0].1) {
        Some(pair) => Err(Damaged(format!("its tensors {} and {} overlap", pair[0].2, pair[1].2))),
        None => Ok(stored),
    }
}

fn tensor(info: &TensorInfo, header: &Header, size: u64) -> std::result::Result<StoredTensor, Refusal> {
    let TensorInfo { name, shape, kind, offset } = info;
    let encoding = Encoding::of_ggml(*kind).map_err(|kind| {
        let readable: Vec<&str> = Encoding::names_of_ggml().collect();
        OtherType(format!("its tensor {name} has the type {kind}, and only {} can be read", readable.join(", ")))
    })?;
    let shape: Option<Vec<usize>> = shape.iter().map(|&size| usize::try_from(size).ok()).collect();
    let bytes = shape.as_ref().and_then(|shape| encoding.bytes(shape)).filter(|&bytes| bytes > 0);
    let (Some(shape), Some(bytes)) = (shape, bytes) else {
        return Err(Damaged(format!("its tensor {name} claims the size {:?}", info.shape)));
    };
    if offset % header.alignment != 0 {
        return Err(Damaged(format!(
            "its tensor {name} begins at {offset}, which is no multiple of {}",
            header.alignment
        )));
    }
    let start = header.data_start.checked_add(*offset);
    let end = start.and_then(|start| start.checked_add(bytes)).filter(|&end| end <= size);
    let (Some(offset), Some(_)) = (start, end) else {
        return Err(Damaged(format!(
            "its tensor {name} of {bytes} bytes at {offset} ends beyond the file of {size} bytes"
        )));
    };
    Ok(StoredTensor { label: name.clone(), file: 0, offset, shape, encoding, interleaved_heads: None })
}
