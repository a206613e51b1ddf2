//! The request of a pass, written straight from the caller's batch.

use super::DType;
use super::writer::Writer;
use crate::error::{Error, Result};
use crate::types::{Datum, Loss, ModelInputChunk, TensorData};

/// The body of `POST forward_backward` for a pass over these datums: an encoded
/// [`ForwardBackwardRequest`](super::ForwardBackwardRequest). The numbers are copied once, into a body of exactly the needed
/// size.
///
/// # Errors
///
/// What protobuf cannot hold: an image that the server fetches, token ids and sequence numbers beyond `i32`.
///
/// ```
/// use tinkex::types::wire::protobuf::{self, ForwardBackwardRequest, prost::Message};
/// use tinkex::types::{Datum, Loss, ModelInput};
///
/// let data = [Datum::new(ModelInput::from_tokens([1, 2])).input("target_tokens", [2, 3])?];
/// let body = protobuf::pass_request(&data, &Loss::cross_entropy(), "m-1", 7, true)?;
/// let message = ForwardBackwardRequest::decode(&*body)?;
/// assert_eq!((message.model_id.as_str(), message.seq_id, message.forward_only), ("m-1", 7, true));
/// assert!(message.data[0].loss_fn_inputs.contains_key("target_tokens"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pass_request(data: &[Datum], loss: &Loss, model_id: &str, seq_id: u64, forward_only: bool) -> Result<Vec<u8>> {
    let seq_id = i32::try_from(seq_id)
        .map_err(|_| Error::invalid_input(format!("the sequence number {seq_id} does not fit int32")))?;
    check_data(data)?;
    Ok(Writer::message_to_vec(|request| {
        request.string(1, model_id);
        request.integer(2, seq_id.into());
        for datum in data {
            request.message(3, |message| write_datum(message, datum));
        }
        request.string(4, loss.function.as_str());
        for (name, &value) in &loss.config {
            request.message(5, |entry| {
                entry.string(1, name);
                entry.present_double(2, value);
            });
        }
        request.integer(6, forward_only.into());
        for (name, &value) in &loss.config {
            request.message(7, |entry| {
                entry.string(1, name);
                entry.message(2, |setting| setting.present_double(1, value));
            });
        }
    }))
}

/// Fails if one of these datums has no form in protobuf.
pub(crate) fn check_data(data: &[Datum]) -> Result<()> {
    data.iter().enumerate().try_for_each(|(index, datum)| {
        let unfit = datum.model_input.chunks.iter().find_map(unfit);
        unfit.map_or(Ok(()), |what| Err(Error::invalid_input(format!("{what} (datum {index})"))))
    })
}

/// Why a chunk has no form in protobuf.
fn unfit(chunk: &ModelInputChunk) -> Option<String> {
    match chunk {
        ModelInputChunk::EncodedText(text) => {
            let token = text.tokens.iter().find(|&&token| i32::try_from(token).is_err())?;
            Some(format!("the token id {token} does not fit int32"))
        }
        ModelInputChunk::Image(_) => None,
        ModelInputChunk::ImageAssetPointer(_) => {
            Some("an image that the server fetches cannot be sent as protobuf; send its bytes as an ImageChunk".into())
        }
    }
}

fn write_datum(message: &mut Writer, datum: &Datum) {
    for chunk in &datum.model_input.chunks {
        message.message(1, |message| write_chunk(message, chunk));
    }
    for (name, tensor) in &datum.loss_fn_inputs {
        message.message(2, |entry| {
            entry.string(1, name);
            entry.message(2, |message| write_tensor(message, tensor));
        });
    }
}

fn write_chunk(message: &mut Writer, chunk: &ModelInputChunk) {
    match chunk {
        ModelInputChunk::EncodedText(text) => message.message(1, |message| {
            if !text.tokens.is_empty() {
                message.packed(1, &text.tokens, u32::to_le_bytes);
            }
        }),
        ModelInputChunk::Image(image) => message.message(2, |message| {
            message.bytes(1, &image.data);
            message.string(2, image.format.as_str());
        }),
        // Refused before.
        ModelInputChunk::ImageAssetPointer(_) => {}
    }
}

fn write_tensor(message: &mut Writer, tensor: &TensorData) {
    if let Some(values) = tensor.as_f32() {
        message.packed(1, values, f32::to_le_bytes);
        message.integer(3, DType::DtypeFloat32 as i64);
    }
    if let Some(values) = tensor.as_i64() {
        message.packed(1, values, i64::to_le_bytes);
        message.integer(3, DType::DtypeInt64 as i64);
    }
    message.integers(4, tensor.shape().unwrap_or_default());
}
