//! The examples of a training step.

use std::collections::BTreeMap;
use std::ffi::c_char;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use tinkex::toolkit::WeightedTokens;
use tinkex::types::{Datum, Element, LossInput, ModelInput, TensorData};

use crate::border;
use crate::error::{Error, Status};
use crate::json;

/// `tinkex_batch`.
#[derive(Debug, Default)]
pub struct Batch(Mutex<Examples>);

#[derive(Debug, Default)]
struct Examples {
    data: Vec<Datum>,
    /// What the calls share that were made since the last change.
    submitted: Option<tinkex::types::Batch>,
}

/// An example, as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DatumJson {
    model_input: ModelInput,
    loss_fn_inputs: BTreeMap<String, TensorData>,
}

impl Batch {
    /// The examples, to be sent.
    pub(crate) fn get(&self) -> tinkex::types::Batch {
        let mut examples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Examples { data, submitted } = &mut *examples;
        submitted.get_or_insert_with(|| data.as_slice().into()).clone()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<Datum>) -> T) -> T {
        let mut examples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        examples.submitted = None;
        change(&mut examples.data)
    }

    fn push(&self, datum: Datum) {
        self.change(|data| data.push(datum));
    }

    /// Sets a loss input of the last example.
    fn set(&self, name: &str, values: impl LossInput) -> Result<(), Error> {
        self.change(|data| {
            let last = data.last_mut().ok_or_else(|| Error::invalid("the batch has no datum to set an input of"))?;
            last.loss_fn_inputs.append(&mut Datum::default().input(name, values)?.loss_fn_inputs);
            Ok(())
        })
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).data.len()
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_batch_new(batch: *mut *mut Batch, error: *mut *mut Error) -> Status {
    let new = |caller: border::Caller| {
        caller.new_place(batch, "batch")?.put_new(Batch::default());
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, new) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_batch_add_text(
    batch: *mut Batch,
    tokens: *const u32,
    weights: *const f32,
    count: usize,
    error: *mut *mut Error,
) -> Status {
    let add = |caller: border::Caller| {
        let batch = caller.handle(batch, "batch")?;
        let tokens = caller.list(tokens, count, "tokens")?;
        let weights =
            if weights.is_null() { vec![1.0; tokens.len()] } else { caller.list(weights, count, "weights")?.to_vec() };
        let datum = WeightedTokens::from_parts(tokens, weights)?.datum()?;
        batch.push(datum);
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, add) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_batch_add_tokens(
    batch: *mut Batch,
    tokens: *const u32,
    count: usize,
    error: *mut *mut Error,
) -> Status {
    let add = |caller: border::Caller| {
        let batch = caller.handle(batch, "batch")?;
        let tokens = caller.list(tokens, count, "tokens")?;
        if tokens.is_empty() {
            return Err(Error::invalid("tokens are empty"));
        }
        batch.push(Datum::new(tokens));
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, add) }
}

/// Sets a loss input of the last example to these numbers.
fn set_list<T: Element>(
    caller: border::Caller,
    batch: *mut Batch,
    name: *const c_char,
    values: *const T,
    count: usize,
) -> Result<(), Error> {
    let batch = caller.handle(batch, "batch")?;
    let name = caller.text(name, "name")?;
    batch.set(name, TensorData::new(caller.list(values, count, "values")?.to_vec())?)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_batch_set_floats(
    batch: *mut Batch,
    name: *const c_char,
    values: *const f32,
    count: usize,
    error: *mut *mut Error,
) -> Status {
    let set = |caller: border::Caller| set_list(caller, batch, name, values, count);
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, set) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_batch_set_integers(
    batch: *mut Batch,
    name: *const c_char,
    values: *const i64,
    count: usize,
    error: *mut *mut Error,
) -> Status {
    let set = |caller: border::Caller| set_list(caller, batch, name, values, count);
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, set) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_batch_add_json(
    batch: *mut Batch,
    datum_json: *const c_char,
    error: *mut *mut Error,
) -> Status {
    let add = |caller: border::Caller| {
        let batch = caller.handle(batch, "batch")?;
        let DatumJson { model_input, loss_fn_inputs } =
            json::read(caller.text(datum_json, "datum_json")?, "datum_json")?;
        let datum = loss_fn_inputs
            .into_iter()
            .try_fold(Datum::new(model_input), |datum, (name, tensor)| datum.input(name, tensor))?;
        batch.push(datum);
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, add) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_batch_count(batch: *const Batch) -> usize {
    // SAFETY: the header says what the pointer is.
    unsafe { border::read(batch, 0, Batch::count) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_batch_free(batch: *mut Batch) {
    // SAFETY: the header says what the pointer is.
    unsafe { border::free(batch) }
}
