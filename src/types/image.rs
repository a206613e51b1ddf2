//! Images in a model's input.
//!
//! The size is read from the header by hand: the crate `imagesize` fails on valid JPEGs and accepts damaged PNGs
//! (`docs/decisions/0008`).

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, ErrorKind, Result};

/// The encoding of an image, `png` or `jpeg` on the wire. [`ImageChunk::new`] detects it; [`ImageChunk`] has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ImageFormat {
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
}

impl ImageFormat {
    /// The word on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ImageFormat::Png => "png",
            ImageFormat::Jpeg => "jpeg",
        }
    }
}

/// An image that is sent with the request, as base64.
///
/// ```
/// use tinkex::types::{ImageChunk, ImageFormat, ModelInput};
///
/// // To read a file, use `ImageChunk::from_file("cat.png", 256)?`.
/// let file = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x02\x80\0\0\x01\xe0";
/// let image = ImageChunk::new(*file, 256)?;
/// assert_eq!((image.format, image.width, image.height), (ImageFormat::Png, Some(640), Some(480)));
///
/// assert_eq!(ModelInput::from_tokens([1, 2]).append(image).len(), 258);
/// assert!(ImageChunk::new(*b"GIF89a", 256).is_err());
///
/// // Servers of 2026 count the tokens themselves, and refuse an image that does not have the expected number.
/// let image = ImageChunk::new(*file, None)?.expected_tokens(300);
/// assert_eq!(ModelInput::new().chunk(image).len(), 300);
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "image")]
#[non_exhaustive]
pub struct ImageChunk {
    /// The bytes of the image file.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub data: Vec<u8>,
    /// The encoding.
    pub format: ImageFormat,
    /// The height in pixels. Servers of 2025 read it; not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// The number of tokens that the image counts as. Servers of 2025 read it; not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u32>,
    /// The width in pixels. Servers of 2025 read it; not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// The number of tokens that the image must have. Servers of 2026 count them, and refuse the request if it is another. Not
    /// sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_tokens: Option<u32>,
}

impl ImageChunk {
    /// An image from the bytes of a PNG or JPEG file, which counts as this many tokens, if that is known. Format and size come
    /// from the file's header; the rest of the file is not checked.
    ///
    /// # Errors
    ///
    /// Bytes that are neither PNG nor JPEG, or a header without a size.
    pub fn new(data: impl Into<Vec<u8>>, tokens: impl Into<Option<u32>>) -> Result<Self> {
        let data = data.into();
        let (format, width, height) = match png_size(&data) {
            Some((width, height)) => (ImageFormat::Png, width, height),
            None => match jpeg_size(&data) {
                Some((width, height)) => (ImageFormat::Jpeg, width, height),
                None => {
                    return Err(Error::invalid_input(
                        "the image is neither a PNG nor a JPEG with a size in its header",
                    ));
                }
            },
        };
        Ok(ImageChunk::from_parts(data, format, width, height, tokens))
    }

    /// An image of a known format, width and height in pixels, which counts as this many tokens, where these are known. The
    /// bytes are not checked.
    #[must_use]
    pub fn from_parts(
        data: impl Into<Vec<u8>>,
        format: ImageFormat,
        width: impl Into<Option<u32>>,
        height: impl Into<Option<u32>>,
        tokens: impl Into<Option<u32>>,
    ) -> Self {
        let (data, height, tokens, width) = (data.into(), height.into(), tokens.into(), width.into());
        ImageChunk { data, format, height, tokens, width, expected_tokens: None }
    }

    /// Sets the number of tokens that the image must have.
    #[must_use]
    pub fn expected_tokens(mut self, tokens: u32) -> Self {
        self.expected_tokens = Some(tokens);
        self
    }

    /// An image from a PNG or JPEG file, which counts as this many tokens, if that is known.
    ///
    /// # Errors
    ///
    /// A file that cannot be read ([`ErrorKind::Io`]), and the errors of [`ImageChunk::new`].
    pub fn from_file(path: impl AsRef<Path>, tokens: impl Into<Option<u32>>) -> Result<Self> {
        let path = path.as_ref();
        let data = std::fs::read(path).map_err(|error| {
            Error::new(ErrorKind::Io, format!("the image {} cannot be read: {error}", path.display()))
                .with_source(error)
        })?;
        ImageChunk::new(data, tokens).map_err(|error| Error::invalid_input(format!("{}: {error}", path.display())))
    }
}

// Read here and not by the crate `imagesize`: version 0.15 fails on JPEGs with fill bytes before a marker, which ITU T.81,
// B.1.1.2 allows, and accepts PNGs without IHDR, with a size of 0, and JPEGs whose frame follows the scan.

/// The width and height of a PNG: the first fields of its first chunk, IHDR (PNG specification, 11.2.1).
fn png_size(data: &[u8]) -> Option<(u32, u32)> {
    let header = data.strip_prefix(b"\x89PNG\r\n\x1a\n")?.get(4..)?.strip_prefix(b"IHDR")?;
    let number = |at: usize| header.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    number(0).zip(number(4)).filter(|&(width, height)| width > 0 && height > 0)
}

/// The width and height of a JPEG, from its start-of-frame segment (ITU T.81, B.2.2).
fn jpeg_size(data: &[u8]) -> Option<(u32, u32)> {
    let mut rest = data.strip_prefix(b"\xff\xd8")?;
    loop {
        // A marker is one byte after any number of fill bytes.
        let fill = rest.iter().take_while(|&&byte| byte == 0xff).count();
        let marker = *rest.get(fill).filter(|_| fill > 0)?;
        rest = &rest[fill + 1..];
        match marker {
            // Start of scan, end of image: a frame must come before.
            0xda | 0xd9 => return None,
            // TEM and RST have no length.
            0x01 | 0xd0..=0xd7 => continue,
            _ => {}
        }
        let length = usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
        // SOF0 to SOF15, except for DHT, JPG and DAC in the same range.
        if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            let number = |at: usize| Some(u32::from(u16::from_be_bytes([*rest.get(at)?, *rest.get(at + 1)?])));
            return number(5).zip(number(3)).filter(|&(width, height)| width > 0 && height > 0);
        }
        rest = rest.get(length.max(2)..)?;
    }
}

