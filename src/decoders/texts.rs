//! Texts: paths, times, addresses, credentials, templates, rules.

use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::time::UNIX_EPOCH;

use super::{of_text, taken};
use crate::clock::Clock;
use crate::config::check_url;
use crate::error::Error;
use crate::rules::credential::{Claims, Life};
use crate::rules::proxy::{ProxyAddress, ProxyTarget, ProxyVariables};
use crate::rules::sampler_handle as handle;
use crate::types::wire::SessionDuration;
use crate::types::{CheckpointPath, Timestamp};

/// Reads a text as this type. What is taken is the same when it is written and read again.
fn written_again<T: FromStr<Err = Error> + Display + Debug + PartialEq>(text: &str) -> bool {
    let value = text.parse::<T>();
    if let Ok(value) = &value {
        assert_eq!(value.to_string().parse::<T>().ok().as_ref(), Some(value));
    }
    taken(value)
}

pub(super) fn checkpoint_path(bytes: &[u8]) -> bool {
    of_text(bytes, written_again::<CheckpointPath>)
}

pub(super) fn timestamp(bytes: &[u8]) -> bool {
    of_text(bytes, |text| {
        if let Ok(time) = text.parse::<Timestamp>() {
            assert_eq!(Timestamp::from(time.system_time()), time, "{time:?}");
        }
        written_again::<Timestamp>(text)
    })
}

pub(super) fn session_duration(bytes: &[u8]) -> bool {
    of_text(bytes, written_again::<SessionDuration>)
}

#[cfg(feature = "tokenizers")]
pub(super) fn tokenizer_id(bytes: &[u8]) -> bool {
    use crate::rules::tokenizer_id;

    of_text(bytes, |text| {
        taken(tokenizer_id::parse(&tokenizer_id::of_model(text)));
        taken(tokenizer_id::parse(text))
    })
}

pub(super) fn sampler_handle(bytes: &[u8]) -> bool {
    of_text(bytes, |text| {
        let decoded = handle::decode(text);
        if let Ok(decoded) = &decoded {
            let again = handle::encode(decoded).and_then(|text| handle::decode(&text));
            assert_eq!(again.ok().as_ref(), Some(decoded));
        }
        taken(decoded)
    })
}

/// The claims of a token, and how long it is used.
pub(super) fn token(bytes: &[u8]) -> bool {
    of_text(bytes, |text| {
        let Some(claims) = Claims::read(text) else { return false };
        let now = Clock::system().now();
        for (wall, jitter) in [(UNIX_EPOCH, 0.0), (Clock::system().wall(), 0.5)] {
            claims.has_expired(wall);
            Life::of_new(&claims, now, wall, jitter);
        }
        true
    })
}

pub(super) fn base_url(bytes: &[u8]) -> bool {
    of_text(bytes, |text| taken(check_url(text)))
}

pub(super) fn proxy_address(bytes: &[u8]) -> bool {
    of_text(bytes, |text| taken(ProxyAddress::parse(text, "https_proxy")))
}

pub(super) fn no_proxy(bytes: &[u8]) -> bool {
    of_text(bytes, |text| {
        let environment = |name: &str| match name {
            "https_proxy" => Some("http://127.0.0.1:3128".to_owned()),
            "no_proxy" => Some(text.to_owned()),
            _ => None,
        };
        let variables = ProxyVariables::read(environment);
        let hosts = ["tinker.example.com", "10.1.2.3", "::1"];
        hosts.map(|host| taken(variables.choose(ProxyTarget { is_https: true, host, port: 443 }))).contains(&true)
    })
}

#[cfg(feature = "sse")]
pub(super) fn server_sent_events(bytes: &[u8]) -> bool {
    use crate::api::sse::Decoder;

    let read = |parts: &[&[u8]]| {
        let mut decoder = Decoder::new();
        let mut events: Vec<_> = parts.iter().flat_map(|part| decoder.push(part)).collect();
        events.extend(decoder.finish());
        events
    };
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let events = read(&[bytes]);
    assert_eq!(read(&[first, second]), events);
    !events.is_empty()
}

/// A template, and a conversation rendered by it.
#[cfg(feature = "chat")]
pub(super) fn chat_template(bytes: &[u8]) -> bool {
    use crate::chat::{ChatTemplate, Conversation, Message};

    of_text(bytes, |text| {
        let conversation = Conversation::from([Message::user("Hi"), Message::assistant("Hello")]);
        taken(ChatTemplate::new(text).and_then(|template| template.render(&conversation, true)))
    })
}

#[cfg(feature = "local")]
pub(super) fn chaos_rules(bytes: &[u8]) -> bool {
    of_text(bytes, |text| text.parse::<crate::local::Faults>().is_ok())
}

#[cfg(feature = "local")]
pub(super) fn flags(bytes: &[u8]) -> bool {
    of_text(bytes, |text| {
        let formats = taken(text.parse::<crate::local::WireFormats>());
        text.parse::<crate::local::Flag>().is_ok() || formats
    })
}
