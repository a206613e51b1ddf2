//! Damaged results are errors: never a panic, a wrong value or a large allocation.

use quickcheck::quickcheck;
use tinkex::types::wire::protobuf::{
    self, ArrayRecord, BatchedTensor, DType, ForwardBackwardOutput, ForwardBackwardRequest, PassRequest,
    SampleResponse, SampledSequence, SparseCsr, Tensor, TopkLogprobs, prost::Message, tensor::Encoding,
};
use tinkex::types::{self, PromiseResult};

use super::{bytes, cases};

fn le<const N: usize>(numbers: impl IntoIterator<Item = [u8; N]>) -> protobuf::prost::bytes::Bytes {
    numbers.into_iter().flatten().collect()
}

fn offsets(offsets: &[i64]) -> protobuf::prost::bytes::Bytes {
    le(offsets.iter().map(|offset| offset.to_le_bytes()))
}

fn floats(floats: &[f32]) -> protobuf::prost::bytes::Bytes {
    le(floats.iter().map(|float| float.to_le_bytes()))
}

/// Two datums of one and two floats.
fn field() -> BatchedTensor {
    BatchedTensor {
        data: floats(&[1.0, 2.0, 3.0]),
        offsets: offsets(&[0, 4, 12]),
        dtype: DType::DtypeFloat32.into(),
        trailing_shape: vec![],
    }
}

fn read_pass(num_datums: i64, field: BatchedTensor) -> Result<types::ForwardBackwardOutput, String> {
    let record = ArrayRecord { num_datums, fields: [("x".to_owned(), field)].into(), ..ArrayRecord::default() };
    let message = ForwardBackwardOutput { loss_fn_outputs: vec![record], ..ForwardBackwardOutput::default() };
    types::ForwardBackwardOutput::from_protobuf(message.encode_to_vec())
}

#[test]
fn records_that_lie_are_refused() {
    assert_eq!(read_pass(2, field()).unwrap().loss_fn_outputs[1].get("x").unwrap().as_f32(), Some(&[2.0, 3.0][..]));
    let of = |change: fn(&mut BatchedTensor)| {
        let mut field = field();
        change(&mut field);
        field
    };
    for (name, count, field, why) in [
        ("too few datums", 1, field(), "offsets that do not fit"),
        ("too many datums", 3, field(), "offsets that do not fit"),
        ("negative datums", -1, field(), "a record has -1 datums"),
        ("the most datums", i64::MAX, field(), "offsets that do not fit"),
        ("no offsets", 2, of(|field| field.offsets = offsets(&[])), "offsets that do not fit"),
        ("half an offset", 2, of(|field| field.offsets = field.offsets.slice(..20)), "no numbers of 8 bytes each"),
        ("beyond the data", 2, of(|field| field.offsets = offsets(&[0, 4, 16])), "offsets that do not fit"),
        ("before the end", 2, of(|field| field.offsets = offsets(&[0, 4, 8])), "offsets that do not fit"),
        ("after the start", 2, of(|field| field.offsets = offsets(&[4, 4, 12])), "offsets that do not fit"),
        ("all in the first", 2, of(|field| field.offsets = offsets(&[0, 12, 12])), ""),
        ("falling", 2, of(|field| field.offsets = offsets(&[0, 16, 12])), "offsets that do not fit"),
        ("negative", 2, of(|field| field.offsets = offsets(&[0, -4, 12])), "offsets that do not fit"),
        ("within a number", 2, of(|field| field.offsets = offsets(&[0, 6, 12])), "no rows of 4 bytes each"),
        ("no type", 2, of(|field| field.dtype = 0), "the unknown dtype 0"),
        ("an unknown type", 2, of(|field| field.dtype = 9), "the unknown dtype 9"),
        ("ragged rows", 2, of(|field| field.trailing_shape = vec![2]), "no rows of 8 bytes each"),
        ("rows of nothing", 2, of(|field| field.trailing_shape = vec![0]), "the row shape [0]"),
        ("negative rows", 2, of(|field| field.trailing_shape = vec![-1]), "the shape [-1]"),
        ("rows beyond memory", 2, of(|field| field.trailing_shape = vec![i64::MAX, 3]), "the row shape"),
        ("many dimensions", 2, of(|field| field.trailing_shape = vec![1; 65]), "65 dimensions"),
    ] {
        let error = read_pass(count, field).err().unwrap_or_default();
        assert!(error.contains(why) && error.is_empty() == why.is_empty(), "{name}: {error}");
    }
}

#[test]
fn datums_without_tensors_are_limited() {
    let read = |counts: &[i64]| {
        let record = |&num_datums| ArrayRecord { num_datums, ..ArrayRecord::default() };
        let loss_fn_outputs = counts.iter().map(record).collect();
        let message = ForwardBackwardOutput { loss_fn_outputs, ..ForwardBackwardOutput::default() };
        types::ForwardBackwardOutput::from_protobuf(message.encode_to_vec())
    };
    assert_eq!(read(&[3, 0, 1024]).unwrap().loss_fn_outputs.len(), 1027);
    for counts in [&[i64::MAX][..], &[1 << 21], &[1 << 20, 1]] {
        assert!(read(counts).unwrap_err().contains("datums without tensors"), "{counts:?}");
    }
}

