//! A callback that panics, as one in Rust can.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tinkex::local::LocalServer;

use super::message;
use crate::custom_loss::{LossCall, tinkex_trainer_forward_backward_custom};
use crate::error::{self, Error, OK, PANICKED};
use crate::{batch, logging, service, trainer};

unsafe extern "C-unwind" fn panicking_loss(_: *mut c_void, _: *mut LossCall) -> i32 {
    panic!("no loss today")
}

unsafe extern "C-unwind" fn panicking_log(context: *mut c_void, _: i32, _: *const c_char, _: *const c_char) {
    // SAFETY: the test gives a counter.
    let lines = unsafe { &*context.cast::<AtomicUsize>() };
    lines.fetch_add(1, Ordering::Relaxed);
    panic!("no log today")
}

#[test]
fn panicking_callbacks_are_errors_of_the_call() {
    static LINES: AtomicUsize = AtomicUsize::new(0);
    let server = LocalServer::start().unwrap();
    let config = CString::new(format!(r#"{{"base_url": {:?}, "api_key": "tml-local"}}"#, server.base_url())).unwrap();
    let (mut service, mut trainer, mut examples, mut failure) =
        (ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut::<Error>());
    let tokens = [1, 2, 3];
    // SAFETY: the test keeps the rules of the header.
    unsafe {
        let context = (&raw const LINES).cast_mut().cast();
        assert_eq!(logging::tinkex_set_log(5, Some(panicking_log), context, &mut failure), OK);
        assert_eq!(service::tinkex_service_connect(config.as_ptr(), &mut service, &mut failure), OK);
        let model = c"tinkex/bytes-tiny".as_ptr();
        assert_eq!(trainer::tinkex_trainer_create(service, model, ptr::null(), &mut trainer, &mut failure), OK);
        assert_eq!(batch::tinkex_batch_new(&mut examples, &mut failure), OK);
        assert_eq!(batch::tinkex_batch_add_text(examples, tokens.as_ptr(), ptr::null(), 3, &mut failure), OK);
        let mut result = ptr::null_mut();
        let status = tinkex_trainer_forward_backward_custom(
            trainer,
            examples,
            Some(panicking_loss),
            ptr::null_mut(),
            &mut result,
            &mut failure,
        );
        assert_eq!((status, result.is_null()), (PANICKED, true));
        let name = CStr::from_ptr(error::tinkex_status_name(status));
        assert_eq!(name, c"panicked");
        assert!(message(failure).contains("no loss today"));
        // The client still works.
        let step = trainer::tinkex_trainer_optim_step(trainer, ptr::null(), ptr::null_mut(), &mut failure);
        assert_eq!(step, OK);
        assert!(LINES.load(Ordering::Relaxed) > 0);
        logging::tinkex_set_log(0, None, ptr::null_mut(), ptr::null_mut());
        batch::tinkex_batch_free(examples);
        trainer::tinkex_trainer_free(trainer);
        service::tinkex_service_free(service);
    }
}
