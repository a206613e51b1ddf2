//! What every function of the interface does: check its pointers, and turn errors and panics into a status.
//!
//! A [`Caller`] stands for what the header asks of the caller: each pointer is NULL, or points to what its type says for as long as
//! the call lasts. NULL and pointers that are not aligned are refused.

use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use crate::error::{Error, OK, Status};

/// The caller of a function, who vouches for its pointers.
#[derive(Clone, Copy)]
pub(crate) struct Caller(());

/// Runs the body of a function. No panic leaves it.
///
/// # Safety
///
/// `error`, and every pointer that the body gives to the [`Caller`], is what the header says.
pub(crate) unsafe fn call(error: *mut *mut Error, body: impl FnOnce(Caller) -> Result<(), Error>) -> Status {
    // SAFETY: as for this function.
    unsafe { call_with_status(error, |caller| body(caller).map(|()| OK)) }
}

/// As [`call`], for a function with further statuses that are no error.
///
/// # Safety
///
/// As for [`call`].
pub(crate) unsafe fn call_with_status(
    error: *mut *mut Error,
    body: impl FnOnce(Caller) -> Result<Status, Error>,
) -> Status {
    let result =
        catch_unwind(AssertUnwindSafe(|| body(Caller(())))).unwrap_or_else(|panic| Err(Error::panicked(&*panic)));
    let (status, failure) = match result {
        Ok(status) => (status, None),
        Err(failure) => (failure.status(), Some(failure)),
    };
    if is_usable(error) {
        let pointer = failure.map_or(ptr::null_mut(), |failure| Box::into_raw(Box::new(failure)));
        // SAFETY: this is a place for a pointer, as the caller of this function says.
        unsafe { error.write(pointer) };
    }
    status
}

/// Reads from a handle in a function that cannot fail; returns `absent` for NULL.
///
/// # Safety
///
/// The pointer is NULL or a handle that is not freed during the call.
pub(crate) unsafe fn read<T, R>(pointer: *const T, absent: R, body: impl FnOnce(&T) -> R) -> R {
    let read = || Caller(()).handle(pointer, "").map(body);
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => value,
        _ => absent,
    }
}

/// Frees a handle. Does nothing for NULL.
///
/// # Safety
///
/// The pointer is NULL or a handle from [`Place::put_new`] that is not freed yet and that nobody uses.
pub(crate) unsafe fn free<T>(pointer: *mut T) {
    if is_usable(pointer) {
        // SAFETY: as for this function. A panic of the drop ends here: nobody could do anything about it.
        catch_unwind(AssertUnwindSafe(|| drop(unsafe { Box::from_raw(pointer) }))).ok();
    }
}

fn is_usable<T>(pointer: *const T) -> bool {
    !pointer.is_null() && pointer.is_aligned()
}

fn check<T>(pointer: *const T, name: &str) -> Result<(), Error> {
    if pointer.is_null() {
        return Err(Error::invalid(format!("{name} is NULL")));
    }
    if !pointer.is_aligned() {
        return Err(Error::invalid(format!("{name} is not aligned: is it the right pointer?")));
    }
    Ok(())
}

fn check_list<T>(pointer: *const T, count: usize, name: &str) -> Result<(), Error> {
    check(pointer, name)?;
    if count > isize::MAX as usize / size_of::<T>() {
        return Err(Error::invalid(format!("{name} cannot have {count} elements: was the count negative?")));
    }
    Ok(())
}

impl Caller {
    /// The handle behind a pointer.
    pub(crate) fn handle<'a, T>(self, pointer: *const T, name: &str) -> Result<&'a T, Error> {
        check(pointer, name)?;
        // SAFETY: the caller gives a handle that is not freed during the call.
        Ok(unsafe { &*pointer })
    }

    /// The place for a plain value.
    pub(crate) fn place<T>(self, pointer: *mut T, name: &str) -> Result<Place<T>, Error> {
        check(pointer, name)?;
        Ok(Place(pointer))
    }

    /// The place for a new handle or text, which is NULL until then.
    pub(crate) fn new_place<T>(self, pointer: *mut *mut T, name: &str) -> Result<Place<*mut T>, Error> {
        check(pointer, name)?;
        // SAFETY: the caller gives a place for a pointer.
        unsafe { pointer.write(ptr::null_mut()) };
        Ok(Place(pointer))
    }

    /// The place for a new handle that the caller may not want.
    pub(crate) fn optional_place<T>(self, pointer: *mut *mut T, name: &str) -> Result<Option<Place<*mut T>>, Error> {
        if pointer.is_null() { Ok(None) } else { self.new_place(pointer, name).map(Some) }
    }

    /// A text that must be given.
    pub(crate) fn text<'a>(self, pointer: *const c_char, name: &str) -> Result<&'a str, Error> {
        check(pointer, name)?;
        // SAFETY: the caller gives a text that ends with a zero byte.
        let text = unsafe { CStr::from_ptr(pointer) };
        text.to_str().map_err(|error| {
            Error::invalid(format!("{name} is not UTF-8: no character begins at byte {}", error.valid_up_to()))
        })
    }

    /// A text that may be NULL.
    pub(crate) fn optional_text<'a>(self, pointer: *const c_char, name: &str) -> Result<Option<&'a str>, Error> {
        if pointer.is_null() { Ok(None) } else { self.text(pointer, name).map(Some) }
    }

    /// A list of numbers. It may be NULL if it is empty.
    pub(crate) fn list<'a, T>(self, pointer: *const T, count: usize, name: &str) -> Result<&'a [T], Error> {
        if count == 0 {
            return Ok(&[]);
        }
        check_list(pointer, count, name)?;
        // SAFETY: the caller gives a pointer to `count` elements, which do not change during the call.
        Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
    }

    /// The caller's space for `count` numbers.
    pub(crate) fn space<T>(self, pointer: *mut T, count: usize, name: &str) -> Result<Space<T>, Error> {
        if count > 0 {
            check_list(pointer, count, name)?;
        }
        Ok(Space { pointer, count })
    }
}

/// Where a function puts its result.
pub(crate) struct Place<T>(*mut T);

impl<T> Place<T> {
    pub(crate) fn put(self, value: T) {
        // SAFETY: a `Caller` checked the pointer, and vouches that it is a place for a value.
        unsafe { self.0.write(value) };
    }
}

impl<T> Place<*mut T> {
    pub(crate) fn put_new(self, value: T) {
        self.put(Box::into_raw(Box::new(value)));
    }
}

impl Place<*mut c_char> {
    /// Puts a text that the caller frees.
    pub(crate) fn put_text(self, text: &str) {
        self.put(c_text(text).into_raw());
    }
}

/// Space for numbers, which may not be initialized.
pub(crate) struct Space<T> {
    pointer: *mut T,
    count: usize,
}

impl<T: Copy> Space<T> {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Copies as many values as there is space for.
    pub(crate) fn fill(self, values: impl IntoIterator<Item = T>) {
        for (index, value) in values.into_iter().take(self.count).enumerate() {
            // SAFETY: the index is below the count, for which a `Caller` vouches.
            unsafe { self.pointer.add(index).write(value) };
        }
    }
}

/// A text for the other side. Zero bytes, which would end it, become U+FFFD.
pub(crate) fn c_text(text: &str) -> CString {
    CString::new(text).unwrap_or_else(|_| CString::new(text.replace('\0', "\u{FFFD}")).unwrap_or_default())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_string_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: the caller gives a text from `Place::put_text` that is not freed yet.
        drop(unsafe { CString::from_raw(text) });
    }
}
