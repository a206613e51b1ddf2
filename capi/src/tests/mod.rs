//! Tests of what no program in C can see. `capi/tests` has those in C.

mod callbacks;
mod header;
mod settings;

use std::ffi::CStr;
use std::ptr;

use crate::border;
use crate::error::{self, Error, OK, PANICKED, Status};

/// Runs a body as the functions of the header do, and returns its status and the message of its error.
fn run(body: impl FnOnce(border::Caller) -> Result<(), Error>) -> (Status, String) {
    let mut failure = ptr::null_mut();
    // SAFETY: the error has a place, and the bodies of these tests keep the rules of the header.
    let status = unsafe { border::call(&mut failure, body) };
    (status, message(failure))
}

/// The message of an error, which is freed.
fn message(failure: *mut Error) -> String {
    // SAFETY: a function of this crate made the error, and nobody else has it.
    unsafe {
        let message = CStr::from_ptr(error::tinkex_error_message(failure)).to_str().unwrap().to_owned();
        error::tinkex_error_free(failure);
        message
    }
}

#[test]
fn a_panic_becomes_an_error() {
    let (status, message) = run(|_| panic!("index {} is out of bounds", 3));
    assert_eq!((status, &*message), (PANICKED, "the library panicked: index 3 is out of bounds; please report it"));
    assert_eq!(run(|_| std::panic::panic_any(7)).0, PANICKED);
    let number = 5_u8;
    // SAFETY: the pointer is to a number.
    assert_eq!(unsafe { border::read(&raw const number, 9, |_| panic!("no")) }, 9);
}

#[test]
fn a_panicking_drop_ends_in_free() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    // SAFETY: the pointer is from a box.
    unsafe { border::free(Box::into_raw(Box::new(Bomb))) };
}

#[test]
fn an_error_without_a_place_is_dropped() {
    // SAFETY: the error may be NULL.
    assert_eq!(unsafe { border::call(ptr::null_mut(), |_| panic!("lost")) }, PANICKED);
    assert_eq!(run(|_| Ok(())), (OK, "no error".to_owned()));
}

#[test]
fn wrong_pointers_are_refused() {
    let (numbers, aside) = ([1_u32, 2], std::ptr::without_provenance::<u32>(1));
    for (count, pointer, expected) in [
        (0, ptr::null(), None),
        (2, numbers.as_ptr(), None),
        (2, ptr::null(), Some("tokens is NULL")),
        (2, aside, Some("tokens is not aligned: is it the right pointer?")),
        (usize::MAX, numbers.as_ptr(), Some("was the count negative?")),
        (isize::MAX as usize / 4 + 1, numbers.as_ptr(), Some("was the count negative?")),
    ] {
        let (status, message) = run(|caller| {
            assert_eq!(caller.list(pointer, count, "tokens")?.len(), count);
            Ok(())
        });
        assert_eq!(status == OK, expected.is_none(), "{message}");
        assert!(message.contains(expected.unwrap_or("")), "{message}");
    }
}

#[test]
fn zero_bytes_in_texts_are_replaced() {
    assert_eq!(border::c_text("a\0b").to_str(), Ok("a\u{FFFD}b"));
}
