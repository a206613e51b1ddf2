//! The network from tokens to scores and back.

use std::iter::once;

use ndarray::{Array2, Axis, NdFloat};

use super::{
    Sizes,
    attention::Segment,
    layer::{Layer, Rows, Seen, Trace},
    ops::{Normalized, Rotary, normalize, project, project_backward},
    random::Random,
};

/// The part of a network that an adapter can be asked to leave alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Attention,
    Mlp,
    Unembed,
}

/// Where in the network a projection is.
#[derive(Debug)]
pub(super) struct Place {
    /// Its name in PEFT's checkpoints.
    pub(super) name: String,
    pub(super) part: Part,
}

/// Every matrix that an adapter can change, or the derivatives with respect to them.
#[derive(Clone, Debug)]
pub(super) struct Projections<T> {
    pub(super) layers: Vec<Layer<T>>,
    /// Vocabulary × width.
    pub(super) unembed: Array2<T>,
}

impl<T: NdFloat> Projections<T> {
    /// Random projections that keep a row's scale: the deviation of each is one over the root of its inputs.
    pub(super) fn random(sizes: &Sizes, random: &mut Random) -> Projections<T> {
        let Sizes { vocab, width, hidden, .. } = *sizes;
        let mut matrix =
            |outputs: usize, inputs: usize| random.matrix((outputs, inputs), (inputs as f64).sqrt().recip());
        let layers = (0..sizes.layers)
            .map(|_| Layer {
                query: matrix(width, width),
                key: matrix(width, width),
                value: matrix(width, width),
                output: matrix(width, width),
                gate: matrix(hidden, width),
                up: matrix(hidden, width),
                down: matrix(width, hidden),
            })
            .collect();
        Projections { layers, unembed: matrix(vocab, width) }
    }

    pub(super) fn zeros_like(&self) -> Projections<T> {
        let mut zeros = self.clone();
        for (_, matrix) in zeros.placed_mut() {
            matrix.fill(T::zero());
        }
        zeros
    }

    /// Each projection with its place, always in the same order.
    pub(super) fn placed(&self) -> impl Iterator<Item = (Place, &Array2<T>)> {
        let layers = self.layers.iter().enumerate().flat_map(|(at, layer)| {
            let Layer { query, key, value, output, gate, up, down } = layer;
            places(at).into_iter().zip([query, key, value, output, gate, up, down])
        });
        layers.chain(once((unembed_place(), &self.unembed)))
    }

    /// The same, to be changed.
    pub(super) fn placed_mut(&mut self) -> impl Iterator<Item = (Place, &mut Array2<T>)> {
        let layers = self.layers.iter_mut().enumerate().flat_map(|(at, layer)| {
            let Layer { query, key, value, output, gate, up, down } = layer;
            places(at).into_iter().zip([query, key, value, output, gate, up, down])
        });
        layers.chain(once((unembed_place(), &mut self.unembed)))
    }
}

/// The places of a layer's projections, in the order of its fields.
fn places(layer: usize) -> [Place; 7] {
    let attention = |name| Place { name: format!("model.layers.{layer}.self_attn.{name}_proj"), part: Part::Attention };
    let mlp = |name| Place { name: format!("model.layers.{layer}.mlp.{name}_proj"), part: Part::Mlp };
    [attention("q"), attention("k"), attention("v"), attention("o"), mlp("gate"), mlp("up"), mlp("down")]
}

fn unembed_place() -> Place {
    Place { name: "lm_head".to_owned(), part: Part::Unembed }
}

/// A network with its weights, borrowed from where they are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network<'a, T> {
    pub(super) sizes: &'a Sizes,
    pub(super) rotary: &'a Rotary<T>,
    /// Vocabulary × width.
    pub(super) embedding: &'a Array2<T>,
    pub(super) projections: &'a Projections<T>,
}

/// A forward pass, ready for the backward pass.
#[derive(Debug)]
pub(super) struct Pass<'a, T> {
    rows: Rows<'a, T>,
    seen: Vec<Seen<T>>,
    traces: Vec<Trace<T>>,
    last: Normalized<T>,
}

impl<'a, T: NdFloat> Network<'a, T> {
    /// Reads whole sequences, laid one below the other; gives the scores (rows × vocabulary) of what follows each
    /// token.
    pub(super) fn forward(&self, sequences: &[&[u32]]) -> (Array2<T>, Pass<'a, T>) {
        let mut start = 0;
        let segments = sequences
            .iter()
            .map(|tokens| {
                let rows = start..start + tokens.len();
                start = rows.end;
                Segment { queries: rows.clone(), keys: rows }
            })
            .collect();
        let rows = Rows {
            positions: sequences.iter().flat_map(|tokens| 0..tokens.len()).collect(),
            segments,
            heads: self.sizes.heads,
            rotary: self.rotary,
        };
        let mut seen = self.nothing_seen();
        let (last, traces) = self.read(&sequences.concat(), &rows, &mut seen);
        (project(last.rows.view(), &self.projections.unembed), Pass { rows, seen, traces, last })
    }

    /// Adds the derivatives with respect to the projections to `slopes`, given those with respect to the scores.
    pub(super) fn backward(&self, dscores: &Array2<T>, pass: &Pass<'_, T>, slopes: &mut Projections<T>) {
        let dlast = project_backward(dscores, &pass.last.rows, &self.projections.unembed, &mut slopes.unembed);
        let mut dx = pass.last.backward(dlast);
        let layers = self.projections.layers.iter().zip(&mut slopes.layers).zip(pass.seen.iter().zip(&pass.traces));
        for ((layer, slopes), (seen, trace)) in layers.rev() {
            layer.backward(&mut dx, &pass.rows, seen, trace, slopes);
        }
    }

    /// What the layers have seen before the first token.
    pub(super) fn nothing_seen(&self) -> Vec<Seen<T>> {
        self.projections.layers.iter().map(|_| Seen::nothing(self.sizes.width)).collect()
    }

    /// Reads further tokens of one sequence; gives the scores (1 × vocabulary) of what follows the last.
    pub(super) fn extend(&self, seen: &mut [Seen<T>], tokens: &[u32]) -> Array2<T> {
        let before = seen.first().map_or(0, Seen::tokens);
        let after = before + tokens.len();
        let rows = Rows {
            positions: (before..after).collect(),
            segments: vec![Segment { queries: 0..tokens.len(), keys: 0..after }],
            heads: self.sizes.heads,
            rotary: self.rotary,
        };
        let (last, _) = self.read(tokens, &rows, seen);
        let (_, end) = last.rows.view().split_at(Axis(0), last.rows.nrows().saturating_sub(1));
        project(end, &self.projections.unembed)
    }

    fn read(&self, tokens: &[u32], rows: &Rows<'_, T>, seen: &mut [Seen<T>]) -> (Normalized<T>, Vec<Trace<T>>) {
        let tokens: Vec<_> = tokens.iter().map(|&token| self.sizes.known(token)).collect();
        let mut x = self.embedding.select(Axis(0), &tokens);
        let traces =
            self.projections.layers.iter().zip(seen).map(|(layer, seen)| layer.forward(&mut x, rows, seen)).collect();
        (normalize(&x), traces)
    }
}