/// An image that the server fetches.
///
/// ```
/// use tinkex::types::{ImageAssetPointerChunk, ImageFormat, ModelInput};
///
/// let cat = ImageAssetPointerChunk::new("https://example.com/cat.jpg", ImageFormat::Jpeg, 640, 480, 256);
/// assert_eq!(ModelInput::from_tokens([1, 2]).chunk(cat).len(), 258);
///
/// let dog = ImageAssetPointerChunk::new("https://example.com/dog.jpg", ImageFormat::Jpeg, None, None, None);
/// assert_eq!(ModelInput::new().chunk(dog.expected_tokens(300)).len(), 300);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "image_asset_pointer")]
#[non_exhaustive]
pub struct ImageAssetPointerChunk {
    /// The encoding.
    pub format: ImageFormat,
    /// The height in pixels. Servers of 2025 read it; not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// The URL that the server fetches the image from.
    pub location: String,
    /// The number of tokens that the image counts as. Servers of 2025 read it; not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u32>,
    /// The width in pixels. Servers of 2025 read it; not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// The number of tokens that the image must have. Servers of 2026 count them, and refuse the request if it is another. Not
    /// sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_tokens: Option<u32>,
}

impl ImageAssetPointerChunk {
    /// An image at this URL, of this format, width and height in pixels, which counts as this many tokens, where these are
    /// known.
    #[must_use]
    pub fn new(
        location: impl Into<String>,
        format: ImageFormat,
        width: impl Into<Option<u32>>,
        height: impl Into<Option<u32>>,
        tokens: impl Into<Option<u32>>,
    ) -> Self {
        let (location, height, tokens, width) = (location.into(), height.into(), tokens.into(), width.into());
        ImageAssetPointerChunk { format, height, location, tokens, width, expected_tokens: None }
    }

    /// Sets the number of tokens that the image must have.
    #[must_use]
    pub fn expected_tokens(mut self, tokens: u32) -> Self {
        self.expected_tokens = Some(tokens);
        self
    }
}

/// Bytes that are sent as base64 text: the standard alphabet, padded.
pub(super) struct Base64(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_base64(deserializer).map(Base64)
    }
}

fn to_base64<S: Serializer>(data: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&base64::display::Base64Display::new(data, &STANDARD))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    STANDARD.decode(text.as_bytes()).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x02\x80\0\0\x01\xe0\x08\x02";
    /// JFIF header, a comment after fill bytes, a Huffman table, then a progressive frame.
    const JPEG: &[u8] =
        b"\xff\xd8\xff\xe0\0\x04JF\xff\xff\xfe\0\x03x\xff\xc4\0\x02\xff\xc2\0\x0b\x08\x01\xe0\x02\x80\x03";

    #[test]
    fn format_and_size_come_from_the_header() {
        for (data, format) in [(PNG, ImageFormat::Png), (JPEG, ImageFormat::Jpeg)] {
            let image = ImageChunk::new(data, 7).unwrap();
            assert_eq!(
                (image.format, image.width, image.height, image.tokens),
                (format, Some(640), Some(480), Some(7))
            );
        }
    }

    #[test]
    fn truncated_headers_are_errors() {
        for data in [&PNG[..24], &JPEG[..JPEG.len() - 1]] {
            assert!(ImageChunk::new(data, 1).is_ok());
            for end in 0..data.len() {
                assert!(ImageChunk::new(&data[..end], 1).is_err(), "{end}");
            }
        }
        assert!(ImageChunk::new(b"\xff\xd8\xff\xda\0\x02\xff\xc0\0\x0b\x08\x01\xe0\x02\x80".as_slice(), 1).is_err());
        assert!(ImageChunk::new(b"GIF89a".as_slice(), 1).is_err());
    }

    #[test]
    fn a_size_of_zero_is_none() {
        let png = |width: [u8; 4], height: [u8; 4]| [&PNG[..16], &width, &height].concat();
        let jpeg = |height: [u8; 2], width: [u8; 2]| [&JPEG[..JPEG.len() - 5], &height, &width, b"\x03"].concat();
        let (one, zero) = ([0, 0, 0, 1], [0; 4]);
        for (data, size) in [
            (png(one, one), Some((1, 1))),
            (png(one, zero), None),
            (png(zero, one), None),
            (png([1, 0, 0, 0], [0xff; 4]), Some((1 << 24, u32::MAX))),
            (jpeg([0, 1], [0, 1]), Some((1, 1))),
            (jpeg([0, 0], [0, 1]), None),
            (jpeg([0, 1], [0, 0]), None),
            (jpeg([0xff; 2], [1, 0]), Some((256, 65_535))),
        ] {
            let found = ImageChunk::new(data, 1).ok().and_then(|image| image.width.zip(image.height));
            assert_eq!(found, size);
        }
    }

    #[test]
    fn image_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.png");
        std::fs::write(&path, PNG).unwrap();
        let image = ImageChunk::from_file(&path, 3).unwrap();
        assert_eq!(image.data, PNG);
    }

    #[test]
    fn missing_image_files_are_named() {
        let path = tempfile::tempdir().unwrap().path().join("tinkex-image-0.png");
        let error = ImageChunk::from_file(&path, 3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("tinkex-image-"), "{error}");
    }
}
