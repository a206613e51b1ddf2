//! Malformed passes in protobuf: each is refused with a 400 or 422 that names the field.

use tinkex::local::LocalServer;

use super::client::Client;

const BASE: &str = "tinkex/bytes-tiny";

/// A field with a length: a message, a text or bytes.
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    [&[tag << 3 | 2, (length & 0x7f) as u8 | 0x80, (length >> 7) as u8], content].concat()
}

/// An integer, negative ones included.
fn integer(tag: u8, value: i64) -> Vec<u8> {
    let (mut bytes, mut rest) = (vec![tag << 3], value as u64);
    while rest > 0x7f {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

fn join(fields: &[Vec<u8>]) -> Vec<u8> {
    fields.concat()
}

fn i32s(numbers: &[i32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn i64s(numbers: &[i64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn f32s(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// A message, where it is in a request, and what is wrong with some contents of it.
struct Case {
    message: &'static str,
    /// The names of which an error must have one: of the field that holds the message.
    field: &'static str,
    wrap: fn(Vec<u8>) -> Vec<u8>,
    variants: Vec<(Vec<u8>, &'static str)>,
}

/// What no message may be.
fn broken(field: &'static str) -> Vec<(Vec<u8>, &'static str)> {
    vec![
        // A length beyond the end, the wire type 7, the tag 0, a number without end, the end of a group that never began, and a
        // field of fixed size that is cut.
        (vec![0x0a, 0x05, 0x01], field),
        (vec![0x0f], field),
        (vec![0x00, 0x00], field),
        (vec![0xff; 11], field),
        (vec![0x0c], field),
        (vec![0x09, 0x01], field),
    ]
}

const FLOAT32: i64 = 1;
const INT64: i64 = 2;

fn dense(bytes: &[u8], dtype: i64, shape: &[i64]) -> Vec<u8> {
    let shape: Vec<Vec<u8>> = shape.iter().map(|&length| integer(4, length)).collect();
    join(&[field(1, bytes), integer(3, dtype), shape.concat()])
}

fn input(name: &str, tensor: &[u8]) -> Vec<u8> {
    field(2, &join(&[field(1, name.as_bytes()), field(2, tensor)]))
}

fn tokens() -> Vec<u8> {
    field(1, &field(1, &field(1, &i32s(&[1, 2]))))
}

fn targets() -> Vec<u8> {
    input("target_tokens", &dense(&i64s(&[2, 3]), INT64, &[2]))
}

fn weights() -> Vec<u8> {
    input("weights", &dense(&f32s(&[1.0, 1.0]), FLOAT32, &[2]))
}

/// A request for one datum, which is valid except for what the datum has more.
fn of_datum(datum: Vec<u8>) -> Vec<u8> {
    join(&[integer(2, 1), field(3, &datum), field(4, b"cross_entropy")])
}

fn whole_datum(more: Vec<u8>) -> Vec<u8> {
    of_datum(join(&[tokens(), targets(), weights(), more]))
}

/// A datum with this chunk first.
fn of_chunk(chunk: Vec<u8>) -> Vec<u8> {
    whole_datum(field(1, &chunk))
}

fn of_weights(tensor: Vec<u8>) -> Vec<u8> {
    of_datum(join(&[tokens(), targets(), input("weights", &tensor)]))
}

fn sparse(values: &[u8], crow: &[u8], col: &[u8]) -> Vec<u8> {
    join(&[field(1, values), field(2, crow), field(3, col)])
}

fn of_setting(setting: Vec<u8>) -> Vec<u8> {
    let entry = join(&[field(1, b"clip_low_threshold"), field(2, &setting)]);
    join(&[integer(2, 1), field(3, &join(&[tokens(), targets(), weights()])), field(4, b"ppo"), field(7, &entry)])
}

fn span(tag: u8, id: &[u8], offset: i64, length: i64) -> Vec<u8> {
    field(tag, &join(&[field(1, id), integer(2, offset), integer(3, length)]))
}

fn run(id: &[u8], offset: i64, length: i64) -> Vec<u8> {
    join(&[field(1, id), integer(2, offset), integer(3, length)])
}

fn cases() -> Vec<Case> {
    let two = f32s(&[1.0, 1.0]);
    let (crow, col) = (i64s(&[0, 1, 2]), i64s(&[0, 1]));
    let runs = |what: &'static str| {
        vec![
            (run(b"", 0, 2), "sequence id"),
            (run(b"s", -1, 2), "offset"),
            (run(b"s", 0, -2), "length"),
            (run(b"s", 0, 1), what),
            (run(b"s", i64::MAX, 2), what),
            (run(b"\xff", 0, 2), "sequence_id"),
        ]
    };
    vec![
        Case {
            message: "ForwardBackwardRequest",
            field: "",
            wrap: |body| body,
            variants: vec![
                (field(1, b"\xff"), "model_id"),
                (integer(2, -1), "seq_id"),
                (vec![0x15, 0, 0, 0, 0], "seq_id"),
                (field(4, b"\xff"), "loss_fn"),
                (join(&[of_datum(join(&[tokens(), targets(), weights()])), field(4, b"no_loss")]), "loss function"),
                (field(4, b"cross_entropy"), "batch"),
                (integer(3, 1), "data"),
                (field(5, &integer(2, 1)), "loss_fn_config"),
                (field(6, b"x"), "forward_only"),
                (integer(7, 1), "loss_fn_config_v2"),
                ([0x1a, 0].repeat((1 << 20) + 1), "data"),
                (field(3, &[0x0a, 0].repeat(8000)).repeat(132), "data"),
            ],
        },
        Case {
            message: "LossConfigValue",
            field: "loss_fn_config_v2",
            wrap: of_setting,
            variants: vec![
                (vec![], "loss_fn_config_v2"),
                (field(2, b"low"), "clip_low_threshold"),
                (field(2, b"\xff"), "value"),
                (integer(1, 3), "value"),
            ],
        },
        Case {
            message: "Datum",
            field: "data",
            wrap: of_datum,
            variants: vec![
                (vec![], "model input"),
                (tokens(), "target_tokens"),
                (join(&[tokens(), weights()]), "target_tokens"),
                (integer(1, 1), "model_input"),
                (integer(2, 1), "loss_fn_inputs"),
                (integer(3, 1), "model_input_spans"),
                (integer(4, 1), "loss_fn_input_spans"),
                (join(&[targets(), weights()]), "model input"),
            ],
        },
        Case {
            message: "Chunk",
            field: "model_input",
            wrap: of_chunk,
            variants: vec![
                (vec![], "model_input[1]"),
                (integer(9, 1), "model_input[1]"),
                (integer(1, 1), "chunk"),
                (integer(2, 1), "chunk"),
                (integer(3, 1), "chunk"),
            ],
        },
        Case {
            message: "EncodedTextChunk",
            field: "chunk",
            wrap: |text| of_chunk(field(1, &text)),
            variants: vec![
                (field(1, &[1, 0, 0]), "model_input[1].encoded_text.tokens"),
                (field(1, &i32s(&[-1])), "model_input[1].encoded_text.tokens"),
                (field(1, &i32s(&[300])), "token 300"),
                (field(1, &i32s(&[3])), "target_tokens"),
                (integer(1, 3), "tokens"),
            ],
        },
        Case {
            message: "ImageChunk",
            field: "chunk",
            wrap: |image| of_chunk(field(2, &image)),
            variants: vec![
                (vec![], "image.format"),
                (field(2, b"gif"), "image.format"),
                (field(2, b"\xff"), "format"),
                (join(&[field(2, b"png"), integer(3, -1)]), "image.expected_tokens"),
                (join(&[field(2, b"png"), field(4, &integer(1, 8))]), "image.override_dimensions"),
                (join(&[field(2, b"png"), integer(3, 4)]), "image"),
                (field(2, b"jpeg"), "image"),
                (integer(1, 1), "data"),
            ],
        },
        Case {
            message: "DmelChunk",
            field: "chunk",
            wrap: |audio| of_chunk(field(3, &audio)),
            variants: vec![
                (vec![], "model_input[1].dmel"),
                (field(1, b"x"), "model_input[1].dmel"),
                (field(1, b""), "model_input[1].dmel"),
                (integer(1, 1), "dmel"),
            ],
        },
        Case {
            message: "ProvenanceSpan",
            field: "model_input_spans",
            wrap: |span| whole_datum(field(3, &span)),
            variants: vec![
                (vec![], "model_input_spans[0]"),
                (integer(9, 1), "model_input_spans[0]"),
                (integer(1, 1), "span"),
                (integer(2, 1), "span"),
                (span(2, b"s", 0, 3), "provenance spans of the model input"),
            ],
        },
        Case {
            message: "PromptProvenanceSpan",
            field: "span",
            wrap: |run| whole_datum(field(3, &field(1, &run))),
            variants: runs("provenance spans of the model input"),
        },
        Case {
            message: "SampledProvenanceSpan",
            field: "span",
            wrap: |run| whole_datum(field(4, &field(2, &run))),
            variants: runs("provenance spans of the target tokens"),
        },
        Case {
            message: "Tensor",
            field: "loss_fn_inputs",
            wrap: of_weights,
            variants: vec![
                (vec![], "loss_fn_inputs[\"weights\"]"),
                (dense(&two, 0, &[2]), "loss_fn_inputs[\"weights\"] has numbers of the unknown dtype"),
                (dense(&two, 9, &[2]), "loss_fn_inputs[\"weights\"] has numbers of the unknown dtype"),
                (dense(&two[..7], FLOAT32, &[2]), "loss_fn_inputs[\"weights\"]"),
                (dense(&two, FLOAT32, &[3]), "loss_fn_inputs[\"weights\"]"),
                (dense(&two, FLOAT32, &[-2]), "loss_fn_inputs[\"weights\"] has the shape"),
                (dense(&two, FLOAT32, &[1; 65]), "loss_fn_inputs[\"weights\"] has 65 dimensions"),
                (dense(&two, FLOAT32, &[i64::MAX, 8]), "loss_fn_inputs[\"weights\"]"),
                (dense(&f32s(&[f32::NAN, 1.0]), FLOAT32, &[2]), "weights"),
                (dense(&f32s(&[1.0, 1.0, 1.0]), FLOAT32, &[3]), "weights"),
                (integer(1, 1), "encoding"),
            ],
        },
        Case {
            message: "SparseCsr",
            field: "encoding",
            wrap: |sparse| of_weights(join(&[field(2, &sparse), integer(3, FLOAT32), integer(4, 2), integer(4, 2)])),
            variants: vec![
                (sparse(&two[..7], &crow, &col), "loss_fn_inputs[\"weights\"]"),
                (sparse(&two, &crow[..7], &col), "sparse_csr.crow_indices"),
                (sparse(&two, &crow, &col[..7]), "sparse_csr.col_indices"),
                (sparse(&two, &i64s(&[0, 1]), &col), "loss_fn_inputs[\"weights\"]: the row indices"),
                (sparse(&two, &i64s(&[0, 3, 2]), &col), "loss_fn_inputs[\"weights\"]: the row indices"),
                (sparse(&two, &i64s(&[-1, 1, 2]), &col), "loss_fn_inputs[\"weights\"]: the row indices"),
                (sparse(&two, &i64s(&[0, 2, 2]), &i64s(&[1, 0])), "loss_fn_inputs[\"weights\"]: the column indices"),
                (sparse(&two, &crow, &i64s(&[0, 2])), "loss_fn_inputs[\"weights\"]: the column index"),
                (sparse(&two, &crow, &i64s(&[0, -1])), "loss_fn_inputs[\"weights\"]: the column index"),
                (sparse(&two, &crow, &i64s(&[0])), "loss_fn_inputs[\"weights\"]"),
                (vec![], "loss_fn_inputs[\"weights\"]"),
            ],
        },
    ]
}

#[test]
fn malformed_messages_are_refused_by_field() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let model = client.model(BASE);
    let mut send = |request: &[u8]| {
        client.post_protobuf("forward_backward", &join(&[field(1, model.as_bytes()), request.to_vec()]))
    };
    let valid = whole_datum(vec![]);
    for Case { message, field, wrap, variants } in cases() {
        let variants: Vec<_> = broken(field).into_iter().chain(variants).collect();
        assert!(variants.len() >= 10, "{message}");
        for (index, (content, named)) in variants.into_iter().enumerate() {
            let response = send(&wrap(content));
            let detail = response.json()["detail"].to_string().replace('\\', "");
            assert!(matches!(response.status, 400 | 422), "{message} {index}: {} {detail}", response.status);
            assert!(detail.contains(named), "{message} {index}: {named:?} is not in {detail}");
        }
    }
    assert_eq!(send(&valid).status, 200, "nothing of all that took the number 1");
}
