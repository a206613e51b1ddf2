//! The files of a model's tokenizer, where the service itself has them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
#[cfg(any(feature = "local", feature = "tokenizers"))]
use sha2::{Digest, Sha256};

/// The files of a model's tokenizer that the service itself has, so that clients need no hub. The local server says this of real
/// models; clients that do not know it ignore it. A program for the Hugging Face hub finds the files, too, with the service's
/// base URL as `HF_ENDPOINT`.
///
/// ```
/// use tinkex::types::SupportedModel;
///
/// let model: SupportedModel = serde_json::from_str(
///     r#"{"model_name":"smollm2","tokenizer_package":{"id":"smollm2","files":{"tokenizer.json":"9ca5"},"has_chat_template":true}}"#,
/// )?;
/// let package = model.tokenizer_package.unwrap();
/// assert!(package.files.contains_key("tokenizer.json") && package.has_chat_template);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TokenizerPackage {
    /// The id of the tokenizer: the files are at `{id}/resolve/main/{name}` below the base URL.
    pub id: String,
    /// The SHA-256 of each file in hexadecimal digits, by the name of the file, such as `tokenizer.json`.
    pub files: BTreeMap<String, String>,
    /// Whether one of the files has a chat template. Defaults to false.
    #[serde(default)]
    pub has_chat_template: bool,
}

#[cfg(any(feature = "local", feature = "tokenizers"))]
impl TokenizerPackage {
    /// What tells these files from all others, in the form of a commit: 40 hexadecimal digits, made of the digests and names.
    pub(crate) fn revision(&self) -> String {
        let lines: String = self.files.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect();
        sha256_hex(lines.as_bytes())[..40].to_owned()
    }
}

/// The SHA-256 of a content, in hexadecimal digits.
#[cfg(any(feature = "local", feature = "tokenizers"))]
pub(crate) fn sha256_hex(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(all(test, any(feature = "local", feature = "tokenizers")))]
mod tests {
    use super::*;

    #[test]
    fn a_revision_tells_files_apart() {
        let package = |files: &[(&str, &[u8])]| TokenizerPackage {
            files: files.iter().map(|(name, content)| ((*name).to_owned(), sha256_hex(content))).collect(),
            ..TokenizerPackage::default()
        };
        let revision = package(&[("a", b"1"), ("b", b"2")]).revision();
        assert_eq!(revision, package(&[("b", b"2"), ("a", b"1")]).revision());
        assert!(revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit()), "{revision}");
        for other in [&[("a", b"1".as_slice())][..], &[("a", b"2"), ("b", b"1")], &[("a", b"1"), ("c", b"2")]] {
            assert_ne!(package(other).revision(), revision);
        }
    }
}
