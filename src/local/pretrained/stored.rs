//! Where a tensor lies in a file, and how it is read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::encoding::Encoding;
use crate::error::{Error, ErrorKind, Result};
use crate::local::model::Cancellation;

/// How many numbers are decoded at a time: they fit into the processor's cache.
const PIECE: usize = 1 << 16;

/// A tensor in a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredTensor {
    /// What the file calls it.
    pub(super) label: String,
    /// Which of the checkpoint's files it is in.
    pub(super) file: usize,
    /// Where it begins in the file.
    pub(super) offset: u64,
    pub(crate) shape: Vec<usize>,
    pub(crate) encoding: Encoding,
    /// If the two halves of each head's rows are interleaved, as llama.cpp does for its way of rotating: the number of heads.
    pub(super) interleaved_heads: Option<usize>,
}

impl StoredTensor {
    /// Its name in the file.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// How many numbers it has.
    pub(crate) fn len(&self) -> usize {
        let (block, block_bytes) = self.encoding.block();
        usize::try_from(self.bytes()).unwrap_or_default() / block_bytes * block
    }

    /// Its bytes in the file.
    pub(super) fn bytes(&self) -> u64 {
        self.encoding.bytes(&self.shape).unwrap_or_default()
    }

    /// Reads the numbers, row by row, and calls `sink` with a piece at a time.
    pub(crate) fn read(
        &self,
        path: &Path,
        cancellation: &Cancellation,
        sink: &mut dyn FnMut(&[f32]) -> Result<()>,
    ) -> Result<()> {
        let (block, block_bytes) = self.encoding.block();
        // A head at a time, if its rows have to be put into order.
        let columns = self.shape.last().copied().unwrap_or(1).max(1);
        let head = self.interleaved_heads.map(|heads| self.len() / heads.max(1));
        let piece = head.unwrap_or(PIECE);
        let mut file = File::open(path).map_err(|error| self.unreadable(path, error))?;
        file.seek(SeekFrom::Start(self.offset)).map_err(|error| self.unreadable(path, error))?;
        let (mut bytes, mut numbers, mut ordered) = (Vec::new(), Vec::new(), Vec::new());
        let mut remaining = self.len();
        while remaining > 0 {
            if cancellation.is_cancelled() {
                return Err(cancelled());
            }
            let count = piece.min(remaining);
            remaining -= count;
            bytes.resize(count / block * block_bytes, 0);
            file.read_exact(&mut bytes).map_err(|error| self.unreadable(path, error))?;
            numbers.clear();
            self.encoding.decode(&bytes, &mut numbers);
            if !numbers.iter().all(|number| number.is_finite()) {
                let message =
                    format!("the tensor {} of {} has numbers that are not finite", self.label, path.display());
                return Err(Error::new(ErrorKind::Decode, message)
                    .with_hint("the file is damaged, or the training that made it failed; download it again"));
            }
            if head.is_some() {
                put_halves_apart(&numbers, columns, &mut ordered);
                sink(&ordered)?;
            } else {
                sink(&numbers)?;
            }
        }
        Ok(())
    }

    /// Whether another tensor is stored as the same bytes.
    pub(super) fn is_same(
        &self,
        path: &Path,
        other: &StoredTensor,
        other_path: &Path,
        cancellation: &Cancellation,
    ) -> Result<bool> {
        if (self.encoding, &self.shape) != (other.encoding, &other.shape) {
            return Ok(false);
        }
        let data = |tensor: &StoredTensor, path: &Path| -> io::Result<BufReader<io::Take<File>>> {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(tensor.offset))?;
            Ok(BufReader::with_capacity(PIECE, file.take(tensor.bytes())))
        };
        let mut ours = data(self, path).map_err(|error| self.unreadable(path, error))?;
        let mut theirs = data(other, other_path).map_err(|error| other.unreadable(other_path, error))?;
        loop {
            if cancellation.is_cancelled() {
                return Err(cancelled());
            }
            let ours_next = ours.fill_buf().map_err(|error| self.unreadable(path, error))?;
            let theirs_next = theirs.fill_buf().map_err(|error| other.unreadable(other_path, error))?;
            let count = ours_next.len().min(theirs_next.len());
            if ours_next[..count] != theirs_next[..count] {
                return Ok(false);
            }
            if count == 0 {
                return Ok(ours_next.is_empty() && theirs_next.is_empty());
            }
            ours.consume(count);
            theirs.consume(count);
        }
    }

    fn unreadable(&self, path: &Path, error: io::Error) -> Error {
        let message = format!("the tensor {} of {} cannot be read: {error}", self.label, path.display());
        Error::new(ErrorKind::Io, message).with_source(error)
    }
}

/// Puts the even rows of a head before the odd ones.
fn put_halves_apart(rows: &[f32], columns: usize, ordered: &mut Vec<f32>) {
    ordered.clear();
    for first in [0, 1] {
        for row in rows.chunks_exact(columns).skip(first).step_by(2) {
            ordered.extend_from_slice(row);
        }
    }
}

pub(super) fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "loading the model was cancelled")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaved_rows_become_halves() {
        let mut ordered = vec![9.0];
        put_halves_apart(&[0.0, 0.1, 1.0, 1.1, 2.0, 2.1, 3.0, 3.1], 2, &mut ordered);
        assert_eq!(ordered, [0.0, 0.1, 2.0, 2.1, 1.0, 1.1, 3.0, 3.1]);
    }
}
