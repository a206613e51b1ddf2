//! Optimizers, saves and loads: their options. The bodies that the client 0.38.0 sends are in `scenarios/of_2026`.

mod console;
mod copies;
mod from_state;
mod saves;
mod steps;

use serde_json::Value;
use tinkex::types::LoraConfig;
use tinkex::{ServiceClient, TrainingClient};

use crate::support::{Service, connect};

fn client(service: &Service) -> ServiceClient {
    connect(service.config())
}

fn trainer(service: &Service) -> TrainingClient {
    client(service).create_lora_training_client("base", LoraConfig::default()).unwrap()
}

/// The body of the last request to a path, without `type`.
fn last_body(service: &Service, path: &str) -> Value {
    let mut body = service.requests_to(path).pop().unwrap().body;
    body.as_object_mut().unwrap().remove("type");
    body
}
