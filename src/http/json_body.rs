//! Bodies of requests in JSON.

use std::io::{Result as IoResult, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter};

use crate::error::{Error, Result};

/// Writes a request's body.
pub(crate) fn to_json(operation: &'static str, body: &(impl Serialize + ?Sized)) -> Result<Vec<u8>> {
    let mut buffer = Vec::with_capacity(128);
    write_json(operation, body, &mut buffer).map(|()| buffer)
}

/// Writes a request's body at the end of this buffer.
pub(crate) fn write_json(
    operation: &'static str,
    body: &(impl Serialize + ?Sized),
    buffer: &mut Vec<u8>,
) -> Result<()> {
    body.serialize(&mut Serializer::with_formatter(buffer, Weights)).map_err(|error| {
        Error::invalid_input("the request cannot be written as JSON").with_operation(operation).with_source(error)
    })
}

/// Writes the usual weights of tokens, 0 and 1, without asking for their digits.
struct Weights;

const ZERO: u32 = 0.0_f32.to_bits();
const ONE: u32 = 1.0_f32.to_bits();

impl Formatter for Weights {
    fn write_f32<W: Write + ?Sized>(&mut self, writer: &mut W, value: f32) -> IoResult<()> {
        match value.to_bits() {
            ZERO => writer.write_all(b"0.0"),
            ONE => writer.write_all(b"1.0"),
            _ => CompactFormatter.write_f32(writer, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    #[test]
    fn weights_are_written_as_ever() {
        let weights = [0.0_f32, -0.0, 1.0, -1.0, 0.5, f32::MIN_POSITIVE, f32::NAN];
        assert_eq!(to_json("", &weights).unwrap(), b"[0.0,-0.0,1.0,-1.0,0.5,1.1754944e-38,null]");
    }

    quickcheck! {
        fn a_body_is_that_of_serde_json(floats: Vec<f32>, numbers: Vec<i64>, text: String) -> bool {
            let body = (floats, numbers, text);
            to_json("", &body).unwrap() == serde_json::to_vec(&body).unwrap()
        }
    }
}
