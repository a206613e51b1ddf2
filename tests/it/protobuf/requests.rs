//! Every recorded request is written as the client writes it, and read as what was asked for.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tinkex::ErrorKind;
use tinkex::types::wire::protobuf::{self, ForwardBackwardRequest, PassRequest, prost::Message};
use tinkex::types::{
    Datum, ImageAssetPointerChunk, ImageChunk, ImageFormat, Loss, LossFn, ModelInput, ProvenanceSpan, TensorData,
};

use super::{bytes, cases};

fn one() -> Datum {
    let datum = Datum::new([1, 2]).input("target_tokens", [2, 3]).unwrap();
    datum.input("weights", [0.5, 1.0]).unwrap()
}

fn images() -> ModelInput {
    let png = ImageChunk::from_parts(*b"\x00\x01\xff", ImageFormat::Png, None, None, None).expected_tokens(4);
    ModelInput::new().chunk(png).chunk(ImageChunk::from_parts([], ImageFormat::Jpeg, None, None, None))
}

/// The data, the loss and the sequence number of a recorded request. None if there is no such value here.
fn asked_for(name: &str) -> Option<(Vec<Datum>, Loss, u64)> {
    let loss = Loss::cross_entropy();
    Some(match name {
        "one datum" | "config empty" => (vec![one()], loss, 1),
        "no data" => (vec![], loss, 2),
        "config floats" => {
            let loss = Loss::ppo().config("clip_low_threshold", 0.8).config("clip_high_threshold", 1.0);
            (vec![one()], loss, 1)
        }
        "config string" => (vec![one()], loss.config("loss_id", "x"), 1),
        "empty input" => (vec![Datum::default()], loss, 1),
        "image" => (vec![Datum::new(images())], loss, 1),
        "asset" => {
            let asset = ImageAssetPointerChunk::new("loc", ImageFormat::Jpeg, None, None, None);
            (vec![Datum::new(ModelInput::new().chunk(asset))], loss, 1)
        }
        "2-d tensor, no shape, big tokens" => {
            let matrix = TensorData::from(vec![1_i64, 2, 3, 4]).with_shape([2, 2]).unwrap();
            let datum = Datum::new([i32::MAX as u32]).input("a", matrix).unwrap();
            (vec![datum.input("b", TensorData::from(vec![1.5_f32]).without_shape()).unwrap()], loss, 1)
        }
        "token beyond int32" => (vec![Datum::new([1 << 31])], loss, 1),
        "sparse" => {
            let sparse = TensorData::sparse_csr([5, 6], [0, 1, 2], [0, 2], [2, 3]).unwrap();
            (vec![Datum::new([1]).input("target_tokens", sparse).unwrap()], loss, 1)
        }
        // A request without a number, which no client here sends; audio; a token id below 0.
        "seq_id None" | "dmel" | "negative token" => return None,
        other => panic!("{other} is not covered"),
    })
}

#[test]
fn written_as_recorded() {
    let mut written = 0;
    for case in cases("requests") {
        let name = case["name"].as_str().unwrap();
        let Some((data, loss, seq_id)) = asked_for(name) else { continue };
        match protobuf::pass_request(&data, &loss, "m", seq_id, false) {
            Ok(body) => {
                let golden = bytes(&case["out"]["hex"]);
                let message = |body: &[u8]| ForwardBackwardRequest::decode(body).unwrap();
                assert_eq!(message(&body), message(&golden), "{name}");
                assert_eq!(body.len(), golden.len(), "{name}");
                written += 1;
            }
            Err(error) => {
                assert!(case.get("exception").is_some(), "{name}: {error}");
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert!(error.to_string().contains("(datum 0)"), "{error}");
            }
        }
    }
    assert_eq!(written, 9);
}

#[test]
fn read_as_recorded() {
    let mut refused = BTreeMap::new();
    for case in cases("requests").into_iter().filter(|case| case.get("exception").is_none()) {
        let name = case["name"].as_str().unwrap();
        let message = ForwardBackwardRequest::decode(bytes(&case["out"]["hex"]).as_slice()).unwrap();
        let pass = match PassRequest::try_from(message) {
            Ok(pass) => pass,
            Err(error) => {
                refused.insert(name.to_owned(), error.to_string());
                continue;
            }
        };
        let (data, loss, seq_id) = asked_for(name).unwrap_or_else(|| (vec![one()], Loss::cross_entropy(), 0));
        let expected = PassRequest { model_id: "m".to_owned(), seq_id, forward_only: false, data, loss };
        assert_eq!(pass, expected, "{name}");
    }
    let expected = [
        ("dmel", "data[0].model_input[0].dmel is audio, which is not supported"),
        ("negative token", "data[0].model_input[0].encoded_text.tokens has the negative token id -1"),
    ];
    assert_eq!(refused, expected.map(|(name, why)| (name.to_owned(), why.to_owned())).into());
}

