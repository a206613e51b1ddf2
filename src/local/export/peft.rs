//! Writes an adapter in PEFT's format.

use std::cmp::Reverse;
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
    let mut tensors: Vec<_> = modules
        .iter()
        .flat_map(|(module, Factors { a, b, precisions: [of_a, of_b] })| {
            [(Factor::A, a, of_a), (Factor::B, b, of_b)].map(|(factor, matrix, &precision)| {
                let name = module_names::tensor(module, factor);
                (Planned { name, shape: matrix.shape().to_vec(), precision }, matrix)
            })
        })
        .collect();
    // Numbers of four bytes come first, so that each tensor begins at a multiple of the size of its numbers.
    tensors.sort_by_key(|(planned, _)| Reverse(planned.precision.size()));
    let mut file = TensorFile::create(&into.join(WEIGHTS), tensors.iter().map(|(planned, _)| planned))?;
    for (planned, matrix) in &tensors {
        file.write(planned, matrix.as_slice().unwrap_or_default())?;
    }
    file.finish()
}
