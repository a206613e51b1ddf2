//! Every recorded result is read as the client reads it, and survives being written and read again.

use std::fmt::Debug;

use serde_json::{Value, json};
use tinkex::types::wire::protobuf::{self, prost::Message};
use tinkex::types::{ForwardBackwardOutput, PromiseResult, SampleResponse, TensorData};

use super::{bytes, cases};

/// Reads a result, and checks that it survives being written and read again by way of the message `M`.
fn read<T, M>(body: Vec<u8>) -> Result<T, String>
where
    T: PromiseResult + Debug,
    M: Message + Default + for<'a> From<&'a T>,
{
    let result = T::from_protobuf(body)?;
    let written = M::from(&result).encode_to_vec();
    let again = T::from_protobuf(written).unwrap();
    // As text, since NaN equals nothing.
    assert_eq!(format!("{again:?}"), format!("{result:?}"));
    Ok(result)
}

fn tensor(tensor: &TensorData) -> Value {
    let numbers = match (tensor.as_f32(), tensor.as_i64()) {
        (Some(floats), _) => floats.iter().map(|&number| float(number)).collect::<Vec<_>>(),
        (_, integers) => integers.unwrap().iter().map(|number| json!(number)).collect(),
    };
    json!({"dtype": tensor.dtype(), "shape": tensor.shape(), "data": numbers})
}

fn float(number: f32) -> Value {
    if number.is_nan() { json!({"__float__": "nan"}) } else { json!(f64::from(number)) }
}

fn pass(output: &ForwardBackwardOutput) -> Value {
    let outputs = output.loss_fn_outputs.iter();
    json!({
        "loss_fn_output_type": output.loss_fn_output_type,
        "loss_fn_outputs": outputs
            .map(|output| output.iter().map(|(name, value)| (name.clone(), tensor(value))).collect::<Value>())
            .collect::<Vec<_>>(),
        "metrics": output.metrics,
    })
}

fn sample(response: &SampleResponse) -> Value {
    let sequences = response.sequences.iter().map(|sequence| {
        json!({
            "stop_reason": sequence.stop_reason,
            "tokens": sequence.tokens,
            "logprobs": sequence.logprobs,
            "topk_logprobs": sequence.topk_logprobs,
            "sequence_id": sequence.sequence_id,
        })
    });
    json!({
        "sequences": sequences.collect::<Vec<_>>(),
        "prompt_logprobs": response.prompt_logprobs,
        "topk_prompt_logprobs": response.topk_prompt_logprobs,
        "prompt_cache_hit_tokens": response.prompt_cache_hit_tokens,
        "target_prompt_logprobs": response.target_prompt_logprobs.as_ref().map(tensor),
        "prompt_alt_tokens": response.prompt_alt_tokens.as_ref().map(|alt| json!([tensor(&alt.tokens), tensor(&alt.logprobs)])),
    })
}

/// The keys of `ours`, with the recorded values, at any depth.
fn restricted(ours: &Value, golden: &Value) -> Value {
    match (ours, golden) {
        (Value::Object(fields), Value::Object(_)) if golden.get("__float__").is_none() => {
            fields.iter().map(|(name, value)| (name.clone(), restricted(value, &golden[name]))).collect()
        }
        (Value::Array(items), Value::Array(values)) if items.len() == values.len() => {
            items.iter().zip(values).map(|(item, value)| restricted(item, value)).collect()
        }
        // Single precision, as all floats of the messages but the metrics.
        (_, Value::Number(number)) if number.is_f64() => float(number.as_f64().unwrap() as f32),
        _ => golden.clone(),
    }
}

#[test]
fn recorded_results_are_read_as_recorded() {
    let mut seen = 0;
    for case in cases("responses") {
        let (name, body) = (case["name"].as_str().unwrap(), bytes(&case["hex"]));
        let ours = match name.split(' ').next().unwrap() {
            "fwdbwd" => read::<_, protobuf::ForwardBackwardOutput>(body).map(|output| pass(&output)),
            _ => read::<_, protobuf::SampleResponse>(body).map(|response| sample(&response)),
        };
        match ours {
            Ok(ours) => assert_eq!(ours, restricted(&ours, &case["out"]), "{name}"),
            Err(why) => assert!(case.get("exception").is_some(), "{name}: {why}"),
        }
        seen += 1;
    }
    assert_eq!(seen, 13);
}
