//! Calls of the network for new tokens of one or several sequences.

use std::ops::Range;
use std::ptr;

use ndarray::{Array2, ArrayView2};

use super::super::Transformer;
use super::super::lora::{AdaptedRows, Lora};
use super::kept_attention::KeptAttention;
use super::kv::SequenceKv;
use crate::local::model::Adapter;

/// New tokens of a sequence.
#[derive(Debug)]
pub(super) struct Segment<'a> {
    pub(super) tokens: &'a [u32],
    /// Of the first one.
    pub(super) position: usize,
    pub(super) adapter: Option<&'a Adapter>,
    /// Of the tokens before them; afterwards of them, too.
    pub(super) kv: &'a mut SequenceKv,
}

/// The normalized output of the last layer after each token: rows × hidden size.
///
/// The base matrices are multiplied with all rows at once. Segments with the same adapter should follow each other: then its
/// matrices are, too.
pub(super) fn outputs(model: &Transformer, segments: &mut [Segment<'_>]) -> Array2<f32> {
    let loras = loras(model, segments);
    model.sampler.threads.run(|| run(model, segments, &adapted_rows(&loras)))
}

/// The logits of the token after each one: rows × vocabulary.
pub(super) fn next_logits(model: &Transformer, segments: &mut [Segment<'_>]) -> Array2<f32> {
    let loras = loras(model, segments);
    model.sampler.threads.run(|| {
        let adapters = adapted_rows(&loras);
        let output = run(model, segments, &adapters);
        model.network().logits(output.view(), &adapters)
    })
}

/// The logits that follow from outputs with one adapter: rows × vocabulary.
pub(super) fn logits(model: &Transformer, output: ArrayView2<'_, f32>, adapter: Option<&Adapter>) -> Array2<f32> {
    let loras: Vec<_> = adapter.map(|adapter| (0..output.nrows(), model.lora(adapter))).into_iter().collect();
    model.sampler.threads.run(|| model.network().logits(output, &adapted_rows(&loras)))
}

fn run(model: &Transformer, segments: &mut [Segment<'_>], adapters: &[AdaptedRows<'_, f32>]) -> Array2<f32> {
    let (mut tokens, mut positions, mut sequences) = (Vec::new(), Vec::new(), Vec::new());
    for segment in segments {
        let start = tokens.len();
        tokens.extend_from_slice(segment.tokens);
        positions.extend((segment.position..).take(segment.tokens.len()));
        segment.kv.make_place(segment.position, segment.tokens.len());
        sequences.push((start..tokens.len(), &mut *segment.kv));
    }
    let mut attention = KeptAttention { sequences, num_heads: model.config.num_heads };
    model.network().step(&tokens, &positions, adapters, &mut attention)
}

/// The adapters, each with the rows of consecutive segments that it belongs to.
fn loras<'a>(model: &Transformer, segments: &[Segment<'a>]) -> Vec<(Range<usize>, Lora<'a, f32>)> {
    let mut loras: Vec<(Range<usize>, Lora<'a, f32>)> = Vec::new();
    let (mut row, mut previous): (usize, Option<&Adapter>) = (0, None);
    for segment in segments {
        let rows = row..row + segment.tokens.len();
        row = rows.end;
        match (segment.adapter, loras.last_mut()) {
            (Some(adapter), Some((last, _))) if previous.is_some_and(|previous| ptr::eq(previous, adapter)) => {
                last.end = rows.end;
            }
            (Some(adapter), _) => loras.push((rows, model.lora(adapter))),
            (None, _) => {}
        }
        previous = segment.adapter;
    }
    loras
}

fn adapted_rows<'a>(loras: &'a [(Range<usize>, Lora<'a, f32>)]) -> Vec<AdaptedRows<'a, f32>> {
    loras.iter().map(|(rows, lora)| AdaptedRows { rows: rows.clone(), lora }).collect()
}
