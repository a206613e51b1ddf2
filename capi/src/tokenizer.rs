//! Text to tokens and back.

use std::ffi::c_char;

use crate::border::{self, Caller};
use crate::error::{Error, Status};

/// `tinkex_tokenizer`.
#[derive(Debug)]
pub struct Tokenizer(pub(crate) tinkex::Tokenizer);

#[cfg(feature = "tokenizers")]
fn from_path(path: &str) -> Result<Tokenizer, Error> {
    Ok(Tokenizer(tinkex::Tokenizer::from_path(path)?))
}

#[cfg(not(feature = "tokenizers"))]
fn from_path(path: &str) -> Result<Tokenizer, Error> {
    Err(Error::config(format!(
        "the tokenizer {path:?} is not supported by this build; build the library with the feature tokenizers"
    )))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_tokenizer_from_path(
    path: *const c_char,
    tokenizer: *mut *mut Tokenizer,
    error: *mut *mut Error,
) -> Status {
    let read = |caller: Caller| {
        let place = caller.new_place(tokenizer, "tokenizer")?;
        place.put_new(from_path(caller.text(path, "path")?)?);
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, read) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_tokenizer_encode(
    tokenizer: *const Tokenizer,
    text: *const c_char,
    tokens: *mut u32,
    capacity: usize,
    count: *mut usize,
    error: *mut *mut Error,
) -> Status {
    let encode = |caller: Caller| {
        let place = caller.place(count, "count")?;
        let space = caller.space(tokens, capacity, "tokens")?;
        let encoded = caller.handle(tokenizer, "tokenizer")?.0.encode(caller.text(text, "text")?)?;
        place.put(encoded.len());
        if encoded.len() > space.len() {
            let (needed, given) = (encoded.len(), space.len());
            return Err(Error::invalid(format!("the text has {needed} tokens, but there is space for {given}")));
        }
        space.fill(encoded);
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, encode) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_tokenizer_decode(
    tokenizer: *const Tokenizer,
    tokens: *const u32,
    count: usize,
    text: *mut *mut c_char,
    error: *mut *mut Error,
) -> Status {
    let decode = |caller: Caller| {
        let place = caller.new_place(text, "text")?;
        let tokens = caller.list(tokens, count, "tokens")?;
        place.put_text(&caller.handle(tokenizer, "tokenizer")?.0.decode(tokens)?);
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, decode) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_tokenizer_eos_token(tokenizer: *const Tokenizer) -> i64 {
    // SAFETY: the header says what the pointer is.
    unsafe { border::read(tokenizer, -1, |tokenizer| tokenizer.0.eos_token().map_or(-1, i64::from)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_tokenizer_free(tokenizer: *mut Tokenizer) {
    // SAFETY: the header says what the pointer is.
    unsafe { border::free(tokenizer) }
}
