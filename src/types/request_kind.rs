//! The kind of request that a promise belongs to.

use std::fmt;

/// The kind of request that a promise belongs to. Each poll sends it in the header `x-tinker-request-type`.
///
/// # Examples
///
/// ```
/// use tinkex::types::RequestKind;
///
/// assert_eq!(RequestKind::ForwardBackward.as_str(), "ForwardBackward");
/// assert_eq!(RequestKind::Sample.to_string(), "Sample");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RequestKind {
    /// `create_model`.
    CreateModel,
    /// `forward`.
    Forward,
    /// `forward_backward`.
    ForwardBackward,
    /// `optim_step`.
    OptimStep,
    /// `save_weights`.
    SaveWeights,
    /// `load_weights`.
    LoadWeights,
    /// `save_weights_for_sampler`.
    SaveWeightsForSampler,
    /// `save_weights_external`.
    SaveWeightsExternal,
    /// `asample`.
    Sample,
    /// `unload_model`.
    UnloadModel,
}

impl RequestKind {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RequestKind::CreateModel => "CreateModel",
            RequestKind::Forward => "Forward",
            RequestKind::ForwardBackward => "ForwardBackward",
            RequestKind::OptimStep => "OptimStep",
            RequestKind::SaveWeights => "SaveWeights",
            RequestKind::LoadWeights => "LoadWeights",
            RequestKind::SaveWeightsForSampler => "SaveWeightsForSampler",
            RequestKind::SaveWeightsExternal => "SaveWeightsExternal",
            RequestKind::Sample => "Sample",
            RequestKind::UnloadModel => "UnloadModel",
        }
    }
}

impl fmt::Display for RequestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
