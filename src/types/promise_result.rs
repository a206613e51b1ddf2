//! What a type needs to be the result of a promise.

use serde::de::DeserializeOwned;

use super::wire::{CreateModelResponse, SaveWeightsForSamplerResponse};
use super::{
    LoadWeightsResponse, OptimStepResponse, SaveWeightsExternalResponse, SaveWeightsResponse, UnloadModelResponse,
};

/// A type that the result of a promise can be read as: see [`ServiceClient::pending`](crate::ServiceClient::pending).
///
/// The results of this crate implement it, and so does [`serde_json::Value`]. For a type of your own, which is read from
/// JSON, implement it without methods:
///
/// ```
/// use tinkex::types::PromiseResult;
///
/// #[derive(serde::Deserialize)]
/// struct Saved {
///     path: String,
/// }
///
/// impl PromiseResult for Saved {}
/// # fn read<T: PromiseResult>(json: &str) -> T { serde_json::from_str(json).unwrap() }
/// # assert_eq!(read::<Saved>(r#"{"path":"p"}"#).path, "p");
/// ```
///
/// The service may send the results of passes and samples as protobuf. Those can only be read as
/// [`ForwardBackwardOutput`](super::ForwardBackwardOutput) and [`SampleResponse`](super::SampleResponse).
pub trait PromiseResult: DeserializeOwned + Send + 'static {
    /// Whether any of its numbers is a float, which JSON may hold as a word. Defaults to true.
    #[doc(hidden)]
    const HAS_FLOATS: bool = true;

    /// Reads a result in protobuf. Returns what is wrong with it. Defaults to an error: the type has no form in protobuf.
    #[doc(hidden)]
    fn from_protobuf(body: Vec<u8>) -> Result<Self, String> {
        let _ = body;
        Err("the result is protobuf, which only the types of passes and samples can be read from".to_owned())
    }

    /// Checks a result that was read from JSON, as [`from_protobuf`](PromiseResult::from_protobuf) does. Returns what is wrong with
    /// it. Defaults to nothing.
    #[doc(hidden)]
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

impl PromiseResult for OptimStepResponse {}
impl PromiseResult for serde_json::Value {}

macro_rules! without_floats {
    ($($result:ty)*) => {$(
        impl PromiseResult for $result {
            const HAS_FLOATS: bool = false;
        }
    )*};
}

without_floats! {
    CreateModelResponse LoadWeightsResponse SaveWeightsExternalResponse SaveWeightsForSamplerResponse SaveWeightsResponse
    UnloadModelResponse
}
