//! `pure_model_input`: chunks, lengths, tokens, base64.

use serde_json::{Value, json};
use tinkex::types::*;

use super::{cases, inner};

fn image() -> ImageChunk {
    ImageChunk::from_parts([0, 1, 255], ImageFormat::Png, None, None, None).expected_tokens(4)
}

fn asset() -> ImageAssetPointerChunk {
    ImageAssetPointerChunk::new("loc", ImageFormat::Jpeg, None, None, None).expected_tokens(7)
}

fn text(tokens: impl Into<Vec<u32>>) -> EncodedTextChunk {
    EncodedTextChunk::new(tokens)
}

#[test]
fn chunks() {
    let ours: [(&str, ModelInputChunk); 6] = [
        ("text", text([1, 2, 3]).into()),
        ("text empty", text([]).into()),
        ("image", image().into()),
        ("image no expected_tokens", ImageChunk::from_parts([], ImageFormat::Jpeg, None, None, None).into()),
        ("asset", asset().into()),
        ("asset min", ImageAssetPointerChunk::new("x", ImageFormat::Png, None, None, None).into()),
    ];
    for case in cases("pure_model_input", "chunks") {
        let name = case["name"].as_str().unwrap();
        let Some((_, ours)) = ours.iter().find(|(other, _)| *other == name) else {
            // Audio, which this crate has not.
            assert_eq!(name, "dmel");
            assert!(serde_json::from_value::<ModelInputChunk>(inner(&case["out"]["json"])).is_err());
            continue;
        };
        assert_eq!(json!(ours), inner(&case["out"]["exclude_none_json"]), "{name}");
        // Python raises an error where the length is unknown.
        assert_eq!(ours.len(), case["length"].get("out").and_then(Value::as_u64).unwrap_or(0) as usize, "{name}");
        for form in ["json", "exclude_unset_json", "exclude_none_json"] {
            let read: ModelInputChunk = serde_json::from_value(inner(&case["out"][form])).unwrap();
            assert_eq!(read, *ours, "{name}, {form}");
        }
    }
}

#[test]
fn servers_of_each_generation_find_their_keys() {
    let image = ImageChunk::from_parts([0, 1, 255], ImageFormat::Png, 2, 1, 4).expected_tokens(5);
    let written = json!({
        "type": "image", "data": "AAH/", "format": "png", "height": 1, "width": 2, "tokens": 4, "expected_tokens": 5
    });
    assert_eq!(json!(image), written);
    assert_eq!(ModelInput::new().chunk(image.clone()).len(), 5);
    assert_eq!(serde_json::from_value::<ModelInputChunk>(written).unwrap(), image.into());
    // Without the new key, the length is what it was.
    assert_eq!(ModelInput::new().chunk(ImageChunk::from_parts([], ImageFormat::Png, 2, 1, 4)).len(), 4);
}

#[test]
fn operations() {
    let one = || ModelInput::from_tokens([1]);
    let parsed = |json: Value| serde_json::from_value::<ModelInput>(json);
    let mut compared = 0;
    for case in cases("pure_model_input", "operations") {
        let name = case["op"].as_str().unwrap();
        let ours = match name {
            "from_ints([])" => Ok(ModelInput::from_tokens([])),
            "from_ints([5,6])" => Ok(ModelInput::from(vec![5, 6])),
            "empty()" => Ok(ModelInput::default()),
            "empty().append_int(7)" => {
                let mut input = ModelInput::default();
                input.append_token(7);
                Ok(input)
            }
            "append image" => Ok(one().chunk(image())),
            "append asset" => Ok(one().chunk(asset())),
            "append empty text" => Ok(one().chunk(text([]))),
            "3 text chunks" => Ok((0..3).map(|token| text([token])).collect()),
            "from json dict" => parsed(json!({"chunks": [{"tokens": [1]}, {"tokens": [2], "type": "encoded_text"}]})),
            "from json image" => parsed(json!({"chunks": [
                {"data": "AAH/", "format": "png", "expected_tokens": 4, "type": "image"}
            ]})),
            "unknown chunk type" => parsed(json!({"chunks": [{"type": "nope", "tokens": [1]}]})),
            // Tokens are a `Vec<u32>`; append_token extends the last text; unknown keys are ignored.
            "from_ints numpy"
            | "from_ints floats"
            | "from_ints fraction"
            | "from_ints str"
            | "from_ints bool"
            | "from_ints negative/huge"
            | "from_ints([1]).append_int(2)"
            | "extra key" => continue,
            other => panic!("{other} is not covered"),
        };
        match (ours, case.get("out")) {
            (Ok(ours), Some(golden)) => {
                assert_eq!(json!(ours), inner(&golden["json"]), "{name}");
                assert_eq!(ours.len(), golden["length"]["out"], "{name}");
                let tokens = ours.to_tokens().ok().map(|tokens| json!(tokens));
                assert_eq!(tokens.as_ref(), golden["to_ints"].get("out"), "{name}");
            }
            (Err(_), None) => {}
            (ours, golden) => panic!("{name}: {ours:?} but {golden:?}"),
        }
        compared += 1;
    }
    assert_eq!(compared, 11);
}

#[test]
fn base64_and_formats() {
    let read = |data: &Value, format: &Value| {
        let json = json!({"data": data, "format": format, "type": "image"});
        serde_json::from_value::<ModelInputChunk>(json).ok().map(|image| json!(image))
    };
    for case in cases("pure_model_input", "image_data_validation") {
        // Bytes are passed unchanged and have no JSON form.
        let data = if case["in"].is_string() { &case["in"] } else { &case["in"]["bytes_b64"] };
        let ours = read(data, &json!("png")).map(|image| image["data"].clone());
        assert_eq!(ours.as_ref(), case.get("out"), "{data}");
    }
    for case in cases("pure_model_input", "format_validation") {
        let ours = read(&json!(""), &case["format"]).map(|image| image["format"].clone());
        assert_eq!(ours.as_ref(), case.get("out"), "{}", case["format"]);
    }
}
