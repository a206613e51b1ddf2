//! Training examples and batches of them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Deref;
use std::slice;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::provenance::{self, ProvenanceSpan};
use super::{Dtype, Element, LossFn, ModelInput, TensorData, datum_checks};
use crate::error::{Error, Result};

/// One training example: the model's input, and the inputs of the loss function.
///
/// Each loss input has the shape `[N]`, one number for each of the model input's N tokens; with K targets for each token, which
/// cross-entropy can have, `[N, K]`. For every loss function,
/// `target_tokens[i]` is the token to predict after input token `i`: a text of N + 1 tokens becomes a model input of the
/// first N tokens and targets of the last N. For [`LossFn::CrossEntropy`], `weights[i]` is the
/// weight of that prediction: 0 for the prompt, 1 for the completion. [`LossFn`] lists the inputs of the
/// other loss functions.
///
/// ```
/// use tinkex::types::{Datum, ModelInput};
///
/// // The prompt is 10, 11; the completion is 12, 13.
/// let datum = Datum::new(ModelInput::from_tokens([10, 11, 12]))
///     .input("target_tokens", [11, 12, 13])?
///     .input("weights", [0.0, 1.0, 1.0])?;
/// assert_eq!(datum.loss_fn_inputs["weights"].as_f32(), Some(&[0.0, 1.0, 1.0][..]));
/// assert_eq!(datum.size(), 9);
/// datum.validate()?;
///
/// // Values that the server could not read are errors, which name the input and the index.
/// assert!(datum.clone().input("advantages", [f32::NAN]).is_err());
/// assert!(datum.clone().input("target_tokens", [0.5]).is_err());
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Datum {
    /// The inputs of the loss function by name: `target_tokens`, `weights`, `logprobs`, `advantages` …
    pub loss_fn_inputs: BTreeMap<String, TensorData>,
    /// The model's input.
    pub model_input: ModelInput,
    /// Where the tokens of the model's input come from. Empty if unknown. Sent as protobuf only: JSON has no form for it.
    #[serde(skip)]
    pub model_input_spans: Vec<ProvenanceSpan>,
    /// Where the `target_tokens` come from. Empty if unknown. Sent as protobuf only: JSON has no form for it.
    #[serde(skip)]
    pub loss_fn_input_spans: Vec<ProvenanceSpan>,
}

impl Datum {
    /// An example without loss inputs.
    #[must_use]
    pub fn new(model_input: impl Into<ModelInput>) -> Self {
        Datum { model_input: model_input.into(), ..Datum::default() }
    }

    /// Adds a loss input. The name determines the type of a plain list: `target_tokens` is int64; `weights`, `advantages`,
    /// `logprobs`, `clip_low_threshold`, `clip_high_threshold` and `sequence_ratio_mask` are float32. A tensor or an array
    /// keeps its type.
    ///
    /// # Errors
    ///
    /// A plain list with another name, a number that does not fit the type, NaN and infinities.
    pub fn input(mut self, name: impl Into<String>, values: impl LossInput) -> Result<Self> {
        let name = name.into();
        let tensor = values.into_tensor(&name)?;
        tensor.check_finite(&format_args!("the loss input {name:?}"))?;
        self.loss_fn_inputs.insert(name, tensor);
        Ok(self)
    }

    /// Says where the tokens come from: runs that together cover the model's input, and runs that together cover the
    /// `target_tokens`, both in order. [`ProvenanceSpan`] has an example.
    ///
    /// Services that take JSON only do not get them.
    #[must_use]
    pub fn with_provenance(
        mut self,
        model_input_spans: impl IntoIterator<Item = ProvenanceSpan>,
        loss_fn_input_spans: impl IntoIterator<Item = ProvenanceSpan>,
    ) -> Self {
        self.model_input_spans = model_input_spans.into_iter().collect();
        self.loss_fn_input_spans = loss_fn_input_spans.into_iter().collect();
        self
    }

    /// Checks that all numbers can be sent, that the model input and the loss inputs have numbers for the same tokens, and that
    /// provenance spans cover the tokens. Loss inputs that this crate does not know may have any length.
    ///
    /// # Errors
    ///
    /// NaN or an infinity, where the error names the loss input and the index; a loss input of another length than the model
    /// input; `target_tokens` that are not int64; spans without a sequence id, or of another number of tokens.
    pub fn validate(&self) -> Result<()> {
        self.check(&"")
    }

