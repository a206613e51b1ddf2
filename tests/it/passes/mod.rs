//! Passes over batches on services of each generation: formats, chunks, and numbers that leave no hole.

mod chunks;
mod formats;
mod numbers;
mod refused;
mod repeated;
mod trials;

use tinkex::types::{Batch, Datum, LoraConfig, ModelInput};
use tinkex::{Config, ConfigBuilder, Proxy, TrainingClient};

use crate::support::double::SeenPass;
use crate::support::pass_server::{Generation, PassServer};
use crate::support::{RecordedRequest, Reply, Service, connect};

/// Starts this server.
fn start(server: &PassServer) -> Service {
    let server = server.clone();
    Service::start_current(move |request| match &*request.method {
        "CONNECT" => Reply::Full { status: 200, headers: Vec::new(), body: Vec::new() },
        _ => server.reply(request),
    })
}

fn generation(generation: Generation) -> (PassServer, Service) {
    let server = PassServer::new(generation);
    let service = start(&server);
    (server, service)
}

fn trainer(config: ConfigBuilder) -> TrainingClient {
    connect(config).create_lora_training_client("base", LoraConfig::default()).unwrap()
}

/// The service, behind a proxy, under the host name of the official one.
fn official(service: &Service) -> ConfigBuilder {
    assert!(tinkex::DEFAULT_BASE_URL.starts_with("https://tinker.thinkingmachines.dev/"));
    let url = "http://tinker.thinkingmachines.dev";
    Config::builder().api_key("tml-k").base_url(url).proxy(Proxy::Url(service.url())).telemetry(false)
}

/// One datum of these tokens.
fn datum(tokens: &[u32]) -> Datum {
    let targets: Vec<i64> = tokens.iter().map(|&token| i64::from(token) + 1).collect();
    let datum = Datum::new(ModelInput::from_tokens(tokens)).input("target_tokens", targets).unwrap();
    datum.input("weights", vec![1.0_f32; tokens.len()]).unwrap()
}

/// Datums of one token each: 0, 1, 2, …
fn counted(count: u32) -> Batch {
    (0..count).map(|token| datum(&[token])).collect()
}

/// Path, content type and number of each training request.
fn sent(service: &Service) -> Vec<(String, &'static str, u64)> {
    let requests = service.requests().into_iter().filter(is_training);
    requests.map(|request| (request.path.clone(), format(&request), number(&request))).collect()
}

fn is_training(request: &RecordedRequest) -> bool {
    ["forward", "forward_backward", "optim_step", "save_weights"].contains(&&*request.path)
}

fn format(request: &RecordedRequest) -> &'static str {
    match request.header("content-type").unwrap() {
        "application/json" => "json",
        "application/x-protobuf" => "protobuf",
        other => panic!("{other}"),
    }
}

fn number(request: &RecordedRequest) -> u64 {
    request.seq_id().unwrap_or_else(|| SeenPass::read(request).unwrap().seq_id)
}
