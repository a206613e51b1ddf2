//! The result of a call.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::sync::OnceLock;

use serde::Serialize;
use tinkex::serde_json;
use tinkex::types::{
    ForwardBackwardOutput, LoadWeightsResponse, OptimStepResponse, SampleResponse, SaveWeightsResponse,
    UnloadModelResponse,
};

use crate::border;
use crate::error::{Error, Status};

/// `tinkex_result`.
#[derive(Debug)]
pub struct Outcome {
    kind: Kind,
    /// Written when it is asked for: the log-probabilities of a large batch are many numbers.
    json: OnceLock<CString>,
    path: Option<CString>,
    stop_reasons: Vec<CString>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Kind {
    Pass(ForwardBackwardOutput),
    Step(OptimStepResponse),
    Save(SaveWeightsResponse),
    Load(LoadWeightsResponse),
    Unload(UnloadModelResponse),
    Samples(SampleResponse),
}

impl From<Kind> for Outcome {
    fn from(kind: Kind) -> Self {
        Outcome { kind, json: OnceLock::new(), path: None, stop_reasons: Vec::new() }
    }
}

impl From<ForwardBackwardOutput> for Outcome {
    fn from(output: ForwardBackwardOutput) -> Self {
        Kind::Pass(output).into()
    }
}

impl From<OptimStepResponse> for Outcome {
    fn from(response: OptimStepResponse) -> Self {
        Kind::Step(response).into()
    }
}

impl From<SaveWeightsResponse> for Outcome {
    fn from(response: SaveWeightsResponse) -> Self {
        let path = Some(border::c_text(&response.path));
        Outcome { path, ..Kind::Save(response).into() }
    }
}

impl From<LoadWeightsResponse> for Outcome {
    fn from(response: LoadWeightsResponse) -> Self {
        Kind::Load(response).into()
    }
}

impl From<UnloadModelResponse> for Outcome {
    fn from(response: UnloadModelResponse) -> Self {
        Kind::Unload(response).into()
    }
}

impl From<SampleResponse> for Outcome {
    fn from(response: SampleResponse) -> Self {
        let reasons = response.sequences.iter().map(|sequence| border::c_text(sequence.stop_reason.as_str()));
        let stop_reasons = reasons.collect();
        Outcome { stop_reasons, ..Kind::Samples(response).into() }
    }
}

impl Outcome {
    fn json(&self) -> CString {
        // Types of numbers, texts and maps with text keys can always be written.
        border::c_text(&serde_json::to_string(&self.kind).unwrap_or_default())
    }

    fn metrics(&self) -> Option<&BTreeMap<String, f64>> {
        match &self.kind {
            Kind::Pass(output) => Some(&output.metrics),
            Kind::Step(response) => response.metrics.as_ref(),
            _ => None,
        }
    }

    fn count(&self) -> usize {
        match &self.kind {
            Kind::Pass(output) => output.loss_fn_outputs.len(),
            Kind::Samples(response) => response.sequences.len(),
            _ => 0,
        }
    }

    fn logprobs(&self, index: usize) -> Result<&[f32], Error> {
        let logprobs = match &self.kind {
            Kind::Pass(output) => output.loss_fn_outputs.get(index).map(|output| output.logprobs()),
            Kind::Samples(response) => response.sequences.get(index).map(|sequence| sequence.logprobs.as_deref()),
            _ => return Err(Error::invalid("the result is not one of a pass or of samples, which have logprobs")),
        };
        logprobs
            .ok_or_else(|| self.no_such(index))?
            .ok_or_else(|| Error::invalid(format!("the service sent no logprobs of element {index}")))
    }

    fn tokens(&self, index: usize) -> Result<&[u32], Error> {
        let Kind::Samples(response) = &self.kind else {
            return Err(Error::invalid("the result is not one of samples, which have tokens"));
        };
        response.sequences.get(index).map(|sequence| &*sequence.tokens).ok_or_else(|| self.no_such(index))
    }

    fn no_such(&self, index: usize) -> Error {
        Error::invalid(format!("index is {index}, but the result has {} elements", self.count()))
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_result_json(result: *const Outcome) -> *const c_char {
    let json = |result: &Outcome| result.json.get_or_init(|| result.json()).as_ptr();
    // SAFETY: the header says what the pointer is.
    unsafe { border::read(result, std::ptr::null(), json) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_result_path(result: *const Outcome) -> *const c_char {
    let path = |result: &Outcome| result.path.as_deref().map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: the header says what the pointer is.
    unsafe { border::read(result, std::ptr::null(), path) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_result_metric(
    result: *const Outcome,
    name: *const c_char,
    value: *mut f64,
    error: *mut *mut Error,
) -> Status {
    let metric = |caller: border::Caller| {
        let place = caller.place(value, "value")?;
        let result = caller.handle(result, "result")?;
        let name = caller.text(name, "name")?;
        let metrics = result.metrics().ok_or_else(|| Error::invalid("the result has no metrics"))?;
        let number = metrics.get(name).ok_or_else(|| {
            let known: Vec<_> = metrics.keys().map(String::as_str).collect();
            Error::invalid(format!("the result has no metric {name:?}; it has {}", known.join(", ")))
        })?;
        place.put(*number);
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, metric) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_result_count(result: *const Outcome) -> usize {
    // SAFETY: the header says what the pointer is.
    unsafe { border::read(result, 0, Outcome::count) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_result_logprobs(
    result: *const Outcome,
    index: usize,
    logprobs: *mut *const f32,
    count: *mut usize,
    error: *mut *mut Error,
) -> Status {
    let borrow = |caller: border::Caller| {
        let places = (caller.place(logprobs, "logprobs")?, caller.place(count, "count")?);
        let numbers = caller.handle(result, "result")?.logprobs(index)?;
        places.0.put(numbers.as_ptr());
        places.1.put(numbers.len());
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, borrow) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_result_tokens(
    result: *const Outcome,
    index: usize,
    tokens: *mut *const u32,
    count: *mut usize,
    error: *mut *mut Error,
) -> Status {
    let borrow = |caller: border::Caller| {
        let places = (caller.place(tokens, "tokens")?, caller.place(count, "count")?);
        let numbers = caller.handle(result, "result")?.tokens(index)?;
        places.0.put(numbers.as_ptr());
        places.1.put(numbers.len());
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, borrow) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_result_stop_reason(result: *const Outcome, index: usize) -> *const c_char {
    let reason = |result: &Outcome| result.stop_reasons.get(index).map_or(std::ptr::null(), |reason| reason.as_ptr());
    // SAFETY: the header says what the pointer is.
    unsafe { border::read(result, std::ptr::null(), reason) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_result_free(result: *mut Outcome) {
    // SAFETY: the header says what the pointer is.
    unsafe { border::free(result) }
}
