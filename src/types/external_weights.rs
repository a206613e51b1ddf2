//! Weights in a portable form outside the service.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// The temporary URLs of the files of external weights, from
/// [`RestClient::get_external_weights_urls`](crate::RestClient::get_external_weights_urls). `Debug` shows no URL.
///
/// ```
/// use tinkex::types::ExternalWeightsUrlsResponse;
///
/// let json = r#"{"urls":{"adapter_config.json":"https://example.com/a?sig=x"},"expires":"2025-11-05T12:30:00Z"}"#;
/// let response: ExternalWeightsUrlsResponse = serde_json::from_str(json)?;
/// assert_eq!(response.urls["adapter_config.json"], "https://example.com/a?sig=x");
/// assert!(!format!("{response:?}").contains("sig"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExternalWeightsUrlsResponse {
    /// The signed URL of each file, by its name. A name may have folders in it.
    pub urls: BTreeMap<String, String>,
    /// When the URLs expire.
    pub expires: Timestamp,
}

impl fmt::Debug for ExternalWeightsUrlsResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<&String> = self.urls.keys().collect();
        f.debug_struct("ExternalWeightsUrlsResponse").field("files", &files).field("expires", &self.expires).finish()
    }
}
