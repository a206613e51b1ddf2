//! Every decoder of what others wrote, as a function of bytes: what the fuzz targets and their tests run (feature `test-util`; see
//! `fuzz/README.md`).
//!
//! A decoder returns whether it takes the bytes. It panics if it breaks a law: what it takes is the same when it is written and
//! read again, and an error can be shown in a terminal.

mod files;
mod headers;
#[cfg(feature = "pretrained")]
mod models;
#[cfg(feature = "local")]
mod requests;
mod responses;
mod texts;

use crate::error::Error;

/// Whether these bytes are taken.
pub type Decoder = fn(&[u8]) -> bool;

/// All decoders, by their names.
pub const DECODERS: &[(&str, Decoder)] = &[
    ("error_message", responses::error_message),
    ("passes", responses::passes),
    ("polls", responses::polls),
    ("protobuf_passes", responses::protobuf_passes),
    ("protobuf_requests", responses::protobuf_requests),
    ("protobuf_samples", responses::protobuf_samples),
    ("results", responses::results),
    ("samples", responses::samples),
    ("settings", responses::settings),
    ("stored", responses::stored),
    ("submissions", responses::submissions),
    ("content_range", headers::content_range),
    ("location", headers::location),
    ("response_headers", headers::response_headers),
    ("retry_after", headers::retry_after),
    ("base_url", texts::base_url),
    ("checkpoint_path", texts::checkpoint_path),
    ("no_proxy", texts::no_proxy),
    ("proxy_address", texts::proxy_address),
    ("sampler_handle", texts::sampler_handle),
    ("session_duration", texts::session_duration),
    #[cfg(feature = "sse")]
    ("server_sent_events", texts::server_sent_events),
    ("timestamp", texts::timestamp),
    ("token", texts::token),
    #[cfg(feature = "tokenizers")]
    ("tokenizer_id", texts::tokenizer_id),
    #[cfg(feature = "chat")]
    ("chat_template", texts::chat_template),
    #[cfg(feature = "local")]
    ("chaos_rules", texts::chaos_rules),
    #[cfg(feature = "local")]
    ("flags", texts::flags),
    ("credentials_file", files::credentials_file),
    ("image", files::image),
    ("json_lines", files::json_lines),
    ("tar", files::tar),
    #[cfg(feature = "tokenizers")]
    ("gguf", files::gguf),
    #[cfg(feature = "tokenizers")]
    ("tiktoken", files::tiktoken),
    #[cfg(feature = "tokenizers")]
    ("tokenizer_json", files::tokenizer_json),
    #[cfg(feature = "pretrained")]
    ("adapter_config", models::adapter_config),
    #[cfg(feature = "pretrained")]
    ("gguf_header", models::gguf_header),
    #[cfg(feature = "pretrained")]
    ("hub_listing", models::hub_listing),
    #[cfg(feature = "pretrained")]
    ("model_config", models::model_config),
    #[cfg(feature = "pretrained")]
    ("safetensors", models::safetensors),
    #[cfg(feature = "pretrained")]
    ("tokenizer_config", models::tokenizer_config),
    #[cfg(feature = "pretrained")]
    ("weights_index", models::weights_index),
    #[cfg(feature = "local")]
    ("http_requests", requests::http_requests),
    #[cfg(feature = "pretrained")]
    ("openai_requests", requests::openai_requests),
];

/// Whether there is a value. An error is fit for a terminal.
fn taken<T>(result: Result<T, Error>) -> bool {
    match result {
        Ok(_) => true,
        Err(error) => {
            let shown = error.to_string();
            assert!(
                !shown.contains(|c: char| c.is_control() && c != '\n'),
                "an error has control characters: {shown:?}"
            );
            false
        }
    }
}

/// The same of what a service sent, of which an error repeats little.
fn taken_of_service<T>(result: Result<T, Error>) -> bool {
    let length = result.as_ref().err().map_or(0, |error| error.to_string().len());
    assert!(length < 10_000, "an error has {length} bytes");
    taken(result)
}

/// Decodes a text.
fn of_text(bytes: &[u8], decode: impl FnOnce(&str) -> bool) -> bool {
    std::str::from_utf8(bytes).is_ok_and(decode)
}
