//! Losses that the program computes in a callback.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_void};

use tinkex::CustomLoss;
use tinkex::ndarray::Array1;
use tinkex::types::Datum;

use crate::batch::Batch;
use crate::border::{self, Caller};
use crate::error::{Error, Status};
use crate::outcome::Outcome;
use crate::pending::{Pending, finish, submit};
use crate::trainer::{Trainer, operation};

/// `tinkex_loss_function`. A panic in it unwinds to the library, which catches it: the callback may itself be Rust.
pub type LossFunction = Option<unsafe extern "C-unwind" fn(context: *mut c_void, call: *mut LossCall) -> i32>;

/// `tinkex_loss_call`.
#[repr(C)]
#[derive(Debug)]
pub struct LossCall {
    pub count: usize,
    pub lengths: *const usize,
    pub logprobs: *const *const f32,
    pub gradients: *const *mut f32,
    pub loss: f64,
    metrics: *mut BTreeMap<String, f64>,
}

/// Runs the callback.
fn evaluate(
    function: unsafe extern "C-unwind" fn(*mut c_void, *mut LossCall) -> i32,
    context: *mut c_void,
    logprobs: &[Array1<f32>],
) -> Result<CustomLoss, String> {
    let logprobs: Vec<Vec<f32>> = logprobs.iter().map(|logprobs| logprobs.to_vec()).collect();
    let lengths: Vec<usize> = logprobs.iter().map(Vec::len).collect();
    let mut gradients: Vec<Vec<f32>> = lengths.iter().map(|&length| vec![0.0; length]).collect();
    let logprob_pointers: Vec<*const f32> = logprobs.iter().map(|logprobs| logprobs.as_ptr()).collect();
    let gradient_pointers: Vec<*mut f32> = gradients.iter_mut().map(|gradients| gradients.as_mut_ptr()).collect();
    let mut metrics = BTreeMap::new();
    let mut call = LossCall {
        count: lengths.len(),
        lengths: lengths.as_ptr(),
        logprobs: logprob_pointers.as_ptr(),
        gradients: gradient_pointers.as_ptr(),
        // A callback that forgets to set the loss gets an error.
        loss: f64::NAN,
        metrics: &raw mut metrics,
    };
    // SAFETY: the caller gives a function of this type, and a context for it. The arrays live until it returns.
    let status = unsafe { function(context, &raw mut call) };
    if status != 0 {
        return Err(format!("it returned {status}"));
    }
    let loss = call.loss;
    let mut custom = CustomLoss::new(loss, gradients.into_iter().map(Array1::from).collect());
    custom.metrics = metrics;
    Ok(custom)
}

operation! {
    tinkex_trainer_forward_backward_custom tinkex_trainer_submit_forward_backward_custom
    (batch: *const Batch, function: LossFunction, context: *mut c_void) |caller, client| {
        let pass = {
            let batch = caller.handle(batch, "batch")?.get();
            let function = function.ok_or_else(|| Error::invalid("function is NULL"))?;
            (batch, move |_: &[Datum], logprobs: &[Array1<f32>]| evaluate(function, context, logprobs))
        };
        client.forward_backward_custom(pass.0, pass.1);
        client.submit_forward_backward_custom(pass.0, pass.1);
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_loss_metric(
    call: *mut LossCall,
    name: *const c_char,
    value: f64,
    error: *mut *mut Error,
) -> Status {
    let add = |caller: Caller| {
        let metrics = caller.handle(call, "call")?.metrics;
        let name = caller.text(name, "name")?.to_owned();
        if metrics.is_null() {
            return Err(Error::invalid("call is not one that the library made"));
        }
        // SAFETY: the library set the pointer for the time of the callback, in which this function is called.
        unsafe { &mut *metrics }.insert(name, value);
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, add) }
}
