//! The text of a sampler handle, and the numbers of the clients that are opened from it.
//!
//! Each client of a sampling session numbers its samples in a range of its own: the server would take a number that came twice
//! for the same sample.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

use super::service_settings::{Settings, drop_nulls};
use crate::error::{Error, Result};
use crate::types::wire::SamplerHandle;

/// The length of the range of each client.
const RANGE: u64 = 1_000_000_000;

/// Writes padding, as the Python client demands, and reads text with or without it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The first number of the samples of a client; `None` if there are not that many ranges.
pub(crate) fn first_number(client: u64) -> Option<u64> {
    client.checked_mul(RANGE).filter(|first| i64::try_from(*first).is_ok())
}

/// The number of a client for which the service gives none, from 1 to 10⁹, given a random number.
pub(crate) fn random_client(random: u64) -> u64 {
    random % RANGE + 1
}

/// Writes a handle as text.
pub(crate) fn encode(handle: &SamplerHandle) -> Result<String> {
    serde_json::to_vec(handle)
        .map(|json| BASE64.encode(json))
        .map_err(|error| Error::invalid_input("the handle cannot be written as JSON").with_source(error))
}

/// Reads a handle from text.
pub(crate) fn decode(text: &str) -> Result<SamplerHandle> {
    let json = BASE64.decode(text.trim()).map_err(|error| broken(&format!("it is not base64: {error}")))?;
    let mut value: Value = serde_json::from_slice(&json).map_err(|_| broken("it does not hold JSON"))?;
    for settings in ["client_config", "client_dynamic_config"] {
        if let Some(Value::Object(keys)) = value.pointer_mut(&format!("/holder/{settings}")) {
            drop_nulls(keys);
        }
    }
    // The error names the key, and repeats no value but of the wrong type.
    let mut handle: SamplerHandle = serde_json::from_value(value).map_err(|error| broken(&error.to_string()))?;
    if handle.sampling_session_id.is_empty() {
        return Err(broken("it names no sampling session"));
    }
    let holder = &mut handle.holder;
    holder.client_config = holder.client_config.take().map(Settings::bounded);
    holder.client_dynamic_config = holder.client_dynamic_config.take().map(Settings::bounded);
    Ok(handle)
}

fn broken(why: &str) -> Error {
    Error::invalid_input(format!("the text is not a sampler handle: {why}"))
        .with_hint("pass the whole text that SamplingClient::get_sampler_handle returned")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::wire::{ClientConfig, SamplerHandleHolder};

    fn handle() -> SamplerHandle {
        SamplerHandle {
            session_id: "s".to_owned(),
            sampling_session_id: "s:sample:0".to_owned(),
            holder: SamplerHandleHolder {
                base_url: "http://h".to_owned(),
                client_config: Some(ClientConfig::default()),
                ..SamplerHandleHolder::default()
            },
            base_model: Some("ünï/mödel??>>".to_owned()),
            record_stability_info: true,
        }
    }

    #[test]
    fn a_handle_is_read_as_written() {
        let text = encode(&handle()).unwrap();
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte)), "{text}");
        for text in [text.clone(), text.trim_end_matches('=').to_owned(), format!(" {text}\n")] {
            assert_eq!(decode(&text).unwrap(), handle());
        }
    }

    #[test]
    fn broken_text_says_what_is_wrong() {
        let json = |json: &str| BASE64.encode(json);
        for (text, part) in [
            (String::new(), "does not hold JSON"),
            ("tinker://run/weights/1".to_owned(), "not base64"),
            (encode(&handle()).unwrap()[..40].to_owned(), "does not hold JSON"),
            (json("[1]"), "invalid type"),
            (json("{}"), "missing field `session_id`"),
            (json(r#"{"session_id":"s","sampling_session_id":"a"}"#), "missing field `holder`"),
            (json(r#"{"session_id":"s","sampling_session_id":"","holder":{"base_url":"h"}}"#), "no sampling session"),
        ] {
            let error = decode(&text).unwrap_err();
            assert!(error.to_string().contains(part) && error.hint().is_some(), "{text}: {error}");
        }
    }

    #[test]
    fn settings_of_a_handle_may_be_null() {
        let text = BASE64.encode(
            r#"{"session_id":"s","sampling_session_id":"a","base_model":null,"later":1,"holder":{"base_url":"h",
            "client_config":{"sample_no_retries":null,"later":1,"sample_join_sampling_session":true},"client_dynamic_config":null}}"#,
        );
        let holder = decode(&text).unwrap().holder;
        assert!(holder.client_config.unwrap().sample_join_sampling_session && holder.client_dynamic_config.is_none());
    }

    #[test]
    fn clients_have_ranges_of_their_own() {
        assert_eq!([0, 1, 7].map(first_number), [Some(0), Some(1_000_000_000), Some(7_000_000_000)]);
        assert_eq!([u64::MAX, 1 << 40].map(first_number), [None, None]);
        assert_eq!([0, RANGE - 1, RANGE, u64::MAX].map(random_client)[..3], [1, RANGE, 1]);
        assert!(first_number(random_client(u64::MAX)).is_some());
    }
}
