//! The connection to the service.

use std::ffi::{CString, c_char};
use std::time::Duration;

use tinkex::ServiceClient;

use crate::border;
use crate::config;
use crate::error::{Error, Status};

/// `tinkex_service`.
#[derive(Debug)]
pub struct Service {
    pub(crate) client: ServiceClient,
    session_id: CString,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_service_connect(
    config_json: *const c_char,
    service: *mut *mut Service,
    error: *mut *mut Error,
) -> Status {
    let connect = |caller: border::Caller| {
        let place = caller.new_place(service, "service")?;
        let client = ServiceClient::connect(config::read(caller.optional_text(config_json, "config_json")?)?)?;
        let session_id = border::c_text(client.session_id());
        place.put_new(Service { client, session_id });
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, connect) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_service_session_id(service: *const Service) -> *const c_char {
    // SAFETY: the header says what the pointer is.
    unsafe { border::read(service, std::ptr::null(), |service| service.session_id.as_ptr()) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_service_request(
    service: *mut Service,
    method: *const c_char,
    path: *const c_char,
    body_json: *const c_char,
    response: *mut *mut c_char,
    error: *mut *mut Error,
) -> Status {
    let request = |caller: border::Caller| {
        let place = caller.new_place(response, "response")?;
        let api = caller.handle(service, "service")?.client.api();
        let path = caller.text(path, "path")?;
        let request = match caller.text(method, "method")? {
            "GET" => api.get(path),
            "POST" => api.post(path),
            "PUT" => api.put(path),
            "DELETE" => api.delete(path),
            method => return Err(Error::invalid(format!("method is {method:?}; use GET, POST, PUT or DELETE"))),
        };
        let request = match caller.optional_text(body_json, "body_json")? {
            Some(body) => request.header("content-type", "application/json").body(body),
            None => request,
        };
        place.put_text(request.send()?.text()?);
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, request) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_service_close(
    service: *mut Service,
    timeout_ms: i64,
    error: *mut *mut Error,
) -> Status {
    let close = |caller: border::Caller| {
        let timeout = u64::try_from(timeout_ms).map_err(|_| Error::invalid(format!("timeout_ms is {timeout_ms}")))?;
        caller.handle(service, "service")?.client.close(Duration::from_millis(timeout));
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, close) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_service_free(service: *mut Service) {
    // SAFETY: the header says what the pointer is.
    unsafe { border::free(service) }
}
