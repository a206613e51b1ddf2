//! Images in a model's input.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The encoding of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ImageFormat {
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
}

/// An image that is sent along with the request, base64 on the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "image")]
pub struct ImageChunk {
    /// The bytes of the image file.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub data: Vec<u8>,
    /// The encoding.
    pub format: ImageFormat,
    /// The height in pixels.
    pub height: u32,
    /// The number of tokens that the image takes in the input.
    pub tokens: u32,
    /// The width in pixels.
    pub width: u32,
}

/// An image that the server fetches itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "image_asset_pointer")]
pub struct ImageAssetPointerChunk {
    /// The encoding.
    pub format: ImageFormat,
    /// The height in pixels.
    pub height: u32,
    /// Where the image lies.
    pub location: String,
    /// The number of tokens that the image takes in the input.
    pub tokens: u32,
    /// The width in pixels.
    pub width: u32,
}

/// Bytes that are base64 text on the wire: the standard alphabet, padded.
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
