//! Clients and what they return can be shared between threads. This file compiles only if that is so.

use tinkex::api::Api;
use tinkex::{Config, Error, Pending, RestClient, SamplingClient, ServiceClient, Telemetry, Tokenizer, TrainingClient};

const fn is_send_and_sync<T: Send + Sync>() {}

const fn is_send_and_sync_if_the_result_is_send<T: Send>() {
    is_send_and_sync::<Pending<T>>();
}

#[test]
fn clients_are_send_and_sync() {
    is_send_and_sync::<ServiceClient>();
    is_send_and_sync::<TrainingClient>();
    is_send_and_sync::<SamplingClient>();
    is_send_and_sync::<RestClient>();
    is_send_and_sync::<Api>();
    is_send_and_sync::<Telemetry>();
    is_send_and_sync::<Tokenizer>();
    is_send_and_sync::<Config>();
    is_send_and_sync::<Error>();
}

#[cfg(feature = "local")]
#[test]
fn the_local_server_is_send_and_sync() {
    is_send_and_sync::<tinkex::local::LocalServer>();
}

#[test]
fn pending_is_send_and_sync() {
    // `Cell` is `Send` but not `Sync`: nothing more than `Send` may be asked of a result.
    is_send_and_sync_if_the_result_is_send::<std::cell::Cell<u8>>();
    is_send_and_sync::<Pending<TrainingClient>>();
}
