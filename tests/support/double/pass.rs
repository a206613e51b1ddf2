//! Passes over a batch in both forms, and what the double makes of them: an echo of what it got.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tinkex::types::wire::protobuf::{self, chunk, prost::Message, tensor};

use crate::support::RecordedRequest;

/// The form of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Json,
    Protobuf,
}

/// A datum as the double read it.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenDatum {
    pub tokens: Vec<i64>,
    /// Each input with its name, row by row.
    pub inputs: BTreeMap<String, Vec<f64>>,
}

/// A pass as the double read it.
#[derive(Clone, Debug)]
pub struct SeenPass {
    pub form: Form,
    pub forward_only: bool,
    pub model_id: String,
    pub seq_id: u64,
    pub loss_fn: String,
    pub data: Vec<SeenDatum>,
}

impl SeenPass {
    /// Reads a request, or says what is wrong with it.
    pub fn read(request: &RecordedRequest) -> Result<Self, String> {
        if form_of(request) == Form::Protobuf { Self::read_protobuf(request) } else { Self::read_json(request) }
    }

    fn read_json(request: &RecordedRequest) -> Result<Self, String> {
        let forward_only = request.path == "forward";
        let input = &request.body[if forward_only { "forward_input" } else { "forward_backward_input" }];
        let data = input["data"].as_array().ok_or("no data")?;
        Ok(SeenPass {
            form: Form::Json,
            forward_only,
            model_id: request.body["model_id"].as_str().ok_or("no model_id")?.to_owned(),
            seq_id: request.seq_id().ok_or("no seq_id")?,
            loss_fn: input["loss_fn"].as_str().ok_or("no loss_fn")?.to_owned(),
            data: data.iter().map(json_datum).collect(),
        })
    }

    fn read_protobuf(request: &RecordedRequest) -> Result<Self, String> {
        let body = plain_body(request)?;
        let message = protobuf::ForwardBackwardRequest::decode(&*body).map_err(|error| error.to_string())?;
        Ok(SeenPass {
            form: Form::Protobuf,
            forward_only: message.forward_only,
            model_id: message.model_id,
            seq_id: message.seq_id.try_into().map_err(|_| "seq_id is negative")?,
            loss_fn: message.loss_fn,
            data: message.data.iter().map(protobuf_datum).collect(),
        })
    }

    /// The result: for each datum the negative targets by 1024 as log-probabilities, and the losses with its weights.
    pub fn result(&self) -> Value {
        let mut sum = 0.0;
        let tensor = |data: &[f64]| json!({"data": data, "dtype": "float32", "shape": [data.len()]});
        let outputs: Vec<_> = self
            .data
            .iter()
            .map(|datum| {
                let targets = datum.inputs.get("target_tokens").map_or(&[][..], |targets| targets);
                let logprobs: Vec<_> = targets.iter().map(|target| -target / 1024.0).collect();
                let ones = vec![1.0; logprobs.len()];
                let weights = datum.inputs.get("weights").unwrap_or(&ones);
                let losses: Vec<_> = logprobs.iter().zip(weights).map(|(logprob, weight)| -logprob * weight).collect();
                sum += losses.iter().sum::<f64>();
                json!({"logprobs": tensor(&logprobs), "elementwise_loss": tensor(&losses)})
            })
            .collect();
        json!({"loss_fn_output_type": "ArrayRecord", "loss_fn_outputs": outputs, "metrics": {"loss:sum": sum}})
    }
}

/// The form that the content type says.
pub fn form_of(request: &RecordedRequest) -> Form {
    let is_protobuf = request.header("content-type").is_some_and(|kind| kind.contains(protobuf::CONTENT_TYPE));
    if is_protobuf { Form::Protobuf } else { Form::Json }
}

/// The body without its encoding.
pub fn plain_body(request: &RecordedRequest) -> Result<Vec<u8>, String> {
    match request.header("content-encoding") {
        None => Ok(request.raw.clone()),
        #[cfg(feature = "zstd")]
        Some("zstd") => zstd::decode_all(&*request.raw).map_err(|error| error.to_string()),
        Some(other) => Err(format!("the encoding {other}")),
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

fn json_datum(datum: &Value) -> SeenDatum {
    let chunks = datum["model_input"]["chunks"].as_array();
    let tokens = chunks.into_iter().flatten().flat_map(|chunk| numbers(&chunk["tokens"])).map(|token| token as i64);
    let inputs = datum["loss_fn_inputs"].as_object();
    let inputs = inputs.into_iter().flatten().map(|(name, input)| (name.clone(), numbers(&input["data"])));
    SeenDatum { tokens: tokens.collect(), inputs: inputs.collect() }
}

fn protobuf_datum(datum: &protobuf::Datum) -> SeenDatum {
    let tokens = datum.model_input.iter().filter_map(|part| match part.chunk.as_ref()? {
        chunk::Chunk::EncodedText(text) => Some(words(&text.tokens, i32::from_le_bytes)),
        _ => None,
    });
    let inputs = datum.loss_fn_inputs.iter().map(|(name, input)| (name.clone(), dense(input)));
    SeenDatum { tokens: tokens.flatten().map(i64::from).collect(), inputs: inputs.collect() }
}

fn dense(input: &protobuf::Tensor) -> Vec<f64> {
    let Some(tensor::Encoding::Dense(bytes)) = &input.encoding else { return Vec::new() };
    match input.dtype() {
        protobuf::DType::DtypeFloat32 => words(bytes, f32::from_le_bytes).into_iter().map(f64::from).collect(),
        protobuf::DType::DtypeInt64 => {
            words(bytes, i64::from_le_bytes).into_iter().map(|number| number as f64).collect()
        }
        other => panic!("the client sends no {other:?}"),
    }
}

fn words<const SIZE: usize, T>(bytes: &[u8], read: fn([u8; SIZE]) -> T) -> Vec<T> {
    bytes.chunks_exact(SIZE).map(|word| read(word.try_into().unwrap())).collect()
}
