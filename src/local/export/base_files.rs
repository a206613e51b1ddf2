//! The files of a merged model beside its weights.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::gguf_config;
use super::merge::Plan;
use super::new_file::{self, write_json};
use super::precision::ExportPrecision;
use crate::error::{Error, ErrorKind, Result};
use crate::local::pretrained::checkpoint::Checkpoint;
use crate::local::pretrained::{CONFIG, WEIGHTS, WEIGHTS_INDEX, text_package};
use crate::rest::io_error;

/// Writes the configuration, the index, the tokenizer and what else is beside the base's weights. `precision` is what the user set.
pub(super) fn write(base: &Checkpoint, plan: &Plan<'_>, precision: Option<ExportPrecision>, into: &Path) -> Result<()> {
    if base.is_gguf() {
        let package = text_package(base, &base.path.display().to_string())?;
        for (name, content) in package.files() {
            new_file::write(&into.join(name), content)?;
        }
        let precision = plan.precision().unwrap_or(ExportPrecision::F32);
        write_json(&into.join(CONFIG), &gguf_config::config(base, precision, plan.unties)?.into())?;
    } else {
        copy_texts(&base.path, into)?;
        write_config(&base.path, plan, precision, into)?;
    }
    write_index(plan, into)
}

/// The index, if the weights are not in the one file that needs none.
fn write_index(plan: &Plan<'_>, into: &Path) -> Result<()> {
    if plan.files().all(|(name, _)| name == WEIGHTS) {
        return Ok(());
    }
    let places = plan.files().flat_map(|(file, tensors)| tensors.map(move |tensor| (tensor.name.clone(), json!(file))));
    let index = json!({"metadata": {"total_size": plan.bytes()}, "weight_map": places.collect::<Map<_, _>>()});
    write_json(&into.join(WEIGHTS_INDEX), &index)
}

/// The configuration of the base, with what the merge changes.
fn write_config(base: &Path, plan: &Plan<'_>, precision: Option<ExportPrecision>, into: &Path) -> Result<()> {
    let content = read(&base.join(CONFIG))?;
    if !plan.unties && precision.is_none() {
        return new_file::write(&into.join(CONFIG), &content);
    }
    let mut config: Map<String, Value> = serde_json::from_slice(&content).map_err(|error| {
        Error::new(ErrorKind::Decode, format!("the JSON of {} cannot be read: {error}", base.join(CONFIG).display()))
    })?;
    if plan.unties {
        config.insert("tie_word_embeddings".to_owned(), json!(false));
    }
    if let Some(precision) = precision {
        // transformers reads the first since version 4.56, and the second in all versions.
        let key = if config.contains_key("dtype") { "dtype" } else { "torch_dtype" };
        config.insert(key.to_owned(), json!(precision.torch_name()));
    }
    write_json(&into.join(CONFIG), &config.into())
}

/// Copies the tokenizer, the template, the licence and what else is text.
fn copy_texts(base: &Path, into: &Path) -> Result<()> {
    let unreadable = |error| io_error("read", base, error);
    for entry in fs::read_dir(base).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // Through links, too, as in the cache of Hugging Face's programs.
        if is_text(name) && path.is_file() {
            new_file::write(&into.join(name), &read(&path)?)?;
        }
    }
    Ok(())
}

/// Whether a file of a model's directory belongs to the merged model as it is.
fn is_text(name: &str) -> bool {
    let is_kind = |kind: &str| name.strip_suffix(kind).is_some_and(|stem| !stem.is_empty());
    let is_other = name.starts_with('.') || name.starts_with("adapter_") || name == CONFIG || is_kind(".index.json");
    let is_licence = ["LICENSE", "LICENCE", "NOTICE"].iter().any(|prefix| name.starts_with(prefix));
    !is_other && (is_licence || [".json", ".jinja", ".txt", ".model", ".tiktoken"].into_iter().any(is_kind))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| io_error("read", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_copied_and_weights_are_not() {
        for name in [
            "tokenizer.json",
            "tokenizer_config.json",
            "generation_config.json",
            "chat_template.jinja",
            "vocab.txt",
            "merges.txt",
            "tokenizer.model",
            "qwen.tiktoken",
            "LICENSE",
            "LICENSE.md",
            "NOTICE",
        ] {
            assert!(is_text(name), "{name}");
        }
        for name in [
            "config.json",
            "model.safetensors",
            "model.safetensors.index.json",
            "pytorch_model.bin.index.json",
            "pytorch_model.bin",
            "adapter_config.json",
            "README.md",
            ".gitattributes",
            ".json",
            "",
        ] {
            assert!(!is_text(name), "{name}");
        }
    }
}
