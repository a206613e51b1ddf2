//! The request of a pass, read by a server.

use std::collections::BTreeMap;

use super::packed::read_tokens;
use super::{
    Chunk, Datum, ForwardBackwardRequest, LossConfigValue, chunk, loss_config_value, provenance_span, tensors,
};
use crate::error::{Error, Result};
use crate::types::{
    self, EncodedTextChunk, ImageChunk, ImageFormat, Loss, LossFn, LossSetting, ModelInput, ModelInputChunk,
    ProvenanceSpan,
};

/// A pass over a batch, as a server reads it from a [`ForwardBackwardRequest`].
///
/// ```
/// use tinkex::types::wire::protobuf::{self, ForwardBackwardRequest, PassRequest, prost::Message};
/// use tinkex::types::{Datum, Loss, ModelInput};
///
/// let data = [Datum::new(ModelInput::from_tokens([1, 2])).input("target_tokens", [2, 3])?];
/// let loss = Loss::ppo().config("clip_low_threshold", 0.8);
/// let body = protobuf::pass_request(&data, &loss, "m-1", 7, false)?;
/// let pass = PassRequest::try_from(ForwardBackwardRequest::decode(&*body)?)?;
/// assert_eq!((pass.data.as_slice(), pass.loss, pass.seq_id), (&data[..], loss, 7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct PassRequest {
    /// The id of the model.
    pub model_id: String,
    /// The sequence number of the request for this model, from 1; 0 if the request has none.
    pub seq_id: u64,
    /// Whether to compute the loss alone, without gradients.
    pub forward_only: bool,
    /// The examples.
    pub data: Vec<types::Datum>,
    /// The loss function.
    pub loss: Loss,
}

impl TryFrom<ForwardBackwardRequest> for PassRequest {
    type Error = Error;

    /// # Errors
    ///
    /// What a request cannot contain, such as a negative token id or a tensor whose numbers do not fill its shape; audio, and
    /// images of a size other than their own.
    fn try_from(message: ForwardBackwardRequest) -> Result<Self> {
        let seq_id = non_negative(message.seq_id.into(), "seq_id").map_err(Error::invalid_input)?;
        let data = read_each("data", message.data, read_datum).map_err(Error::invalid_input)?;
        let config = settings(message.loss_fn_config, message.loss_fn_config_v2).map_err(Error::invalid_input)?;
        let loss = Loss { function: LossFn::from(message.loss_fn.as_str()), config };
        Ok(PassRequest { model_id: message.model_id, seq_id, forward_only: message.forward_only, data, loss })
    }
}

/// The settings of a loss. Both lists have the numbers.
fn settings(
    numbers: BTreeMap<String, f64>,
    all: BTreeMap<String, LossConfigValue>,
) -> Result<BTreeMap<String, LossSetting>, String> {
    let mut settings: BTreeMap<_, _> =
        numbers.into_iter().map(|(name, number)| (name, LossSetting::Number(number))).collect();
    for (name, setting) in all {
        let setting = match setting.value {
            Some(loss_config_value::Value::Number(number)) => LossSetting::Number(number),
            Some(loss_config_value::Value::Text(text)) => LossSetting::Text(text),
            None => return Err(format!("loss_fn_config_v2[{name:?}] has no value")),
        };
        settings.insert(name, setting);
    }
    Ok(settings)
}

/// Reads the messages of a repeated field. Errors begin with the field and the index.
fn read_each<M, T>(field: &str, messages: Vec<M>, read: fn(M) -> Result<T, String>) -> Result<Vec<T>, String> {
    let read = |(index, message)| read(message).map_err(|why| format!("{field}[{index}]{why}"));
    messages.into_iter().enumerate().map(read).collect()
}

// The errors of these begin with the field inside of the message, after a dot, or with a space and what the message lacks.

fn read_datum(message: Datum) -> Result<types::Datum, String> {
    let tensor = |(name, tensor)| {
        let tensor = tensors::read(tensor, &format!(".loss_fn_inputs[{name:?}]"))?;
        Ok((name, tensor))
    };
    Ok(types::Datum {
        loss_fn_inputs: message.loss_fn_inputs.into_iter().map(tensor).collect::<Result<_, String>>()?,
        model_input: ModelInput { chunks: read_each(".model_input", message.model_input, read_chunk)? },
        model_input_spans: read_each(".model_input_spans", message.model_input_spans, read_span)?,
        loss_fn_input_spans: read_each(".loss_fn_input_spans", message.loss_fn_input_spans, read_span)?,
    })
}

fn read_chunk(message: Chunk) -> Result<ModelInputChunk, String> {
    match message.chunk {
        Some(chunk::Chunk::EncodedText(text)) => {
            Ok(EncodedTextChunk { tokens: read_tokens(&text.tokens, ".encoded_text.tokens")? }.into())
        }
        Some(chunk::Chunk::Image(image)) if image.override_dimensions.is_none() => {
            let format = match image.format.as_str() {
                "png" => ImageFormat::Png,
                "jpeg" => ImageFormat::Jpeg,
                other => return Err(format!(".image.format is {other:?}, not png or jpeg")),
            };
            let tokens = |tokens| u32::try_from(tokens).map_err(|_| format!(".image.expected_tokens is {tokens}"));
            let expected_tokens = image.expected_tokens.map(tokens).transpose()?;
            let chunk = ImageChunk::from_parts(image.data, format, None, None, None);
            Ok(ImageChunk { expected_tokens, ..chunk }.into())
        }
        Some(chunk::Chunk::Image(_)) => Err(".image.override_dimensions is not supported".to_owned()),
        Some(chunk::Chunk::Dmel(_)) => Err(".dmel is audio, which is not supported".to_owned()),
        None => Err(" is no chunk of a known kind: encoded_text or image".to_owned()),
    }
}

fn read_span(message: super::ProvenanceSpan) -> Result<ProvenanceSpan, String> {
    match message.span {
        Some(provenance_span::Span::PromptTokens(span)) => Ok(ProvenanceSpan::prompt(
            span.sequence_id,
            non_negative(span.offset, ".prompt_tokens.offset")?,
            non_negative(span.length, ".prompt_tokens.length")?,
        )),
        Some(provenance_span::Span::SampledTokens(span)) => Ok(ProvenanceSpan::sampled(
            span.sequence_id,
            non_negative(span.offset, ".sampled_tokens.offset")?,
            non_negative(span.length, ".sampled_tokens.length")?,
        )),
        None => Err(" is no span of a known kind: prompt_tokens or sampled_tokens".to_owned()),
    }
}

fn non_negative(number: i64, field: &str) -> Result<u64, String> {
    u64::try_from(number).map_err(|_| format!("{field} is {number}"))
}