    /// [`validate`](Datum::validate), and that the datum has the loss inputs that this function needs. Every pass checks its
    /// batch so, before anything is sent.
    ///
    /// # Errors
    ///
    /// Those of [`validate`](Datum::validate), a loss input that is missing, and several targets for each token for a function other
    /// than cross-entropy.
    ///
    /// ```
    /// use tinkex::types::{Datum, LossFn};
    ///
    /// let datum = Datum::new([10, 11]).input("target_tokens", [11, 12])?;
    /// let error = datum.validate_for(&LossFn::CrossEntropy).unwrap_err();
    /// assert!(error.to_string().contains("\"weights\" is missing, which cross_entropy needs"));
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn validate_for(&self, function: &LossFn) -> Result<()> {
        self.check_for(function, &"")
    }

    /// [`validate_for`](Datum::validate_for), with the place of the datum for the error message.
    fn check_for(&self, function: &LossFn, place: &dyn Display) -> Result<()> {
        datum_checks::check_required(self, function, place)?;
        self.check(place)
    }

    /// [`validate`](Datum::validate), with the place of the datum for the error message.
    fn check(&self, place: &dyn Display) -> Result<()> {
        datum_checks::check_lengths(self, place)?;
        self.check_numbers(place)
    }

    /// Checks that all numbers can be sent, and that provenance spans cover the tokens.
    pub(crate) fn check_numbers(&self, place: &dyn Display) -> Result<()> {
        for (name, tensor) in &self.loss_fn_inputs {
            tensor.check_finite(&format_args!("the loss input {name:?}{place}"))?;
        }
        let targets = self.loss_fn_inputs.get("target_tokens").map_or(0, datum_checks::rows);
        provenance::check(&self.model_input_spans, self.model_input.len(), &format_args!("the model input{place}"))?;
        provenance::check(&self.loss_fn_input_spans, targets, &format_args!("the target tokens{place}"))
    }

    /// The number of tokens of the model input plus the number of elements of all loss inputs, which limits the size of
    /// requests in JSON.
    ///
    /// In JSON, a batch is sent in requests of at most 128 datums and 500 000 of these, as the Python client of 2025 does. A
    /// larger datum is a request by itself.
    #[must_use]
    pub fn size(&self) -> usize {
        self.model_input.len() + self.loss_fn_inputs.values().map(TensorData::len).sum::<usize>()
    }

    /// The memory of its numbers and images in bytes, for the limits of a queue and of requests in protobuf.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.model_input.heap_bytes() + self.loss_fn_inputs.values().map(TensorData::heap_bytes).sum::<usize>()
    }
}

/// The values that [`Datum::input`] accepts: a list of numbers, a [`TensorData`], or (feature `ndarray`) an array. The trait
/// is sealed.
///
/// ```
/// use tinkex::types::{Datum, TensorData};
///
/// let datum = Datum::default()
///     .input("target_tokens", vec![7_u32, 8])? // a plain list: int64, by its name
///     .input("weights", &[1, 0])? // integers are converted to float32
///     .input("my_mask", TensorData::new([true, false])?)?; // another name needs a tensor
/// assert_eq!(datum.loss_fn_inputs["weights"].as_f32(), Some(&[1.0, 0.0][..]));
/// assert_eq!(datum.loss_fn_inputs["my_mask"].as_i64(), Some(&[1, 0][..]));
/// assert!(Datum::default().input("my_mask", [1, 0]).is_err());
/// # Ok::<(), tinkex::Error>(())
/// ```
pub trait LossInput: sealed::Sealed {
    /// Converts to the tensor of the loss input with this name.
    ///
    /// # Errors
    ///
    /// A plain list whose type does not follow from the name, and a number that does not fit the type.
    fn into_tensor(self, name: &str) -> Result<TensorData>;
}

impl LossInput for TensorData {
    fn into_tensor(self, _name: &str) -> Result<TensorData> {
        Ok(self)
    }
}

impl LossInput for &TensorData {
    fn into_tensor(self, _name: &str) -> Result<TensorData> {
        Ok(self.clone())
    }
}

