//! Results that are not there yet.

use std::ffi::c_char;
use std::fmt;
use std::time::Duration;

use tinkex::ServiceClient;
use tinkex::types::{
    ForwardBackwardOutput, LoadWeightsResponse, OptimStepResponse, RequestKind, SampleResponse, SaveWeightsResponse,
    UnloadModelResponse,
};

use crate::border::{self, Caller, Place};
use crate::error::{Error, NOT_READY, OK, Status};
use crate::outcome::Outcome;
use crate::service::Service;

/// `tinkex_pending`.
#[derive(Debug)]
pub struct Pending(Box<dyn Waiting>);

/// A pending result of any type.
trait Waiting: fmt::Debug + Send + Sync {
    /// Waits for this long, or as long as the client's settings say. `None` if the result is not ready.
    fn wait(&self, timeout: Option<Duration>) -> Option<tinkex::Result<Outcome>>;
    fn is_ready(&self) -> bool;
    fn request_id(&self) -> Option<String>;
    fn cancel(&self);
}

impl<T: Into<Outcome> + Send + 'static> Waiting for tinkex::Pending<T> {
    fn wait(&self, timeout: Option<Duration>) -> Option<tinkex::Result<Outcome>> {
        let result = match timeout {
            Some(timeout) => self.wait_timeout(timeout),
            None => tinkex::wait_any(std::slice::from_ref(self)).and_then(|_| self.try_get()),
        };
        result.map(|result| result.map(Into::into))
    }

    fn is_ready(&self) -> bool {
        self.is_ready()
    }

    fn request_id(&self) -> Option<String> {
        self.request_id()
    }

    fn cancel(&self) {
        self.cancel();
    }
}

/// The body of a function that submits: reads the arguments, and submits. The handle is NULL until then, whatever is wrong, and nothing
/// is sent unless there is a place for it.
pub(crate) fn submit<T: Into<Outcome> + Send + 'static>(
    caller: Caller,
    pending: *mut *mut Pending,
    run: impl FnOnce() -> Result<tinkex::Pending<T>, Error>,
) -> Result<(), Error> {
    let place = caller.new_place(pending, "pending")?;
    place.put_new(Pending(Box::new(run()?)));
    Ok(())
}

/// The body of a function that blocks: reads the arguments, and waits for the result, which is NULL until then.
pub(crate) fn finish<T: Into<Outcome>>(
    caller: Caller,
    result: *mut *mut Outcome,
    run: impl FnOnce() -> Result<T, Error>,
) -> Result<(), Error> {
    let place: Option<Place<_>> = caller.optional_place(result, "result")?;
    let outcome = run()?.into();
    if let Some(place) = place {
        place.put_new(outcome);
    }
    Ok(())
}

/// The result of a request by its id. The kinds are named after the functions that submit.
fn of_request(service: &ServiceClient, kind: &str, id: &str) -> Result<Pending, Error> {
    Ok(Pending(match kind {
        "forward" => Box::new(service.pending::<ForwardBackwardOutput>(id, RequestKind::Forward)),
        "forward_backward" => Box::new(service.pending::<ForwardBackwardOutput>(id, RequestKind::ForwardBackward)),
        "optim_step" => Box::new(service.pending::<OptimStepResponse>(id, RequestKind::OptimStep)),
        "save_state" => Box::new(service.pending::<SaveWeightsResponse>(id, RequestKind::SaveWeights)),
        "load_state" => Box::new(service.pending::<LoadWeightsResponse>(id, RequestKind::LoadWeights)),
        "save_weights_for_sampler" => {
            Box::new(service.pending::<SaveWeightsResponse>(id, RequestKind::SaveWeightsForSampler))
        }
        "unload_model" => Box::new(service.pending::<UnloadModelResponse>(id, RequestKind::UnloadModel)),
        "sample" => Box::new(service.pending::<SampleResponse>(id, RequestKind::Sample)),
        _ => {
            return Err(Error::invalid(format!(
                "kind is {kind:?}; use the name of an operation, such as \"optim_step\""
            )));
        }
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_service_pending(
    service: *mut Service,
    kind: *const c_char,
    request_id: *const c_char,
    pending: *mut *mut Pending,
    error: *mut *mut Error,
) -> Status {
    let find = |caller: Caller| {
        let place = caller.new_place(pending, "pending")?;
        let service = &caller.handle(service, "service")?.client;
        let (kind, id) = (caller.text(kind, "kind")?, caller.text(request_id, "request_id")?);
        place.put_new(of_request(service, kind, id)?);
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, find) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_pending_wait(
    pending: *mut Pending,
    timeout_ms: i64,
    result: *mut *mut Outcome,
    error: *mut *mut Error,
) -> Status {
    let wait = |caller: Caller| {
        let place = caller.optional_place(result, "result")?;
        let timeout = match timeout_ms {
            -1 => None,
            _ => {
                let wrong = |_| Error::invalid(format!("timeout_ms is {timeout_ms}; -1 waits without a timeout"));
                Some(Duration::from_millis(u64::try_from(timeout_ms).map_err(wrong)?))
            }
        };
        let Some(outcome) = caller.handle(pending, "pending")?.0.wait(timeout) else { return Ok(NOT_READY) };
        let outcome = outcome?;
        if let Some(place) = place {
            place.put_new(outcome);
        }
        Ok(OK)
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call_with_status(error, wait) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_pending_is_ready(pending: *const Pending) -> i32 {
    // SAFETY: the header says what the pointer is.
    unsafe { border::read(pending, 0, |pending| pending.0.is_ready().into()) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_pending_request_id(pending: *const Pending) -> *mut c_char {
    let id = |pending: &Pending| pending.0.request_id().map(|id| border::c_text(&id));
    // SAFETY: the header says what the pointer is.
    let id = unsafe { border::read(pending, None, id) };
    id.map_or(std::ptr::null_mut(), std::ffi::CString::into_raw)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_pending_cancel(pending: *mut Pending) {
    // SAFETY: the header says what the pointer is.
    unsafe { border::read(pending, (), |pending| pending.0.cancel()) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_pending_free(pending: *mut Pending) {
    // SAFETY: the header says what the pointer is.
    unsafe { border::free(pending) }
}
