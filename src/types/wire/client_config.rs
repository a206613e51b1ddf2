//! What the service tells its clients about itself.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Asks for the settings of the service: `POST client/config`, once for each client, returns [`ClientConfig`]; and
/// `POST client/dynamic_config`, returns [`ClientDynamicConfig`]. Services of 2025 have neither.
///
/// ```
/// use tinkex::types::wire::ClientConfigRequest;
///
/// let request = ClientConfigRequest { sdk_version: "0.38.0".into() };
/// assert_eq!(serde_json::to_string(&request)?, r#"{"sdk_version":"0.38.0"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientConfigRequest<'a> {
    /// The version of the protocol that the client speaks.
    pub sdk_version: Cow<'a, str>,
}

/// The settings of a service for its clients. A key that the service leaves out has its default; unknown ones are ignored.
///
/// ```
/// use tinkex::types::wire::ClientConfig;
///
/// let config: ClientConfig = serde_json::from_str(r#"{"fwdbwd_max_chunk_len":3,"later":"ignored"}"#)?;
/// assert_eq!(config, ClientConfig { fwdbwd_max_chunk_len: 3, ..ClientConfig::default() });
/// assert_eq!(ClientConfig::default().fwdbwd_max_chunk_bytes_count, 5_000_000);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientConfig {
    /// Whether requests carry a short-lived token (JWT), for which the client exchanges its key. Defaults to false.
    pub pjwt_auth_enabled: bool,
    /// Where the service expects the credential to come from: `api_key` or `credential_cmd`. Defaults to `api_key`. This client
    /// does not use it: any source may give the credential.
    pub credential_default_source: String,
    /// Whether the chunks of a batch may be sent at the same time. Defaults to true. This client sends them one after the other.
    pub parallel_fwdbwd_chunks: bool,
    /// The maximum number of datums in a chunk. Defaults to 1024.
    pub fwdbwd_max_chunk_len: usize,
    /// The maximum number of estimated bytes in a chunk. Defaults to 5 000 000.
    pub fwdbwd_max_chunk_bytes_count: usize,
    /// The estimated bytes of chunks that may be sent at the same time. Defaults to 50 000 000. Not used: this client sends one.
    pub fwdbwd_dispatch_bytes_semaphore_size: usize,
    /// Whether the service wants forward and backward passes in protobuf. Not said by default: clients since 0.25.0 do not read it,
    /// and send protobuf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proto_write_fwdbwd: Option<bool>,
    /// Whether it takes forward passes as `forward_backward` with `forward_only`. Defaults to false, which is left out, for the same
    /// reason.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fwd_via_fwdbwd: bool,
    /// Whether the bodies of forward and backward passes are compressed with zstd. Defaults to false.
    pub proto_compress_fwdbwd: bool,
    /// The estimated bytes of samples that may be submitted at the same time. Defaults to 10 485 760.
    pub sample_dispatch_bytes_semaphore_size: usize,
    /// The maximum number of samples in flight, from submission to result. Defaults to 2000.
    pub sample_max_concurrent_requests: usize,
    /// Whether an expired sample is an error rather than submitted again. Defaults to false.
    pub sample_no_retries: bool,
    /// Whether a sample without progress is given up. Defaults to true.
    pub sample_enable_stuck_detection: bool,
    /// Whether the samples of a sampling session are polled together (`retrieve_futures`). Defaults to false.
    pub sample_use_retrieve_futures: bool,
    /// Whether clients that share a sampling session ask for their number (`join_sampling_session`). Defaults to false.
    pub sample_join_sampling_session: bool,
    /// The maximum number of bytes of results that are received at the same time. Defaults to 52 428 800.
    pub inflight_response_bytes_semaphore_size: usize,
    /// How many seconds requests are paused for a problem with billing (402) before they fail. Defaults to 3600.
    pub billing_exception_max_pause_duration_sec: u64,
    /// Whether custom losses run on the service. Defaults to false. This client runs them itself.
    pub custom_loss_server_side: bool,
    /// Which of its two HTTP libraries the Python client uses. Defaults to true. This client does not use it.
    pub use_pyqwest_transport: bool,
    /// Whether the service has tokenizers' files itself, and says so of its models
    /// ([`TokenizerPackage`](crate::types::TokenizerPackage)). Defaults to false. An addition of this crate's local server, which is
    /// left out if it is false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tokenizer_packages: bool,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            pjwt_auth_enabled: false,
            credential_default_source: "api_key".to_owned(),
            parallel_fwdbwd_chunks: true,
            fwdbwd_max_chunk_len: 1024,
            fwdbwd_max_chunk_bytes_count: 5_000_000,
            fwdbwd_dispatch_bytes_semaphore_size: 50_000_000,
            proto_write_fwdbwd: None,
            fwd_via_fwdbwd: false,
            proto_compress_fwdbwd: false,
            sample_dispatch_bytes_semaphore_size: 10_485_760,
            sample_max_concurrent_requests: 2000,
            sample_no_retries: false,
            sample_enable_stuck_detection: true,
            sample_use_retrieve_futures: false,
            sample_join_sampling_session: false,
            inflight_response_bytes_semaphore_size: 52_428_800,
            billing_exception_max_pause_duration_sec: 3600,
            custom_loss_server_side: false,
            use_pyqwest_transport: true,
            tokenizer_packages: false,
        }
    }
}

/// The settings of a service that may change while a client runs; it asks again at `refresh_interval_sec`. A key that the
/// service leaves out has its default; unknown ones are ignored.
///
/// ```
/// use tinkex::types::wire::ClientDynamicConfig;
///
/// let config: ClientDynamicConfig = serde_json::from_str(r#"{"sample_cancel_enabled":true}"#)?;
/// assert_eq!((config.refresh_interval_sec, config.sample_cancel_max_batch_size), (300, 64));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientDynamicConfig {
    /// How many seconds these settings hold. Defaults to 300; less than 10 counts as 10.
    pub refresh_interval_sec: u64,
    /// Whether the service is told of samples that are given up (`cancel_future`). Defaults to false.
    pub sample_cancel_enabled: bool,
    /// The maximum number of such requests at the same time. Defaults to 64.
    pub sample_cancel_max_batch_size: usize,
}

impl Default for ClientDynamicConfig {
    fn default() -> Self {
        ClientDynamicConfig {
            refresh_interval_sec: 300,
            sample_cancel_enabled: false,
            sample_cancel_max_batch_size: 64,
        }
    }
}
