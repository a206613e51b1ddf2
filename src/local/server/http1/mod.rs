//! HTTP/1.1 as bytes: requests parsed from a buffer, responses written to one.
//!
//! Decides what a well-formed request is and how large it may be. Knows no sockets, no threads and no clock.

mod content_encoding;
mod media_types;
mod message;
mod parser;
#[cfg(test)]
mod tests;

pub(crate) use self::content_encoding::decode_content;
pub(crate) use self::message::{Request, Response};
pub(crate) use self::parser::{Parsed, Parser};
