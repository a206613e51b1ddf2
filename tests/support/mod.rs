//! What the tests share: a scripted service, an httpmock server and a proxy, fixtures, the captured log, a terminal.
#![allow(dead_code, unused_imports, reason = "each binary uses its own part of the support")]
#![allow(unreachable_pub, clippy::unwrap_used, reason = "it is no API, and panics if something is wrong")]

pub mod captured_log;
mod connection;
pub mod damage;
pub mod double;
mod example;
mod gate;
pub mod golden;
mod healthy;
pub mod hold;
pub mod mock;
pub mod pass_server;
mod service;
#[cfg(all(unix, feature = "cli"))]
pub mod terminal;
mod tunnel;

use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
pub use connection::{RecordedRequest, Reply};
pub use example::example;
pub use gate::{Gate, Gauge};
pub use healthy::{healthy_service, number_of, result, service_with_polls, service_with_settings};
use serde_json::Value;
pub use service::{Connections, Service, is_for_current_services, listener_with_small_buffers};
use tinkex::clock::ManualClock;
use tinkex::{Config, ConfigBuilder, Proxy};
pub use tunnel::{Tunnels, refusing_proxy, socks_proxy, tunnelling_proxy};

/// A test that waits longer than this for something that must happen has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// The most tries for what a busy machine may be too slow for.
pub const TRIES: usize = 20;

/// The API key in the configurations of the tests.
pub const KEY: &str = "tml-test-key";

/// A token with these claims, whose signature nobody checks.
pub fn token(claims: &Value, signature: &str) -> String {
    format!("eyJhbGciOiJIUzI1NiJ9.{}.{signature}", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// A configuration for the service at this address. Without telemetry, so that every request is one that the test is about.
pub fn config_for(url: String) -> ConfigBuilder {
    Config::builder().api_key(KEY).base_url(url).proxy(Proxy::Off).telemetry(false)
}

/// Takes all variables from a program, but for the one that says where `scripts/coverage` wants its counters.
pub fn clear_environment(command: &mut Command) -> &mut Command {
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "LLVM_PROFILE_FILE"))
}

/// Blocks until the client's shortest wait takes this number of milliseconds, and advances the clock past it.
pub fn advance_past_wait(manual: &ManualClock, millis: std::ops::RangeInclusive<u128>) {
    let mut wait = Duration::ZERO;
    manual.until_waiting(|waits| {
        wait = waits.first().copied().unwrap_or_default();
        millis.contains(&wait.as_millis())
    });
    manual.advance(wait);
}

/// Runs a call that waits so often, each time for this many milliseconds.
pub fn after_waits<T: Send>(manual: &ManualClock, waits: &[u128], call: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let call = scope.spawn(call);
        waits.iter().for_each(|&millis| advance_past_wait(manual, millis..=millis));
        call.join().unwrap()
    })
}

/// Runs this for each item, on so many threads.
pub fn each_at_once<T>(threads: usize, items: impl IntoIterator<Item = T, IntoIter: Send>, run: impl Fn(T) + Sync) {
    let items = Mutex::new(items.into_iter());
    // Not in the condition of the loop, which would hold the lock while an item runs.
    let next = || items.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = next() {
                    run(item);
                }
            });
        }
    });
}

/// A client of this configuration.
pub fn connect(config: ConfigBuilder) -> tinkex::ServiceClient {
    tinkex::ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap()
}

/// One datum of three tokens.
pub fn batch() -> tinkex::types::Batch {
    use tinkex::types::{Datum, ModelInput};
    let datum = Datum::new(ModelInput::from_tokens(vec![1, 2, 3])).input("target_tokens", vec![2_i64, 3, 4]).unwrap();
    vec![datum.input("weights", vec![1.0_f32; 3]).unwrap()].into()
}

/// A prompt of tokens and both kinds of images, as in the fixtures.
pub fn image_prompt() -> tinkex::types::ModelInput {
    use tinkex::types::{ImageAssetPointerChunk, ImageChunk, ImageFormat, ModelInput};
    let data = b"\x89PNG\r\n\x1a\n\0\xff".to_vec();
    ModelInput::from_tokens([1, 2])
        .append(ImageChunk::from_parts(data, ImageFormat::Png, 2, 2, 4))
        .append(ImageAssetPointerChunk::new("s3://bucket/img.jpg", ImageFormat::Jpeg, 10, 20, 5))
        .append([3])
}
