//! Passes over a batch, and optimizer steps.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::types::{AdamParams, Datum, DimuonParams, Loss, LossFn, LossSetting};

/// A batch and the loss to compute on it: the body of [`ForwardRequest`] and [`ForwardBackwardRequest`].
///
/// ```
/// use tinkex::types::wire::{ForwardBackwardInput, ForwardBackwardRequest};
/// use tinkex::types::{Datum, Loss, ModelInput};
///
/// let data = [Datum::new(ModelInput::from_tokens([1, 2]))];
/// let loss = Loss::cross_entropy();
/// let request = ForwardBackwardRequest {
///     forward_backward_input: ForwardBackwardInput::new(&data, &loss),
///     model_id: "m-1".into(),
///     seq_id: Some(1),
/// };
/// let json = serde_json::to_string(&request)?;
/// assert!(json.ends_with(r#""loss_fn":"cross_entropy","loss_fn_config":null},"model_id":"m-1","seq_id":1}"#));
/// assert_eq!(serde_json::from_str::<ForwardBackwardRequest<'_>>(&json)?, request);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ForwardBackwardInput<'a> {
    /// The examples.
    pub data: Cow<'a, [Datum]>,
    /// The loss function.
    pub loss_fn: LossFn,
    /// The settings of the loss function; null if none.
    pub loss_fn_config: Option<Cow<'a, BTreeMap<String, LossSetting>>>,
}

impl<'a> ForwardBackwardInput<'a> {
    /// Borrows the examples and the settings.
    #[must_use]
    pub fn new(data: &'a [Datum], loss: &'a Loss) -> Self {
        ForwardBackwardInput {
            data: Cow::Borrowed(data),
            loss_fn: loss.function.clone(),
            loss_fn_config: (!loss.config.is_empty()).then_some(Cow::Borrowed(&loss.config)),
        }
    }
}

/// Computes the loss without gradients: `POST forward`, returns a promise of
/// [`ForwardBackwardOutput`](crate::types::ForwardBackwardOutput).
///
/// [`ForwardBackwardInput`] has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ForwardRequest<'a> {
    /// The examples and the loss.
    pub forward_input: ForwardBackwardInput<'a>,
    /// The id of the model.
    pub model_id: Cow<'a, str>,
    /// The sequence number of the request for this model, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_id: Option<u64>,
}

/// Computes the loss and accumulates gradients: `POST forward_backward`, returns a promise of
/// [`ForwardBackwardOutput`](crate::types::ForwardBackwardOutput).
///
/// [`ForwardBackwardInput`] has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ForwardBackwardRequest<'a> {
    /// The examples and the loss.
    pub forward_backward_input: ForwardBackwardInput<'a>,
    /// The id of the model.
    pub model_id: Cow<'a, str>,
    /// The sequence number of the request for this model, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_id: Option<u64>,
}

/// Updates the weights with the accumulated gradients: `POST optim_step`, returns a promise of
/// [`OptimStepResponse`](crate::types::OptimStepResponse).
///
/// ```
/// use std::borrow::Cow;
/// use tinkex::types::AdamParams;
/// use tinkex::types::wire::OptimStepRequest;
///
/// let request = OptimStepRequest {
///     adam_params: Some(Cow::Owned(AdamParams::default())),
///     model_id: "m-1".into(),
///     seq_id: Some(2),
///     ..OptimStepRequest::default()
/// };
/// let json = serde_json::to_string(&request)?;
/// assert!(!json.contains("optimizer_params"));
/// assert_eq!(serde_json::from_str::<OptimStepRequest<'_>>(&json)?, request);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "optim_step")]
pub struct OptimStepRequest<'a> {
    /// The settings of a step with AdamW. Not sent if none: then the other field has those of another optimizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adam_params: Option<Cow<'a, AdamParams>>,
    /// The settings of a step with Dimuon. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer_params: Option<Cow<'a, DimuonParams>>,
    /// The id of the model.
    pub model_id: Cow<'a, str>,
    /// The sequence number of the request for this model, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_id: Option<u64>,
}
