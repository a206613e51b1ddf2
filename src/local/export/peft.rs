//! Writes an adapter in PEFT's format.

use std::path::Path;

use super::adapter::{Factors, LoraAdapter};
use super::module_names::{self, Factor};
use super::new_file::write_json;
use super::tensor_file::{Planned, TensorFile};
use crate::error::Result;
use crate::local::checkpoint_files::{CONFIG, WEIGHTS, peft_config};

/// Writes both files into a directory.
pub(super) fn write(adapter: &LoraAdapter, into: &Path) -> Result<()> {
    let LoraAdapter { config, modules } = adapter;
    let base_model = config.base_model.as_deref();
    let peft_config = peft_config(base_model, config.rank, config.alpha, modules.keys().map(String::as_str));
    write_json(&into.join(CONFIG), &peft_config)?;
    let tensors: Vec<_> = modules
        .iter()
        .flat_map(|(module, Factors { a, b, precision })| {
            [(Factor::A, a), (Factor::B, b)].map(|(factor, matrix)| {
                let name = module_names::tensor(module, factor);
                (Planned { name, shape: matrix.shape().to_vec(), precision: *precision }, matrix)
            })
        })
        .collect();
    let planned: Vec<Planned> = tensors.iter().map(|(planned, _)| planned.clone()).collect();
    let mut file = TensorFile::create(&into.join(WEIGHTS), &planned)?;
    for (planned, matrix) in &tensors {
        file.write(planned, matrix.as_slice().unwrap_or_default())?;
    }
    file.finish()
}