/// Each datum has a copy of its tensors' names and shapes, which a body has once.
#[test]
fn copies_for_each_datum_are_limited() {
    let read = |name: &str, trailing_shape: Vec<i64>, records: usize| {
        let datums = 1 << 12;
        let (data, offsets) = (floats(&[]), offsets(&vec![0; datums + 1]));
        let field = BatchedTensor { data, offsets, trailing_shape, ..field() };
        let (fields, num_datums) = ([(name.to_owned(), field)].into(), datums as i64);
        let record = ArrayRecord { num_datums, fields, ..ArrayRecord::default() };
        let message = ForwardBackwardOutput { loss_fn_outputs: vec![record; records], ..Default::default() };
        types::ForwardBackwardOutput::from_protobuf(message.encode_to_vec())
    };
    assert_eq!(read("logprobs", vec![3], 4).unwrap().loss_fn_outputs.len(), 4 << 12);
    for (name, trailing_shape, records) in
        [(&*"x".repeat((1 << 16) + 1), vec![], 1), (&*"x".repeat(1 << 13), vec![], 9), ("x", vec![1; 64], 130)]
    {
        let error = read(name, trailing_shape, records).unwrap_err();
        assert!(error.contains("names and shapes"), "{error}");
    }
}

#[test]
fn empty_messages_are_limited() {
    let record = [0x12, 0].repeat((1 << 20) + 1);
    // Behind unknown fields, too: a group, its end, and the largest number.
    let largest = [&[0x78][..], &[0xff; 9], &[1]].concat();
    for (before, why) in [
        (&[][..], "1048577 messages"),
        (&[0x7b, 0x7c], "the field 15 is a group"),
        (&[0x7c], "unexpected end group tag"),
        (&largest, "1048577 messages"),
    ] {
        let error = types::ForwardBackwardOutput::from_protobuf([before, &record].concat()).unwrap_err();
        assert!(error.contains(why), "{before:?}: {error}");
    }
    let sequence = [0x0a, 0].repeat((1 << 20) + 1);
    assert!(types::SampleResponse::from_protobuf(sequence).unwrap_err().contains("1048577 messages"));
    assert_eq!(types::SampleResponse::from_protobuf([0x0a, 0].repeat(3)).unwrap().sequences.len(), 3);
}

fn sequence() -> SampledSequence {
    SampledSequence { tokens: le([5_i32.to_le_bytes()]), logprobs: Some(floats(&[-0.5])), ..SampledSequence::default() }
}

fn tensor() -> Tensor {
    let encoding = Some(Encoding::Dense(floats(&[1.0, 2.0])));
    Tensor { encoding, dtype: DType::DtypeFloat32.into(), shape: vec![1, 2] }
}

