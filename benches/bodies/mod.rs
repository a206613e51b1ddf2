//! The bodies of a pass in both formats, and the numbers in them.

use tinkex::types::wire::{ForwardBackwardInput, ForwardBackwardRequest, protobuf};
use tinkex::types::{Datum, Loss};

/// Pseudo-random numbers that are the same on every run.
pub(crate) fn noise(index: usize) -> u32 {
    let mut x = u32::try_from(index).unwrap_or_default().wrapping_mul(2_654_435_761);
    x ^= x >> 15;
    x.wrapping_mul(2_246_822_519)
}

pub(crate) fn json_body(data: &[Datum], loss: &Loss) -> Vec<u8> {
    let forward_backward_input = ForwardBackwardInput::new(data, loss);
    let request = ForwardBackwardRequest { forward_backward_input, model_id: "model".into(), seq_id: Some(1) };
    serde_json::to_vec(&request).expect("it can be serialized")
}

pub(crate) fn protobuf_body(data: &[Datum], loss: &Loss) -> Vec<u8> {
    protobuf::pass_request(data, loss, "model", 1, false).expect("it can be serialized")
}
