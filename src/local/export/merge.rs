//! Writes the weights of a base model with an adapter merged into them, file by file.

use std::path::Path;

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayViewMut2, Axis, Slice};

use super::adapter::{Factors, LoraAdapter};
use super::module_names::{self, Factor};
use super::precision::ExportPrecision;
use super::tensor_file::{Planned, TensorFile};
use crate::error::{Error, Result};
use crate::local::model::Cancellation;
use crate::local::pretrained::architecture::{EMBEDDING, HEAD};
use crate::local::pretrained::checkpoint::Checkpoint;

/// A tensor of the merged model.
#[derive(Debug)]
struct Merged<'a> {
    planned: Planned,
    /// The tensor of the base that it comes from.
    source: String,
    adapter: Option<&'a Factors>,
}

/// A file of the merged model.
#[derive(Debug)]
struct Shard<'a> {
    name: String,
    tensors: Vec<Merged<'a>>,
}

/// The files of a merged model, before they are written.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    base: &'a Checkpoint,
    scale: f32,
    shards: Vec<Shard<'a>>,
    /// Whether the head of the base is tied, and that of the merged model is not.
    pub(super) unties: bool,
}

impl<'a> Plan<'a> {
    /// Plans the merge of an adapter, each of whose tensors must fit the base.
    pub(super) fn new(
        base: &'a Checkpoint,
        adapter: &'a LoraAdapter,
        precision: Option<ExportPrecision>,
    ) -> Result<Self> {
        for (module, factors) in &adapter.modules {
            check(base, module, factors)?;
        }
        let head = adapter.modules.get(module_names::HEAD).filter(|_| base.is_tied);
        let merged = |name: String, source: String, adapter| {
            let stored = &base.tensors[&source];
            let precision = precision.unwrap_or(ExportPrecision::of(stored.encoding));
            Merged { planned: Planned { name, shape: stored.shape.clone(), precision }, source, adapter }
        };
        let mut shards: Vec<Shard<'_>> = Vec::new();
        for (name, sources) in base.shards() {
            let mut tensors = Vec::new();
            for source in sources {
                if head.is_some() && source == EMBEDDING {
                    tensors.push(merged(HEAD.to_owned(), source.clone(), head));
                }
                let module = source.strip_suffix(".weight").unwrap_or_default();
                tensors.push(merged(source.clone(), source.clone(), adapter.modules.get(module)));
            }
            shards.push(Shard { name, tensors });
        }
        Ok(Plan { base, scale: adapter.scale(), shards, unties: head.is_some() })
    }

    /// The files, each with its tensors.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = &Planned>)> {
        self.shards.iter().map(|shard| (shard.name.as_str(), shard.tensors.iter().map(|tensor| &tensor.planned)))
    }

    /// The bytes of all tensors.
    pub(super) fn bytes(&self) -> u64 {
        self.files().flat_map(|(_, tensors)| tensors).map(Planned::bytes).sum()
    }

    /// The type of the embedding, which stands for that of the model.
    pub(super) fn precision(&self) -> Option<ExportPrecision> {
        let mut all = self.files().flat_map(|(_, tensors)| tensors);
        all.find(|tensor| tensor.name == EMBEDDING).map(|tensor| tensor.precision)
    }

    /// Writes all files into a directory. `progress` gets the bytes of tensors that are written.
    pub(super) fn write(&self, into: &Path, cancellation: &Cancellation, progress: &dyn Fn(u64)) -> Result<()> {
        let mut bytes = 0;
        for shard in &self.shards {
            let planned = shard.tensors.iter().map(|tensor| &tensor.planned);
            let mut file = TensorFile::create(&into.join(&shard.name), planned)?;
            for tensor in &shard.tensors {
                self.write_tensor(tensor, &mut file, cancellation)?;
                bytes += tensor.planned.bytes();
                progress(bytes);
            }
            file.finish()?;
        }
        Ok(())
    }

    fn write_tensor(&self, tensor: &Merged<'_>, file: &mut TensorFile, cancellation: &Cancellation) -> Result<()> {
        let Merged { planned, source, adapter } = tensor;
        let Some(factors) = adapter else {
            return self.base.read(source, cancellation, &mut |numbers| file.write(planned, numbers));
        };
        let columns = factors.a.ncols().max(1);
        let (mut row, mut numbers) = (0, Vec::new());
        self.base.read(source, cancellation, &mut |piece| {
            numbers.extend_from_slice(piece);
            // Pieces end anywhere in a row.
            let rows = numbers.len() / columns;
            let (whole, rest) = numbers.split_at_mut(rows * columns);
            add_rows(whole, row, rows, factors, self.scale);
            file.write(planned, whole)?;
            row += rows;
            let rest = rest.len();
            numbers.drain(..numbers.len() - rest);
            Ok(())
        })
    }
}

/// Adds the change of these rows to them.
fn add_rows(numbers: &mut [f32], first: usize, rows: usize, Factors { a, b, .. }: &Factors, scale: f32) {
    let Ok(mut weights) = ArrayViewMut2::from_shape((rows, a.ncols()), numbers) else { return };
    let b = b.slice_axis(Axis(0), Slice::from(first..first + rows));
    general_mat_mul(scale, &b, a, 1.0, &mut weights);
}

/// Whether a module is in the base, and has its size.
fn check(base: &Checkpoint, module: &str, factors: &Factors) -> Result<()> {
    let is_tied_head = module == module_names::HEAD && base.is_tied;
    let name = if is_tied_head { EMBEDDING.to_owned() } else { format!("{module}.weight") };
    let misfit = |why: String| {
        Err(Error::invalid_input(format!("the adapter does not fit the base model {}: {why}", base.path.display()))
            .with_hint("merge it into the model that it was trained on"))
    };
    let Some([outputs, inputs]) = base.tensors.get(&name).map(|tensor| tensor.shape.as_slice()) else {
        return misfit(format!("the {} has no {module}", base.architecture));
    };
    let [a, b] = [Factor::A, Factor::B].map(|factor| module_names::tensor(module, factor));
    if factors.a.ncols() != *inputs {
        return misfit(format!("{a} has {} columns, and {module} has {inputs} inputs", factors.a.ncols()));
    }
    if factors.b.nrows() != *outputs {
        return misfit(format!("{b} has {} rows, and {module} has {outputs} outputs", factors.b.nrows()));
    }
    Ok(())
}
