//! A text that does not grow without end.

use std::io::{self, Write};

use crate::error::{Error, Result};

/// How many bytes a text may have.
pub(super) const MAX_TEXT: usize = 64 << 20;

/// A text of at most a number of bytes.
pub(super) struct LimitedOutput {
    bytes: Vec<u8>,
    limit: usize,
    is_full: bool,
}

impl LimitedOutput {
    pub(super) fn new(limit: usize) -> Self {
        LimitedOutput { bytes: Vec::new(), limit, is_full: false }
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    pub(super) fn into_text(self) -> Result<String> {
        let invalid = |error| Error::invalid_input("the chat template's text is not UTF-8").with_source(error);
        String::from_utf8(self.bytes).map_err(invalid)
    }
}

impl Write for LimitedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len().saturating_add(bytes.len()) > self.limit {
            self.is_full = true;
            return Err(io::Error::other("the text is too long"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
