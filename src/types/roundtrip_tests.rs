//! Every value of every wire type survives a round trip through JSON, and no input makes parsing panic.

use quickcheck::{Arbitrary, Gen, QuickCheck};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::sample_tests::Sample;
use super::wire::*;
use super::*;

/// Any JSON, with the protocol's own words where possible.
pub(super) fn any_json(g: &mut Gen, depth: u8) -> Value {
    let kinds = if depth == 0 { 4 } else { 6 };
    match u8::arbitrary(g) % kinds {
        0 => Value::Null,
        1 => Value::Bool(bool::arbitrary(g)),
        2 => match bool::arbitrary(g) {
            true => i64::arbitrary(g).into(),
            false => f64::sample(g).into(),
        },
        3 => any_key(g).into(),
        4 => (0..u8::arbitrary(g) % 4).map(|_| any_json(g, depth - 1)).collect(),
        _ => (0..u8::arbitrary(g) % 6).map(|_| (any_key(g), any_json(g, depth - 1))).collect(),
    }
}

fn any_key(g: &mut Gen) -> String {
    const WORDS: [&str; 20] = [
        "type",
        "tokens",
        "data",
        "dtype",
        "shape",
        "float32",
        "int64",
        "image",
        "encoded_text",
        "chunks",
        "metrics",
        "location",
        "format",
        "png",
        "height",
        "model_id",
        "path",
        "time",
        "2025-11-01T10:00:00Z",
        "1 day, 0:00:00",
    ];
    if bool::arbitrary(g) { (*g.choose(&WORDS).unwrap()).to_owned() } else { String::arbitrary(g) }
}

/// Replaces one value in a JSON tree.
fn damage(json: &mut Value, g: &mut Gen) {
    let children: Vec<&mut Value> = match json {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(fields) => fields.values_mut().collect(),
        _ => Vec::new(),
    };
    let index = usize::arbitrary(g) % (children.len() + 1);
    match children.into_iter().nth(index) {
        Some(child) => damage(child, g),
        None => *json = any_json(g, 2),
    }
}

/// A value of the type, damaged JSON of another one, any JSON, and bytes.
#[derive(Clone, Debug)]
struct Case<T> {
    value: T,
    json: [Value; 2],
    bytes: Vec<u8>,
}

impl<T: Sample + Serialize + Clone + 'static> Arbitrary for Case<T> {
    fn arbitrary(g: &mut Gen) -> Self {
        let value = T::sample(g);
        let mut damaged = serde_json::to_value(T::sample(g)).unwrap();
        damage(&mut damaged, g);
        let mut bytes = serde_json::to_vec(&T::sample(g)).unwrap();
        for _ in 0..u8::arbitrary(g) % 4 {
            let place = usize::arbitrary(g) % bytes.len();
            bytes[place] = u8::arbitrary(g);
        }
        bytes.truncate(usize::arbitrary(g) % 300);
        Case { value, json: [damaged, any_json(g, 4)], bytes }
    }
}

fn check<T>()
where
    T: Sample + Serialize + DeserializeOwned + Clone + PartialEq + std::fmt::Debug + 'static,
{
    fn holds<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(case: Case<T>) {
        let text = serde_json::to_string(&case.value).unwrap();
        let name = std::any::type_name::<T>();
        let read: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}: {text}"));
        assert_eq!(read, case.value, "{text}");
        let tree = serde_json::to_value(&case.value).unwrap();
        let read: T = serde_json::from_value(tree).unwrap_or_else(|error| panic!("{name}: {error}: {text}"));
        assert_eq!(read, case.value, "{text}");
        // These may parse or not, but never panic; what parses can be written again.
        for json in case.json {
            if let Ok(read) = serde_json::from_value::<T>(json) {
                serde_json::to_string(&read).unwrap();
            }
        }
        let _ = serde_json::from_slice::<T>(&case.bytes);
    }
    QuickCheck::new().tests(40).quickcheck(holds as fn(Case<T>));
}

macro_rules! check {
    ($($test:ident: $($Type:ty)*;)*) => {$(
        #[test]
        fn $test() {
            $(check::<$Type>();)*
        }
    )*};
}

check! {
    tensors_and_data: TensorData Dtype Datum Batch ModelInput ModelInputChunk EncodedTextChunk ImageChunk
        ImageAssetPointerChunk ImageFormat;
    futures: Promise RetrieveFutureRequest<'static> RetrieveFuturesRequest<'static> FuturesTarget<'static>
        RetrieveFuturesResponse FutureCompletion CancelFutureRequest<'static> TryAgainResponse RequestFailedResponse RequestErrorCategory
        QueueState;
    rest: Cursor Checkpoint CheckpointType TrainingRun TrainingRunsResponse CheckpointsListResponse SessionsListResponse
        CheckpointArchiveUrlResponse SessionResponse SamplerResponse WeightsInfoRequest<'static> WeightsInfoResponse
        Timestamp SessionDuration;
    sampling: SamplingParams Stop SampleRequest<'static> SampledSequence SampleResponse StopReason;
    sessions: CreateSessionRequest<'static> CreateSessionResponse HeartbeatRequest<'static> HeartbeatResponse
        SupportedModel GetServerCapabilitiesResponse HealthResponse LoraConfig CreateModelRequest<'static>
        CreateModelResponse GetInfoRequest<'static> ModelData GetInfoResponse UnloadModelRequest<'static>
        UnloadModelResponse CreateSamplingSessionRequest<'static> CreateSamplingSessionResponse;
    telemetry: TelemetrySendRequest<'static> TelemetryEvent TelemetryEventKind TelemetryResponse Severity;
    training: ForwardBackwardInput<'static> ForwardRequest<'static> ForwardBackwardRequest<'static>
        ForwardBackwardOutput AdamParams DimuonParams OptimizerConfig OptimStepRequest<'static> OptimStepResponse LossFn LossFnOutput;
    weights: SaveWeightsRequest<'static> SaveWeightsResponse SaveWeightsExternalRequest<'static>
        SaveWeightsExternalResponse SamplerKind LoadWeightsRequest<'static> LoadWeightsResponse
        SaveWeightsForSamplerRequest<'static> SaveWeightsForSamplerResponse;
}

#[test]
fn no_text_makes_a_parser_panic() {
    fn holds(text: String, at: usize, garbage: String) {
        for form in ["tinker://run/weights/1", "2025-11-01T10:00:00.5+02:00", "1 day, 0:01:01.500000"] {
            let at = (0..=at % form.len()).rev().find(|&at| form.is_char_boundary(at)).unwrap_or_default();
            let damaged = format!("{}{garbage}{}", &form[..at], &form[at..]);
            for text in [&text, &damaged] {
                let _ = text.parse::<CheckpointPath>();
                let _ = text.parse::<Timestamp>();
                let _ = text.parse::<SessionDuration>();
                let _ = RequestErrorCategory::from(text.as_str());
                let _ = ImageChunk::new(text.as_bytes(), 1);
            }
        }
    }
    QuickCheck::new().quickcheck(holds as fn(String, usize, String));
}