impl<T: Element> LossInput for Vec<T> {
    fn into_tensor(self, name: &str) -> Result<TensorData> {
        let dtype = match name {
            "target_tokens" => Dtype::Int64,
            "weights"
            | "advantages"
            | "logprobs"
            | "clip_low_threshold"
            | "clip_high_threshold"
            | "sequence_ratio_mask" => Dtype::Float32,
            _ => {
                return Err(Error::invalid_input(format!("the loss input {name:?} is a plain list of no known type"))
                    .with_hint("pass a TensorData, which has a type"));
            }
        };
        TensorData::of_dtype(self, dtype)
            .map_err(|error| Error::invalid_input(format!("the loss input {name:?}: {error}")))
    }
}

impl<T: Element> LossInput for &[T] {
    fn into_tensor(self, name: &str) -> Result<TensorData> {
        self.to_vec().into_tensor(name)
    }
}

impl<T: Element> LossInput for &Vec<T> {
    fn into_tensor(self, name: &str) -> Result<TensorData> {
        self.as_slice().into_tensor(name)
    }
}

impl<T: Element, const N: usize> LossInput for [T; N] {
    fn into_tensor(self, name: &str) -> Result<TensorData> {
        self.as_slice().into_tensor(name)
    }
}

impl<T: Element, const N: usize> LossInput for &[T; N] {
    fn into_tensor(self, name: &str) -> Result<TensorData> {
        self.as_slice().into_tensor(name)
    }
}

pub(super) mod sealed {
    use super::{Element, TensorData};

    pub trait Sealed {}

    impl Sealed for TensorData {}
    impl Sealed for &TensorData {}
    impl<T: Element> Sealed for Vec<T> {}
    impl<T: Element> Sealed for &[T] {}
    impl<T: Element> Sealed for &Vec<T> {}
    impl<T: Element, const N: usize> Sealed for [T; N] {}
    impl<T: Element, const N: usize> Sealed for &[T; N] {}
}

/// The examples of one training step. Clones are cheap: they share the examples.
///
/// A list, an array, an iterator or a single datum converts to a batch. A batch derefs to a slice of its examples.
///
/// ```
/// use tinkex::types::{Batch, Datum, ModelInput};
///
/// let batch: Batch = (0..3).map(|token| Datum::new(ModelInput::from_tokens([token]))).collect();
/// assert_eq!(batch.len(), 3);
/// assert_eq!(batch[2].model_input.to_tokens()?, [2]);
/// for datum in &batch {
///     assert_eq!(datum.model_input.len(), 1);
/// }
/// batch.validate()?;
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Batch(Arc<[Datum]>);

impl Batch {
    /// The number of examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no examples.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks all examples, as [`Datum::validate`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Datum::validate`]. The error names the datum's index.
    pub fn validate(&self) -> Result<()> {
        self.iter().enumerate().try_for_each(|(index, datum)| datum.check(&format_args!(" of datum {index}")))
    }

    /// Checks all examples, as [`Datum::validate_for`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Datum::validate_for`]. The error names the datum's index.
    pub fn validate_for(&self, function: &LossFn) -> Result<()> {
        let mut numbered = self.iter().enumerate();
        numbered.try_for_each(|(index, datum)| datum.check_for(function, &format_args!(" of datum {index}")))
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = &'a Datum;
    type IntoIter = slice::Iter<'a, Datum>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl Deref for Batch {
    type Target = [Datum];

    fn deref(&self) -> &[Datum] {
        &self.0
    }
}

impl From<Vec<Datum>> for Batch {
    fn from(data: Vec<Datum>) -> Self {
        Batch(data.into())
    }
}

impl From<&[Datum]> for Batch {
    fn from(data: &[Datum]) -> Self {
        Batch(data.into())
    }
}

impl<const N: usize> From<[Datum; N]> for Batch {
    fn from(data: [Datum; N]) -> Self {
        Batch(data.into())
    }
}

impl From<Datum> for Batch {
    fn from(datum: Datum) -> Self {
        Batch::from([datum])
    }
}

impl From<&Batch> for Batch {
    fn from(batch: &Batch) -> Self {
        batch.clone()
    }
}

impl FromIterator<Datum> for Batch {
    fn from_iter<I: IntoIterator<Item = Datum>>(data: I) -> Self {
        Batch(data.into_iter().collect())
    }
}
