//! The request of a pass, written straight from the caller's batch.

use super::tensors::dtype;
use super::writer::Writer;
use crate::error::{Error, Result};
use crate::types::{Datum, Loss, LossSetting, ModelInputChunk, ProvenanceSource, ProvenanceSpan, Stored, TensorData};

/// The body of `POST forward_backward` for a pass over these datums: an encoded
/// [`ForwardBackwardRequest`](super::ForwardBackwardRequest). The numbers are copied once, into a body of exactly the needed
/// size.
///
/// # Errors
///
/// What protobuf cannot hold: an image that the server fetches; token ids, numbers of tokens and sequence numbers beyond
/// `i32`; a provenance span beyond `i64`.
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
    check_data(data)?;
    write_pass_request(Vec::new(), data, loss, model_id, seq_id, forward_only)
}

/// The same, in this buffer, whose content is lost. The datums must have been [checked](check_data).
pub(crate) fn write_pass_request(
    buffer: Vec<u8>,
    data: &[Datum],
    loss: &Loss,
    model_id: &str,
    seq_id: u64,
    forward_only: bool,
) -> Result<Vec<u8>> {
    let seq_id = i32::try_from(seq_id)
        .map_err(|_| Error::invalid_input(format!("the sequence number {seq_id} does not fit int32")))?;
    Ok(Writer::write_message(buffer, |request| {
        request.string(1, model_id);
        request.integer(2, seq_id.into());
        for datum in data {
            request.message(3, |message| write_datum(message, datum));
        }
        request.string(4, loss.function.as_str());
        // Servers that do not know texts read the numbers here.
        for (name, value) in &loss.config {
            if let LossSetting::Number(number) = value {
                request.message(5, |entry| {
                    entry.string(1, name);
                    entry.present_double(2, *number);
                });
            }
        }
        request.integer(6, forward_only.into());
        for (name, value) in &loss.config {
            request.message(7, |entry| {
                entry.string(1, name);
                entry.message(2, |setting| match value {
                    LossSetting::Number(number) => setting.present_double(1, *number),
                    LossSetting::Text(text) => setting.present_bytes(2, text.as_bytes()),
                });
            });
        }
    }))
}

/// Fails if one of these datums has no form in protobuf.
pub(crate) fn check_data(data: &[Datum]) -> Result<()> {
    data.iter().enumerate().try_for_each(|(index, datum)| {
        let unfit = datum.model_input.chunks.iter().find_map(unfit).or_else(|| unfit_span(datum));
        unfit.map_or(Ok(()), |what| Err(Error::invalid_input(format!("{what} (datum {index})"))))
    })
}

/// Why a chunk has no form in protobuf.
fn unfit(chunk: &ModelInputChunk) -> Option<String> {
    match chunk {
        ModelInputChunk::EncodedText(text) => {
            // Without a branch for each token.
            i32::try_from(text.tokens.iter().fold(0, |bits, token| bits | token)).err()?;
            let token = text.tokens.iter().find(|&&token| i32::try_from(token).is_err())?;
            Some(format!("the token id {token} does not fit int32"))
        }
        ModelInputChunk::Image(image) => {
            let tokens = image.expected_tokens.filter(|&tokens| i32::try_from(tokens).is_err())?;
            Some(format!("the number of {tokens} expected tokens does not fit int32"))
        }
        ModelInputChunk::ImageAssetPointer(_) => {
            Some("an image that the server fetches cannot be sent as protobuf; send its bytes as an ImageChunk".into())
        }
    }
}

/// Why the provenance of a datum has no form in protobuf.
fn unfit_span(datum: &Datum) -> Option<String> {
    let fits = |span: &&ProvenanceSpan| [span.offset, span.length].iter().all(|&number| i64::try_from(number).is_ok());
    let span = datum.model_input_spans.iter().chain(&datum.loss_fn_input_spans).find(|span| !fits(span))?;
    Some(format!("the provenance span from {} of {} tokens does not fit int64", span.offset, span.length))
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
    for (tag, spans) in [(3, &datum.model_input_spans), (4, &datum.loss_fn_input_spans)] {
        for span in spans {
            message.message(tag, |message| write_span(message, span));
        }
    }
}

fn write_span(message: &mut Writer, span: &ProvenanceSpan) {
    let tag = match span.source {
        ProvenanceSource::Prompt => 1,
        ProvenanceSource::Sampled => 2,
    };
    message.message(tag, |message| {
        message.string(1, &span.sequence_id);
        message.integer(2, span.offset as i64);
        message.integer(3, span.length as i64);
    });
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
            if let Some(tokens) = image.expected_tokens {
                message.present_integer(3, tokens.into());
            }
        }),
        // Refused before.
        ModelInputChunk::ImageAssetPointer(_) => {}
    }
}

fn write_tensor(message: &mut Writer, tensor: &TensorData) {
    match (tensor.crow_indices(), tensor.col_indices()) {
        (Some(crow), Some(col)) => message.message(2, |message| {
            write_numbers(message, tensor);
            message.packed(2, crow, i64::to_le_bytes);
            message.packed(3, col, i64::to_le_bytes);
        }),
        _ => write_numbers(message, tensor),
    }
    message.integer(3, dtype(tensor) as i64);
    message.integers(4, tensor.shape().unwrap_or_default());
}

fn write_numbers(message: &mut Writer, tensor: &TensorData) {
    match tensor.stored() {
        Stored::F32(values) => message.packed(1, values, f32::to_le_bytes),
        Stored::I64(values) => message.packed(1, values, i64::to_le_bytes),
    }
}
