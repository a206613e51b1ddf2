//! What a service charges for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// What was used, hour by hour: `GET billing/usage/events`.
///
/// ```
/// use tinkex::types::{BillingEventType, BillingUsageResponse};
///
/// let usage: BillingUsageResponse = serde_json::from_str(
///     r#"{
///         "data": [{
///             "bucket_start": "2025-11-01T12:00:00Z",
///             "bucket_end": "2025-11-01T13:00:00Z",
///             "base_model": "Qwen/Qwen3-8B",
///             "event_info": {"type": "training", "token_count": 123}
///         }],
///         "sessions": {}
///     }"#,
/// )?;
/// let event = &usage.data[0].event_info;
/// assert_eq!((&event.event_type, event.token_count), (&BillingEventType::Training, Some(123)));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BillingUsageResponse {
    /// The events.
    pub data: Vec<BillingUsageEvent>,
    /// The sessions of the events, by their ids. Empty by default.
    #[serde(default)]
    pub sessions: BTreeMap<String, BillingUsageSession>,
    /// Up to when costs are known.
    pub cost_data_through: Option<Timestamp>,
}

/// What was used of one kind within some time. [`BillingUsageResponse`] has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BillingUsageEvent {
    /// The start of the time.
    pub bucket_start: Timestamp,
    /// The end of the time.
    pub bucket_end: Timestamp,
    /// The base model.
    pub base_model: Option<String>,
    /// The user's id.
    pub user_id: Option<String>,
    /// The user's name.
    pub user_name: Option<String>,
    /// The session.
    pub session_id: Option<String>,
    /// The project.
    pub project_id: Option<String>,
    /// The estimated cost in US dollars.
    pub estimated_cost_usd: Option<f64>,
    /// The rate in US dollars for a million tokens.
    pub effective_rate_usd_per_million_tokens: Option<f64>,
    /// The rate in US dollars for a gigabyte and month.
    pub effective_rate_usd_per_gigabyte_month: Option<f64>,
    /// What was used.
    pub event_info: BillingEventInfo,
}

open_enum! {
    /// The kind of a [`BillingEventInfo`].
    ///
    /// ```
    /// use tinkex::types::BillingEventType;
    ///
    /// assert_eq!(BillingEventType::from("sampling_sample"), BillingEventType::SamplingSample);
    /// ```
    pub enum BillingEventType {
        /// Tokens trained on.
        Training = "training",
        /// Tokens of prompts.
        SamplingPrefill = "sampling_prefill",
        /// Tokens sampled.
        SamplingSample = "sampling_sample",
        /// Checkpoints saved.
        Checkpoint = "checkpoint",
        /// Checkpoints stored.
        Storage = "storage",
    }
}

/// What was used: its kind, and the numbers that this kind has. [`BillingUsageResponse`] has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BillingEventInfo {
    /// The kind.
    #[serde(rename = "type")]
    pub event_type: BillingEventType,
    /// The number of tokens trained on or sampled, or of the prompts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_count: Option<u64>,
    /// Whether the prompts' tokens came from a cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached: Option<bool>,
    /// The number of checkpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Whether the storage is free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free: Option<bool>,
    /// The storage used, in gigabytes times hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gigabyte_hours: Option<f64>,
}

/// A session that was charged for. In [`BillingUsageResponse`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BillingUsageSession {
    /// The metadata that the user gave when creating the session.
    pub user_metadata: Option<BTreeMap<String, String>>,
}

/// The storage that checkpoints take now: `GET billing/usage/checkpoints/current`.
///
/// ```
/// use tinkex::types::CurrentCheckpointStorageUsageResponse;
///
/// let json = r#"{"effective_rate_usd_per_gigabyte_month":0.1,
///     "data":[{"project_id":"p-1","checkpoint_count":1,"size_bytes":10,"size_gigabytes":1e-8}]}"#;
/// let storage: CurrentCheckpointStorageUsageResponse = serde_json::from_str(json)?;
/// assert_eq!(storage.data[0].size_bytes, 10);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CurrentCheckpointStorageUsageResponse {
    /// The rate in US dollars for a gigabyte and month.
    pub effective_rate_usd_per_gigabyte_month: Option<f64>,
    /// The storage by project and user.
    pub data: Vec<CurrentCheckpointStorageUsageItem>,
}

/// The storage of one project and user. [`CurrentCheckpointStorageUsageResponse`] has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CurrentCheckpointStorageUsageItem {
    /// The project.
    pub project_id: Option<String>,
    /// The user in the organization.
    pub org_user_urn: Option<String>,
    /// The user's e-mail address.
    pub user_email: Option<String>,
    /// The user's name.
    pub user_name: Option<String>,
    /// The number of checkpoints.
    pub checkpoint_count: u64,
    /// Their size in bytes.
    pub size_bytes: u64,
    /// Their size in gigabytes.
    pub size_gigabytes: f64,
    /// The estimated cost of a month in US dollars.
    pub estimated_monthly_cost_usd: Option<f64>,
}
