//! `pure_model_input`: chunks, lengths, tokens, base64.

use serde_json::{Value, json};
use tinkex::types::*;

use super::{entries, fixture, inner};

fn image() -> ImageChunk {
    ImageChunk::from_parts([0, 1, 255], ImageFormat::Png, 2, 1, 4)
}

fn asset() -> ImageAssetPointerChunk {
    ImageAssetPointerChunk::new("loc", ImageFormat::Jpeg, 4, 3, 7)
}

fn text(tokens: impl Into<Vec<u32>>) -> EncodedTextChunk {
    EncodedTextChunk::new(tokens)
}

/// One token, then a chunk.
fn one_and(chunk: impl Into<ModelInputChunk>) -> ModelInput {
    ModelInput::from_tokens([1]).chunk(chunk)
}

#[test]
fn chunks() {
    let ours: [(&str, ModelInputChunk); 4] = [
        ("text", text([1, 2, 3]).into()),
        ("text empty", text([]).into()),
        ("image", image().into()),
        ("asset", asset().into()),
    ];
    let fixture = fixture("pure_model_input");
    let golden = entries(&fixture["chunks"]);
    assert_eq!(golden.len(), ours.len());
    for ((name, ours), golden) in ours.iter().zip(golden) {
        assert_eq!(*name, golden["name"]);
        assert_eq!(json!(ours), inner(&golden["out"]["json"]), "{name}");
        assert_eq!(ours.len(), golden["length"]["out"], "{name}");
        // 0.4.1 omits `type` on the wire.
        for form in ["json", "exclude_unset_json", "exclude_none_json"] {
            let read: ModelInputChunk = serde_json::from_value(inner(&golden["out"][form])).unwrap();
            assert_eq!(read, *ours, "{name}, {form}");
        }
    }
}

#[test]
fn operations() {
    /// Python's operations without a counterpart here, or with another result on purpose.
    const DIFFERENT: [(&str, &str); 8] = [
        ("from_ints numpy", "tokens are a `Vec<u32>`"),
        ("from_ints floats", "tokens are a `Vec<u32>`"),
        ("from_ints fraction", "tokens are a `Vec<u32>`"),
        ("from_ints str", "tokens are a `Vec<u32>`"),
        ("from_ints bool", "tokens are a `Vec<u32>`"),
        ("from_ints negative/huge", "tokens are a `Vec<u32>`"),
        ("from_ints([1]).append_int(2)", "append_token extends the last text chunk"),
        ("extra key", "unknown keys are ignored"),
    ];
    let parsed = |json: Value| serde_json::from_value::<ModelInput>(json);
    for case in entries(&fixture("pure_model_input")["operations"]) {
        let name = case["op"].as_str().unwrap();
        if DIFFERENT.iter().any(|(other, _)| *other == name) {
            continue;
        }
        let ours = match name {
            "from_ints([])" => Ok(ModelInput::from_tokens([])),
            "from_ints([5,6])" => Ok(ModelInput::from(vec![5, 6])),
            "empty()" => Ok(ModelInput::default()),
            "empty().append_int(7)" => {
                let mut input = ModelInput::default();
                input.append_token(7);
                Ok(input)
            }
            "append image" => Ok(one_and(image())),
            "append asset" => Ok(one_and(asset())),
            "append empty text" => Ok(one_and(text([]))),
            "3 text chunks" => Ok((0..3).map(|token| text([token])).collect()),
            "from json dict" => parsed(json!({"chunks": [{"tokens": [1]}, {"tokens": [2], "type": "encoded_text"}]})),
            "from json image" => parsed(json!({"chunks": [
                {"data": "AAH/", "format": "png", "height": 1, "tokens": 4, "width": 2, "type": "image"}
            ]})),
            "unknown chunk type" => parsed(json!({"chunks": [{"type": "nope", "tokens": [1]}]})),
            other => panic!("{other} is not covered"),
        };
        match (ours, case.get("out")) {
            (Ok(ours), Some(golden)) => {
                assert_eq!(json!(ours), inner(&golden["json"]), "{name}");
                assert_eq!(ours.len(), golden["length"]["out"], "{name}");
                assert_eq!(ours.is_empty(), golden["length"]["out"] == 0, "{name}");
                let tokens = ours.to_tokens().ok().map(|tokens| json!(tokens));
                assert_eq!(tokens.as_ref(), golden["to_ints"].get("out"), "{name}");
                assert_eq!(ours.chunks.len(), golden["n_chunks"]);
            }
            (Err(_), None) => {}
            (ours, golden) => panic!("{name}: {ours:?} but {golden:?}"),
        }
    }
}

#[test]
fn tokens_extend_text_and_follow_images() {
    let mut input = ModelInput::from_tokens([1]);
    input.append_token(2);
    assert_eq!(input, ModelInput::from_tokens([1, 2]));
    let mut input = input.append(image());
    input.append_token(3);
    assert_eq!(input.chunks.len(), 3);
}

#[test]
fn pieces_of_text_make_one_chunk() {
    let whole = ModelInput::from_tokens([1, 2, 3, 4]);
    let start = ModelInput::from_tokens([1, 2]);
    assert_eq!(start.clone().append([3, 4]), whole);
    assert_eq!(start.clone().append(vec![3]).append(text([4])), whole);
    assert_eq!(start.clone().append(ModelInput::from_tokens([3, 4])), whole);
    assert_eq!(ModelInput::from_pieces([&[1, 2][..], &[], &[3, 4]]), whole);
    assert_eq!((1..=4_u32).collect::<ModelInput>(), whole);
    let mut extended = start.clone();
    extended.extend(3..=4);
    assert_eq!(extended, whole);
    assert_eq!(start.chunk(text([3, 4])).chunks.len(), 2, "a chunk stays one of its own");

    let around: ModelInput = ModelInput::from(image()).append([9]);
    let mixed = ModelInput::from_tokens([1]).append(&around).append(&around);
    let lengths: Vec<usize> = mixed.chunks.iter().map(ModelInputChunk::len).collect();
    let image_tokens = ModelInput::from(image()).len();
    assert_eq!(lengths, [1, image_tokens, 1, image_tokens, 1]);
    let mut empty = ModelInput::new();
    empty.extend([0_u32; 0]);
    assert_eq!(empty, ModelInput::new());
}

#[test]
fn base64_and_formats() {
    let fixture = fixture("pure_model_input");
    let read = |data: &Value, format: &Value| {
        let json = json!({"data": data, "format": format, "height": 1, "tokens": 1, "width": 1});
        serde_json::from_value::<ImageChunk>(json).ok()
    };
    for case in entries(&fixture["image_data_validation"]) {
        // Bytes are passed unchanged and have no JSON form.
        let data = if case["in"].is_string() { &case["in"] } else { &case["in"]["bytes_b64"] };
        let ours = read(data, &json!("png")).map(|image| json!(image)["data"].clone());
        assert_eq!(ours.as_ref(), case.get("out"), "{data}");
    }
    for case in entries(&fixture["format_validation"]) {
        let ours = read(&json!(""), &case["format"]).map(|image| json!(image.format));
        assert_eq!(ours.as_ref(), case.get("out"), "{}", case["format"]);
    }
}
