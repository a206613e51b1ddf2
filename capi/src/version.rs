//! Which library and interface this is.

use std::ffi::{CStr, c_char};

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("the version is a text"),
};

#[unsafe(no_mangle)]
pub extern "C" fn tinkex_abi_version() -> u32 {
    // Checked when the crate is compiled: the build script read it from the header.
    const ABI: u32 = parse(env!("TINKEX_ABI_VERSION"));
    ABI
}

const fn parse(text: &str) -> u32 {
    let (digits, mut number, mut at) = (text.as_bytes(), 0, 0);
    while at < digits.len() {
        number = 10 * number + (digits[at] - b'0') as u32;
        at += 1;
    }
    number
}

#[unsafe(no_mangle)]
pub extern "C" fn tinkex_version() -> *const c_char {
    VERSION.as_ptr()
}
