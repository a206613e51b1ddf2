//! Exactly once: what a failed attempt leaves open is never forgotten, and never run twice.

#[cfg(feature = "local")]
mod chaos;
mod damaged;
#[cfg(feature = "local")]
mod outage;
mod statuses;
mod windows;

use std::time::Duration;

use tinkex::types::{AdamParams, LoraConfig};
use tinkex::{ConfigBuilder, TrainingClient};

use crate::support::{Service, connect};

/// A client whose retries follow at once, in real time.
fn quick(service: &Service) -> ConfigBuilder {
    service.config().retry_base(Duration::from_millis(1)).retry_cap(Duration::from_millis(1))
}

fn trainer(config: ConfigBuilder) -> TrainingClient {
    connect(config).create_lora_training_client("base", LoraConfig::default()).unwrap()
}

fn step(trainer: &TrainingClient) -> tinkex::Result<f64> {
    trainer.optim_step(AdamParams::default()).map(|response| response.metrics.unwrap()["step"])
}
