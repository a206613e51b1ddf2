//! Every value that has a form in protobuf survives a round trip through it, as a client and a server make it.

use std::fmt::Debug;

use prost::Message;
use quickcheck::{Arbitrary, Gen, QuickCheck};

use super::sample_tests::Sample;
use super::wire::protobuf::{self, ForwardBackwardRequest, PassRequest};
use super::*;

/// Something to be written.
#[derive(Clone, Debug)]
struct Any<T>(T);

impl<T: Sample + Clone + 'static> Arbitrary for Any<T> {
    fn arbitrary(g: &mut Gen) -> Self {
        Any(T::sample(g))
    }
}

/// A batch with what protobuf has a form for.
#[derive(Clone, Debug)]
struct Pass {
    data: Vec<Datum>,
    loss: Loss,
    seq_id: u16,
    forward_only: bool,
}

impl Arbitrary for Pass {
    fn arbitrary(g: &mut Gen) -> Self {
        let mut data = Vec::<Datum>::sample(g);
        for datum in &mut data {
            datum.model_input.chunks.retain(|chunk| !matches!(chunk, ModelInputChunk::ImageAssetPointer(_)));
            for chunk in &mut datum.model_input.chunks {
                match chunk {
                    ModelInputChunk::EncodedText(text) => text.tokens.iter_mut().for_each(|token| *token >>= 1),
                    ModelInputChunk::Image(image) => {
                        (image.width, image.height, image.tokens) = (None, None, None);
                        image.expected_tokens = image.expected_tokens.map(|tokens| tokens >> 1);
                    }
                    ModelInputChunk::ImageAssetPointer(_) => {}
                }
            }
            let span = |g: &mut Gen| match bool::arbitrary(g) {
                true => {
                    ProvenanceSpan::prompt(String::arbitrary(g), u32::arbitrary(g).into(), u32::arbitrary(g).into())
                }
                false => ProvenanceSpan::sampled(String::arbitrary(g), u64::arbitrary(g) >> 1, u64::arbitrary(g) >> 1),
            };
            datum.model_input_spans = (0..u8::arbitrary(g) % 3).map(|_| span(g)).collect();
            datum.loss_fn_input_spans = (0..u8::arbitrary(g) % 3).map(|_| span(g)).collect();
        }
        let loss = Loss { function: Sample::sample(g), config: Sample::sample(g) };
        Pass { data, loss, seq_id: u16::arbitrary(g), forward_only: bool::arbitrary(g) }
    }
}

#[test]
fn passes() {
    fn holds(pass: Pass) {
        let Pass { data, loss, seq_id, forward_only } = pass;
        let body = protobuf::pass_request(&data, &loss, "m", seq_id.into(), forward_only).unwrap();
        assert_eq!(body.len(), body.capacity());
        let read = PassRequest::try_from(ForwardBackwardRequest::decode(&*body).unwrap()).unwrap();
        assert_eq!(read, PassRequest { model_id: "m".into(), seq_id: seq_id.into(), forward_only, data, loss });
    }
    QuickCheck::new().quickcheck(holds as fn(Pass));
}

#[test]
fn long_columns_fill_any_buffer() {
    let numbers = || 0..1000_u32;
    let datum = Datum::new(numbers().collect::<Vec<_>>()).input("target_tokens", numbers().collect::<Vec<_>>());
    let data =
        [datum.unwrap().input("weights", numbers().map(|number| number as f32 / 3.0).collect::<Vec<_>>()).unwrap()];
    let loss = Loss::cross_entropy();
    let body = protobuf::pass_request(&data, &loss, "m", 1, false).unwrap();
    let read = PassRequest::try_from(ForwardBackwardRequest::decode(&*body).unwrap()).unwrap();
    assert_eq!(read.data, data);
    for used in [vec![7], vec![7; 100_000]] {
        let (place, room) = (used.as_ptr(), used.capacity());
        let again = protobuf::write_pass_request(used, &data, &loss, "m", 1, false).unwrap();
        assert_eq!(again, body);
        assert!(room < body.len() || again.as_ptr() == place);
    }
}

/// Writes a result as a server does, and reads it as a client does.
fn round_trip<T, M>(result: &T) -> T
where
    T: PromiseResult,
    M: Message + Default + for<'a> From<&'a T>,
{
    T::from_protobuf(M::from(result).encode_to_vec()).unwrap()
}

fn check<T: Sample + Clone + Debug + 'static>(holds: fn(Any<T>)) {
    QuickCheck::new().quickcheck(holds);
}

#[test]
fn results_of_passes() {
    /// A tensor as the message has it: of one dimension at least, dense, and with rows of some length.
    fn plain(tensor: &TensorData) -> TensorData {
        let values = tensor.stored_values();
        let has_rows = !tensor.is_sparse() && tensor.shape().is_some_and(|shape| !shape[1..].contains(&0));
        if has_rows { tensor.clone() } else { values }
    }

    check::<ForwardBackwardOutput>(|Any(mut result)| {
        let outputs = result.loss_fn_outputs.iter();
        result.loss_fn_outputs =
            outputs.map(|output| output.iter().map(|(name, tensor)| (name.clone(), plain(tensor))).collect()).collect();
        result.loss_fn_output_type = "ArrayRecord".to_owned();
        assert_eq!(round_trip::<_, protobuf::ForwardBackwardOutput>(&result), result);
    });
}

#[test]
fn results_of_samples() {
    check::<SampleResponse>(|Any(mut response)| {
        // What the message cannot say: ids above i32, no number in a list that has none, an unused cell, another stop reason,
        // another length than that of the tokens.
        let cell = |cell: TokenLogprob| TokenLogprob::new(cell.token >> 1, cell.logprob);
        for sequence in &mut response.sequences {
            sequence.sequence_id = None;
            sequence.tokens.iter_mut().for_each(|token| *token >>= 1);
            if matches!(sequence.stop_reason, StopReason::Other(_)) {
                sequence.stop_reason = StopReason::Stop;
            }
            let length = sequence.tokens.len();
            sequence.logprobs = sequence.logprobs.take().map(|_| vec![-0.5; length]);
            let row = || vec![cell(TokenLogprob::new(7, -0.5)); length % 3 + 1];
            sequence.topk_logprobs = sequence.topk_logprobs.take().filter(|_| length > 0).map(|_| vec![row(); length]);
        }
        response.prompt_logprobs = response.prompt_logprobs.filter(|logprobs| !logprobs.is_empty());
        response.topk_prompt_logprobs = response.topk_prompt_logprobs.map(|rows| {
            let row = |row: Option<Vec<TokenLogprob>>| {
                row.map(|row| row.into_iter().map(cell).collect::<Vec<_>>()).filter(|row| !row.is_empty())
            };
            rows.into_iter().map(row).collect()
        });
        response.topk_prompt_logprobs = response.topk_prompt_logprobs.filter(|rows| rows.iter().any(Option::is_some));
        response.prompt_cache_hit_tokens >>= 1;
        if let Some(alternatives) = &mut response.prompt_alt_tokens {
            alternatives.logprobs = alternatives.tokens.clone();
        }
        assert_eq!(round_trip::<_, protobuf::SampleResponse>(&response), response);
    });
}
