//! Writes a safetensors file, whose numbers come piece by piece.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, json};

use super::precision::ExportPrecision;
use crate::error::{Error, ErrorKind, Result};
use crate::rest::io_error;

/// A tensor that is going to be written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Planned {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) precision: ExportPrecision,
}

impl Planned {
    /// Its size in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.shape.iter().fold(self.precision.size() as u64, |bytes, &size| bytes.saturating_mul(size as u64))
    }
}

/// A file whose header is written. The numbers of all tensors follow, in the order of the plan.
#[derive(Debug)]
pub(super) struct TensorFile {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: Vec<u8>,
}

impl TensorFile {
    /// Creates the file for these tensors.
    pub(super) fn create<'a>(path: &Path, tensors: impl IntoIterator<Item = &'a Planned>) -> Result<Self> {
        let header = header(tensors);
        File::create_new(path)
            .map(BufWriter::new)
            .and_then(|mut file| {
                file.write_all(&(header.len() as u64).to_le_bytes())?;
                file.write_all(header.as_bytes())?;
                Ok(TensorFile { path: path.to_owned(), file, bytes: Vec::new() })
            })
            .map_err(|error| io_error("written", path, error))
    }

    /// Writes the next numbers of a tensor. They must be finite, also after they are rounded.
    pub(super) fn write(&mut self, tensor: &Planned, numbers: &[f32]) -> Result<()> {
        self.bytes.clear();
        if !tensor.precision.encode(numbers, &mut self.bytes) {
            let what = if numbers.iter().all(|number| number.is_finite()) {
                format!("has numbers beyond the largest of {}", tensor.precision.torch_name())
            } else {
                "has numbers that are not finite".to_owned()
            };
            return Err(Error::new(ErrorKind::Decode, format!("the tensor {} {what}", tensor.name))
                .with_hint("export it as f32 (--dtype f32), or an earlier checkpoint, if the training diverged"));
        }
        self.file.write_all(&self.bytes).map_err(|error| io_error("written", &self.path, error))
    }

    /// Has everything stored on the disk.
    pub(super) fn finish(self) -> Result<()> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error);
        file.and_then(|file| file.sync_all()).map_err(|error| io_error("written", &self.path, error))
    }
}

/// The header, as transformers wants it: with the metadata `format`.
fn header<'a>(tensors: impl IntoIterator<Item = &'a Planned>) -> String {
    let mut entries = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    let mut start = 0;
    for tensor in tensors {
        let end = start + tensor.bytes();
        let entry = json!({"dtype": tensor.precision.dtype(), "shape": tensor.shape, "data_offsets": [start, end]});
        entries.insert(tensor.name.clone(), entry);
        start = end;
    }
    let mut header = serde_json::Value::from(entries).to_string();
    // The numbers begin at a multiple of 8 bytes.
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_readers_find_the_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let planned = |name: &str, precision| Planned { name: name.to_owned(), shape: vec![1, 2], precision };
        let tensors = [planned("b", ExportPrecision::F16), planned("ä", ExportPrecision::F32)];
        let mut file = TensorFile::create(&path, &tensors).unwrap();
        file.write(&tensors[0], &[1.0]).unwrap();
        file.write(&tensors[0], &[-2.0]).unwrap();
        file.write(&tensors[1], &[0.5, 0.25]).unwrap();
        file.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let (header, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!((header % 8, metadata.metadata().as_ref().unwrap()["format"].as_str()), (0, "pt"));
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(read.tensor("b").unwrap().data(), [0, 0x3c, 0, 0xc0]);
        assert_eq!(read.tensor("ä").unwrap().data(), [0.5_f32, 0.25].map(f32::to_le_bytes).concat());
        let error = TensorFile::create(&path, &tensors).unwrap_err();
        assert!(error.kind() == ErrorKind::Io && error.to_string().contains("x.safetensors"), "{error}");
    }

    #[test]
    fn numbers_that_do_not_fit_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let tensor = Planned { name: "w".to_owned(), shape: vec![1], precision: ExportPrecision::F16 };
        let mut file = TensorFile::create(&folder.path().join("x"), std::slice::from_ref(&tensor)).unwrap();
        for (number, why) in [(1e5, "the tensor w has numbers beyond the largest of float16"), (f32::NAN, "not finite")]
        {
            let error = file.write(&tensor, &[number]).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
