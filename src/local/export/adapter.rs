//! The adapter of a checkpoint, read from its files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ndarray::Array2;
use serde_json::{Map, Value};

use super::adapter_config::{self, AdapterConfig};
use super::module_names::{self, Factor};
use super::precision::ExportPrecision;
use crate::error::{Error, ErrorKind, Result};
use crate::local::checkpoint_files::{CONFIG, WEIGHTS};
use crate::local::model::Cancellation;
use crate::local::pretrained::stored::StoredTensor;
use crate::local::pretrained::tensors_of_file;

/// An adapter whose tensors fit each other.
#[derive(Debug)]
pub(super) struct LoraAdapter {
    pub(super) config: AdapterConfig,
    /// By the names of their modules in transformers.
    pub(super) modules: BTreeMap<String, Factors>,
}

/// The two matrices of a module.
#[derive(Debug)]
pub(super) struct Factors {
    pub(super) a: Array2<f32>,
    pub(super) b: Array2<f32>,
    /// How A and B are stored.
    pub(super) precisions: [ExportPrecision; 2],
}

/// A matrix, and how it is stored.
type StoredMatrix = (Array2<f32>, ExportPrecision);

impl LoraAdapter {
    /// Reads the adapter in a directory, and checks everything that can be checked without a base model. Errors name the
    /// checkpoint, which may be the archive that the directory was made of.
    pub(super) fn read(directory: &Path, checkpoint: &Path, cancellation: &Cancellation) -> Result<Self> {
        let weights = directory.join(WEIGHTS);
        let config = read_config(directory, checkpoint)?;
        if !weights.is_file() {
            return Err(refused(checkpoint, &format!("it has no {WEIGHTS}"))
                .with_hint("download the checkpoint again; its adapter must be in the safetensors format"));
        }
        let mut factors: BTreeMap<String, [Option<StoredMatrix>; 2]> = BTreeMap::new();
        for tensor in tensors_of_file(&weights)? {
            let name = tensor.label();
            let Some((module, factor)) = module_names::parse(name) else {
                return Err(refused(
                    checkpoint,
                    &format!("its tensor {name} is no part of an adapter that can be exported"),
                )
                .with_hint("export adapters of models of the Llama, Mistral, Qwen2 and Qwen3 families"));
            };
            let matrix = matrix(checkpoint, &tensor, factor, config.rank, &weights, cancellation)?;
            let place = &mut factors.entry(module).or_default()[factor as usize];
            if place.replace((matrix, ExportPrecision::of(tensor.encoding))).is_some() {
                return Err(refused(checkpoint, &format!("its tensor {name} is there under two names")));
            }
        }
        if factors.is_empty() {
            return Err(refused(checkpoint, "its adapter has no tensors"));
        }
        let paired = factors.into_iter().map(|(module, pair)| match pair {
            [Some((a, of_a)), Some((b, of_b))] => Ok((module, Factors { a, b, precisions: [of_a, of_b] })),
            [a, _] => {
                let missing = module_names::tensor(&module, if a.is_some() { Factor::B } else { Factor::A });
                Err(refused(checkpoint, &format!("its tensor {missing} is missing")))
            }
        });
        let modules = paired.collect::<Result<_>>()?;
        Ok(LoraAdapter { config, modules })
    }

    /// What B · A is multiplied by.
    pub(super) fn scale(&self) -> f32 {
        (self.config.alpha / self.config.rank as f64) as f32
    }
}

fn read_config(directory: &Path, checkpoint: &Path) -> Result<AdapterConfig> {
    let path = directory.join(CONFIG);
    let content = fs::read(&path).map_err(|error| {
        Error::new(
            ErrorKind::Io,
            format!("the checkpoint {} cannot be exported: its {CONFIG} cannot be read: {error}", checkpoint.display()),
        )
        .with_hint("name the directory or the archive of a checkpoint with an adapter in PEFT's format")
        .with_source(error)
    })?;
    let map: Map<String, Value> = serde_json::from_slice(&content)
        .map_err(|error| refused(checkpoint, &format!("the JSON of its {CONFIG} cannot be read: {error}")))?;
    adapter_config::read(&map).map_err(|why| refused(checkpoint, &why))
}

/// Reads one matrix, which must have the rank of the adapter.
fn matrix(
    checkpoint: &Path,
    tensor: &StoredTensor,
    factor: Factor,
    rank: usize,
    path: &Path,
    cancellation: &Cancellation,
) -> Result<Array2<f32>> {
    let (name, shape) = (tensor.label(), &tensor.shape);
    let &[rows, columns] = shape.as_slice() else {
        return Err(refused(checkpoint, &format!("its tensor {name} has the shape {shape:?}, and must be a matrix")));
    };
    let found = if factor == Factor::A { rows } else { columns };
    if found != rank {
        let why = format!("its tensor {name} has the shape {shape:?}, and the rank in {CONFIG} is {rank}");
        return Err(refused(checkpoint, &why).with_hint("use the configuration that the adapter was made with"));
    }
    let mut numbers = Vec::with_capacity(tensor.len());
    tensor.read(path, cancellation, &mut |piece| {
        numbers.extend_from_slice(piece);
        Ok(())
    })?;
    Array2::from_shape_vec((rows, columns), numbers)
        .map_err(|error| refused(checkpoint, &format!("its tensor {name} cannot be read: {error}")))
}

/// The error for a checkpoint that cannot be exported.
pub(super) fn refused(checkpoint: &Path, why: &str) -> Error {
    Error::invalid_input(format!("the checkpoint {} cannot be exported: {why}", checkpoint.display()))
        .with_hint("download the checkpoint again, or export another one")
}