/// The decoded form that the fixture has beside the bytes, for the fields that are not bytes.
fn view(message: &ForwardBackwardRequest) -> Value {
    let number = |setting: &protobuf::LossConfigValue| match setting.value.as_ref().unwrap() {
        protobuf::loss_config_value::Value::Number(number) => json!({"number": number}),
        protobuf::loss_config_value::Value::Text(text) => json!({"text": text}),
    };
    let both = message.loss_fn_config_v2.iter().map(|(name, setting)| (name.clone(), number(setting)));
    json!({
        "model_id": message.model_id,
        "loss_fn": message.loss_fn,
        "loss_fn_config": message.loss_fn_config,
        "loss_fn_config_v2": both.collect::<Value>(),
        "datums": message.data.len(),
    })
}

#[test]
fn messages_have_the_recorded_fields() {
    for case in cases("requests").into_iter().filter(|case| case.get("exception").is_none()) {
        let message = ForwardBackwardRequest::decode(bytes(&case["out"]["hex"]).as_slice()).unwrap();
        let decoded = &case["out"]["decoded"];
        let map = |key: &str| decoded.get(key).cloned().unwrap_or_else(|| json!({}));
        let expected = json!({
            "model_id": decoded["model_id"],
            "loss_fn": decoded["loss_fn"],
            "loss_fn_config": map("loss_fn_config"),
            "loss_fn_config_v2": map("loss_fn_config_v2"),
            "datums": decoded.get("data").map_or(0, |data| data.as_array().unwrap().len()),
        });
        assert_eq!(view(&message), expected, "{}", case["name"]);
    }
}

#[test]
fn provenance_and_forward_only_survive() {
    let datum = one().with_provenance(
        [ProvenanceSpan::prompt("s-1", 0, 1), ProvenanceSpan::sampled("s-1", 0, 1)],
        [ProvenanceSpan::sampled("s-1", 0, 2)],
    );
    datum.validate().unwrap();
    let loss = Loss::new(LossFn::Custom).config("loss_id", "l").config("a", 0.0);
    let body = protobuf::pass_request(&[datum.clone(), one()], &loss, "m", 3, true).unwrap();
    let pass = PassRequest::try_from(ForwardBackwardRequest::decode(&*body).unwrap()).unwrap();
    assert_eq!(
        pass,
        PassRequest { model_id: "m".into(), seq_id: 3, forward_only: true, data: vec![datum, one()], loss }
    );
}

#[test]
fn provenance_must_cover_the_tokens() {
    let spans =
        |lengths: &[u64]| lengths.iter().map(|&length| ProvenanceSpan::prompt("s", 0, length)).collect::<Vec<_>>();
    for (input, targets, why) in [
        (&[2][..], &[1, 1][..], ""),
        (&[], &[2], ""),
        (&[1], &[2], "the model input cover 1 tokens, but there are 2"),
        (&[u64::MAX, u64::MAX], &[2], "the model input cover"),
        (&[2], &[3], "the target tokens cover 3 tokens, but there are 2"),
    ] {
        let checked = one().with_provenance(spans(input), spans(targets)).validate();
        let error = checked.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(why) && error.is_empty() == why.is_empty(), "{input:?} {targets:?}: {error}");
    }
    let nameless = one().with_provenance([ProvenanceSpan::sampled("", 0, 2)], []);
    assert!(nameless.validate().unwrap_err().to_string().contains("has no sequence id"));
    // Of any datum of a batch, with its index.
    let batch = tinkex::types::Batch::from(vec![one(), one().with_provenance(spans(&[1]), [])]);
    assert!(batch.validate().unwrap_err().to_string().contains("of datum 1"));
}

#[test]
fn numbers_beyond_the_messages_are_refused() {
    let image = ImageChunk::from_parts([], ImageFormat::Png, None, None, None).expected_tokens(1 << 31);
    let span = ProvenanceSpan::prompt("s", 1 << 63, 2);
    for (datum, seq_id, why) in [
        (one(), 1 << 31, "the sequence number 2147483648 does not fit int32"),
        (Datum::new(ModelInput::new().chunk(image)), 1, "2147483648 expected tokens"),
        (one().with_provenance([span], []), 1, "provenance span from 9223372036854775808"),
    ] {
        let error = protobuf::pass_request(&[datum], &Loss::default(), "m", seq_id, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(why), "{error}");
    }
}