#[test]
fn samples_that_lie_are_refused() {
    let topk = |k, length| {
        let (token_ids, logprobs) = (le([7_i32.to_le_bytes(); 2]), floats(&[-0.5, -1.0]));
        Some(TopkLogprobs { token_ids, logprobs, k, length })
    };
    type Change = Box<dyn Fn(&mut SampleResponse)>;
    let sequence_of =
        |change: fn(&mut SampledSequence)| -> Change { Box::new(move |response| change(&mut response.sequences[0])) };
    let target = |change: fn(&mut Tensor)| -> Change {
        Box::new(move |response| change(response.target_prompt_logprobs.insert(tensor())))
    };
    let cases: Vec<(&str, Change, &str)> = vec![
        ("nothing", Box::new(|_| ()), ""),
        ("half a token", sequence_of(|sequence| sequence.tokens = sequence.tokens.slice(..3)), "no numbers of 4 bytes"),
        ("a negative token", sequence_of(|sequence| sequence.tokens = floats(&[-1.0])), "negative token id"),
        (
            "half a number",
            sequence_of(|sequence| sequence.logprobs = Some(offsets(&[0]).slice(..7))),
            "no numbers of 4",
        ),
        (
            "more numbers than tokens",
            sequence_of(|sequence| sequence.logprobs = Some(floats(&[1.0; 2]))),
            "1 tokens has 2",
        ),
        ("an unknown reason", sequence_of(|sequence| sequence.stop_reason = 2), "the unknown stop reason 2"),
        (
            "a negative count",
            Box::new(|response| response.prompt_cache_hit_tokens = -1),
            "prompt_cache_hit_tokens is -1",
        ),
        ("a full matrix", Box::new(move |response| response.topk_prompt_logprobs = topk(2, 1)), ""),
        ("too many rows", Box::new(move |response| response.topk_prompt_logprobs = topk(2, 2)), "2 rows of 2"),
        ("no rows", Box::new(move |response| response.topk_prompt_logprobs = topk(2, 0)), "0 rows of 2"),
        (
            "the most cells",
            Box::new(move |response| response.topk_prompt_logprobs = topk(u32::MAX, u32::MAX)),
            "rows of",
        ),
        (
            "a sequence's rows",
            Box::new(move |response| response.sequences[0].topk_sampled_logprobs = topk(1, 2)),
            "1 tokens has 2",
        ),
        ("a tensor", target(|_| ()), ""),
        ("a tensor of no type", target(|tensor| tensor.dtype = 0), "the unknown dtype 0"),
        ("a tensor that is half full", target(|tensor| tensor.shape = vec![2, 2]), "does not hold 2 numbers"),
        ("a tensor of negative size", target(|tensor| tensor.shape = vec![-1, 2]), "the shape [-1, 2]"),
        ("a tensor without numbers", target(|tensor| tensor.encoding = None), "has no numbers"),
        (
            "a sparse tensor without indices",
            target(|tensor| {
                let values = floats(&[1.0, 2.0]);
                tensor.encoding = Some(Encoding::SparseCsr(SparseCsr { values, ..SparseCsr::default() }));
            }),
            "the row indices do not split 2 values into 1 rows",
        ),
        (
            "no alternatives",
            Box::new(|response| response.prompt_alt_tokens = Some(Default::default())),
            "has no tokens",
        ),
        (
            "alternatives of another shape",
            Box::new(|response| {
                let other = Some(Tensor { shape: vec![2, 1], ..tensor() });
                response.prompt_alt_tokens =
                    Some(protobuf::PromptAltTokens { tokens: Some(tensor()), logprobs: other });
            }),
            "different shapes",
        ),
    ];
    for (name, change, why) in cases {
        let mut response = SampleResponse { sequences: vec![sequence()], ..SampleResponse::default() };
        change(&mut response);
        let error = types::SampleResponse::from_protobuf(response.encode_to_vec()).err().unwrap_or_default();
        assert!(error.contains(why) && error.is_empty() == why.is_empty(), "{name}: {error}");
    }
}

/// Where the Python client 0.38.0 reads something else.
#[test]
fn better_than_the_python_client() {
    let read = |response: SampleResponse| types::SampleResponse::from_protobuf(response.encode_to_vec()).unwrap();
    // It reads the halves of floats as integers: -1.0 becomes 49024.0.
    let halves = le([0xbf80_u16, 0x3f00].map(u16::to_le_bytes));
    let tensor = Tensor { encoding: Some(Encoding::Dense(halves)), dtype: DType::DtypeBfloat16.into(), shape: vec![] };
    let response = SampleResponse { target_prompt_logprobs: Some(tensor), ..SampleResponse::default() };
    assert_eq!(read(response).target_prompt_logprobs.unwrap().as_f32(), Some(&[-1.0, 0.5][..]));
    // It reads no log-probabilities where there is no token.
    let empty = SampledSequence { logprobs: Some(floats(&[])), ..SampledSequence::default() };
    let response = read(SampleResponse { sequences: vec![empty], ..SampleResponse::default() });
    assert_eq!(response.sequences[0].logprobs, Some(vec![]));
    // Empty numbers beside tokens are none, as there.
    let none = SampledSequence { logprobs: Some(floats(&[])), ..sequence() };
    assert_eq!(read(SampleResponse { sequences: vec![none], ..SampleResponse::default() }).sequences[0].logprobs, None);
}

#[test]
fn truncated_results_never_panic() {
    for case in cases("responses") {
        let body = bytes(&case["hex"]);
        for end in 0..body.len() {
            read_all(&body[..end]);
        }
    }
}

/// Reads a body as everything that it could be.
fn read_all(body: &[u8]) {
    drop(types::ForwardBackwardOutput::from_protobuf(body.to_vec()));
    drop(types::SampleResponse::from_protobuf(body.to_vec()));
    drop(ForwardBackwardRequest::decode(body).map(PassRequest::try_from));
}

quickcheck! {
    fn any_bytes_can_be_read(body: Vec<u8>) -> bool {
        read_all(&body);
        true
    }

    fn damaged_bodies_can_be_read(which: u8, changes: Vec<(u16, u8)>) -> bool {
        let responses = cases("responses");
        let requests = cases("requests");
        let bodies: Vec<_> = requests
            .iter()
            .filter_map(|case| case["out"].get("hex"))
            .chain(responses.iter().map(|case| &case["hex"]))
            .map(bytes)
            .filter(|body| !body.is_empty())
            .collect();
        let mut body = bodies[usize::from(which) % bodies.len()].clone();
        for (place, value) in changes {
            let place = usize::from(place) % body.len();
            body[place] = value;
            read_all(&body);
        }
        true
    }
}
