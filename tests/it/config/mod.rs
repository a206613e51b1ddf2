//! Every setting reaches the request or the behavior that it controls.

mod capacities;
mod limits;
mod proxies;
mod requests;

use std::time::Duration;

use tinkex::types::{AdamParams, LoraConfig, LossFn, ModelInput, SamplingParams};
use tinkex::{ConfigBuilder, Error, SamplingClient, ServiceClient, TrainingClient};

use crate::support::{Reply, Service, batch, healthy_service};

/// Longer than anything in these tests takes.
const FAR: Duration = Duration::from_secs(3600);

/// For timeouts of the socket, which take real time.
const SHORT: Duration = Duration::from_millis(100);

fn connect(builder: ConfigBuilder) -> Result<ServiceClient, Error> {
    ServiceClient::connect(builder.build_with(|_| None).unwrap())
}

fn train(client: &ServiceClient) -> TrainingClient {
    client.create_lora_training_client("base", LoraConfig::default()).unwrap()
}

fn adam() -> AdamParams {
    AdamParams::default()
}

fn sample(sampler: &SamplingClient) -> Result<(), Error> {
    let prompt = ModelInput::from_tokens(vec![1, 2, 3]);
    sampler.sample(&prompt, 1, &SamplingParams::default().max_tokens(1)).map(drop)
}

/// A healthy service, except that this path gets this reply.
fn except(path: &'static str, reply: impl Fn() -> Reply + Send + Sync + 'static) -> Service {
    Service::start(move |request| if request.path == path { reply() } else { healthy_service(request) })
}

/// Does everything once.
fn everything(builder: ConfigBuilder) {
    let client = connect(builder).unwrap();
    client.health().unwrap();
    client.get_server_capabilities().unwrap();
    let trainer = train(&client);
    trainer.get_info().unwrap();
    trainer.forward_backward(batch(), LossFn::CrossEntropy).unwrap();
    trainer.optim_step(adam()).unwrap();
    sample(&client.create_sampling_client("base").unwrap()).unwrap();
    sample(&trainer.save_weights_and_get_sampling_client().unwrap()).unwrap();
}
