//! Reads the weights of a model into memory.

use ndarray::{Array1, Array2};

use super::architecture::{EMBEDDING, FINAL_NORM, HEAD, layer_tensor};
use super::checkpoint::Checkpoint;
use super::{LoadProgress, WeightPrecision};
use crate::error::{Error, ErrorKind, Result};
use crate::local::kernel::{Weight, f32_to_f16};
use crate::local::model::Cancellation;
use crate::local::transformer::{LayerParameters, Parameters, Projection};

/// The infinite number in half precision, without its sign.
const HALF_INFINITY: u16 = 0x7c00;

/// The precision that [`WeightPrecision::Auto`] stands for: 16 bits if each matrix of the files has 16 bits.
pub(super) fn precision(checkpoint: &Checkpoint, wanted: WeightPrecision) -> WeightPrecision {
    let mut matrices = checkpoint.tensors.values().filter(|tensor| tensor.shape.len() == 2);
    match wanted {
        WeightPrecision::Auto if matrices.all(|matrix| matrix.encoding.has_16_bits()) => WeightPrecision::F16,
        WeightPrecision::Auto => WeightPrecision::F32,
        wanted => wanted,
    }
}

/// The memory that the weights take. Vectors are kept in single precision.
pub(super) fn bytes(checkpoint: &Checkpoint, precision: WeightPrecision) -> u64 {
    let bytes = checkpoint.tensors.values().map(|tensor| {
        let is_half = precision == WeightPrecision::F16 && tensor.shape.len() == 2;
        tensor.len() as u64 * if is_half { 2 } else { 4 }
    });
    bytes.sum()
}

/// Reads all weights.
pub(super) fn read(
    checkpoint: &Checkpoint,
    precision: WeightPrecision,
    cancellation: &Cancellation,
    progress: &dyn Fn(LoadProgress),
) -> Result<Parameters<f32>, Unread> {
    let total = bytes(checkpoint, precision);
    Reader { checkpoint, precision, cancellation, progress, bytes: 0, total }.parameters()
}

/// Why weights were not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// A number is too large for half precision.
    BeyondHalf(Error),
    Failed(Error),
}

impl From<Error> for Unread {
    fn from(error: Error) -> Self {
        Unread::Failed(error)
    }
}

impl From<Unread> for Error {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::BeyondHalf(error) | Unread::Failed(error) => error,
        }
    }
}

struct Reader<'a> {
    checkpoint: &'a Checkpoint,
    precision: WeightPrecision,
    cancellation: &'a Cancellation,
    progress: &'a dyn Fn(LoadProgress),
    bytes: u64,
    total: u64,
}

impl Reader<'_> {
    fn parameters(mut self) -> Result<Parameters<f32>, Unread> {
        let (config, is_tied) = (&self.checkpoint.config, self.checkpoint.is_tied);
        Ok(Parameters {
            embedding: self.matrix(EMBEDDING)?,
            layers: (0..config.num_layers).map(|index| self.layer(index)).collect::<Result<_, Unread>>()?,
            final_norm: self.vector(FINAL_NORM)?,
            unembedding: if is_tied { None } else { Some(self.matrix(HEAD)?) },
        })
    }

    fn layer(&mut self, index: usize) -> Result<LayerParameters<f32>, Unread> {
        let architecture = self.checkpoint.architecture;
        let (has_biases, has_head_norms) = (architecture.has_biases(), architecture.has_head_norms());
        let name = |part: &str| layer_tensor(index, part);
        let norm = |reader: &mut Self, part: &str| {
            has_head_norms.then(|| reader.vector(&name(&format!("self_attn.{part}.weight")))).transpose()
        };
        let (query_norm, key_norm) = (norm(self, "q_norm")?, norm(self, "k_norm")?);
        Ok(LayerParameters {
            attention_norm: self.vector(&name("input_layernorm.weight"))?,
            query: self.projection(&name("self_attn.q_proj"), has_biases)?,
            key: self.projection(&name("self_attn.k_proj"), has_biases)?,
            value: self.projection(&name("self_attn.v_proj"), has_biases)?,
            output: self.projection(&name("self_attn.o_proj"), false)?,
            query_norm,
            key_norm,
            mlp_norm: self.vector(&name("post_attention_layernorm.weight"))?,
            gate: self.projection(&name("mlp.gate_proj"), false)?,
            up: self.projection(&name("mlp.up_proj"), false)?,
            down: self.projection(&name("mlp.down_proj"), false)?,
        })
    }

    fn projection(&mut self, name: &str, has_bias: bool) -> Result<Projection<f32>, Unread> {
        let weight = self.matrix(&format!("{name}.weight"))?;
        let bias = has_bias.then(|| self.vector(&format!("{name}.bias"))).transpose()?;
        Ok(Projection { weight, bias })
    }

    fn matrix(&mut self, name: &str) -> Result<Weight<f32>, Unread> {
        if self.precision == WeightPrecision::F16 {
            let mut is_finite = true;
            let halves = self.numbers(name, |number| {
                let half = f32_to_f16(number);
                is_finite &= half & HALF_INFINITY != HALF_INFINITY;
                half
            })?;
            if !is_finite {
                let why = format!("the tensor {name} has numbers that half precision does not reach");
                let error = self.checkpoint.unusable(&why).with_hint("load it with 32 bits (--weights f32)");
                return Err(Unread::BeyondHalf(error));
            }
            return Ok(Weight::Half(self.shaped(name, halves)?));
        }
        let numbers = self.numbers(name, |number| number)?;
        Ok(Weight::Full(self.shaped(name, numbers)?))
    }

    fn vector(&mut self, name: &str) -> Result<Array1<f32>> {
        self.numbers(name, |number| number).map(Array1::from)
    }

    fn shaped<T>(&self, name: &str, numbers: Vec<T>) -> Result<Array2<T>> {
        let shape = self.checkpoint.tensors.get(name).map_or(&[][..], |tensor| &tensor.shape);
        let shaped = <[usize; 2]>::try_from(shape).ok().and_then(|shape| Array2::from_shape_vec(shape, numbers).ok());
        shaped.ok_or_else(|| self.checkpoint.unusable(&format!("the tensor {name} is no matrix")))
    }

    /// Reads a tensor into memory of its final size.
    fn numbers<T>(&mut self, name: &str, mut convert: impl FnMut(f32) -> T) -> Result<Vec<T>> {
        let count = self.checkpoint.tensors.get(name).map_or(0, |tensor| tensor.len());
        let mut numbers = Vec::new();
        numbers.try_reserve_exact(count).map_err(|error| {
            let message = format!("there is no memory for the tensor {name} of {count} numbers");
            Error::new(ErrorKind::Io, message)
                .with_hint("end other programs, or use a smaller model")
                .with_source(error)
        })?;
        let (before, progress, total) = (self.bytes, self.progress, self.total);
        self.checkpoint.read(name, self.cancellation, &mut |piece| {
            numbers.extend(piece.iter().map(|&number| convert(number)));
            let bytes = before + (numbers.len() * size_of::<T>()) as u64;
            progress(LoadProgress::Reading { bytes, total });
            Ok(())
        })?;
        self.bytes += (numbers.len() * size_of::<T>()) as u64;
        Ok(numbers)
    }
}
