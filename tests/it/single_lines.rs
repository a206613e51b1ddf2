//! No header, id or name has a line break, which would begin another line of a head or of a log.

use std::time::Duration;

use tinkex::rest::CopyWeights;
use tinkex::types::LoraConfig;
use tinkex::{ConfigBuilder, Error, ErrorKind, Result, ServiceClient, TrainingClient};

use crate::support::{Service, connect, healthy_service};

const HOSTILE: [&str; 4] = ["a\r\nx-api-key: b", "a\n", "\r", "a\0"];

type Set = fn(ConfigBuilder, &str) -> ConfigBuilder;

#[test]
fn settings_with_line_breaks_are_refused() {
    let settings: [(&str, Set); 9] = [
        ("api_key", |config, text| config.api_key(format!("tml-{text}-"))),
        ("header", |config, text| config.header("x-a", format!("{text}b"))),
        ("name of a header", |config, text| config.header(text, "b")),
        ("cloudflare id", |config, text| config.cloudflare_access(format!("{text}b"), "b")),
        ("cloudflare secret", |config, text| config.cloudflare_access("b", format!("{text}b"))),
        ("base_url", |config, text| config.base_url(format!("http://127.0.0.1:1/{text}b"))),
        ("tags", |config, text| config.tags(["a", text])),
        ("project_id", |config, text| config.project_id(format!("{text}b"))),
        ("display_name", |config, text| config.display_name(format!("{text}b"))),
    ];
    for (name, set) in settings {
        for text in HOSTILE {
            let config = tinkex::Config::builder().api_key("tml-k").base_url("http://127.0.0.1:1");
            let error = set(config, text).build_with(|_| None).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Config, "{name}: {error}");
            assert!(!error.to_string().contains(char::is_control), "{name}: {error:?}");
        }
    }
}

type Call = fn(&ServiceClient, &TrainingClient, &str) -> Result<()>;

fn of_run(text: &str) -> String {
    format!("tinker://run/weights/{text}b")
}

#[test]
fn arguments_with_line_breaks_are_refused() {
    let calls: [(&str, Call); 18] = [
        ("base model", |client, _, text| client.create_lora_training_client(text, LoraConfig::default()).map(drop)),
        ("path of a state", |client, _, text| client.create_training_client_from_state(&*of_run(text)).map(drop)),
        ("model of a sampler", |client, _, text| client.create_sampling_client(&*format!("{text}b")).map(drop)),
        ("path of a sampler", |client, _, text| client.create_sampling_client(&*of_run(text)).map(drop)),
        ("save_state", |_, trainer, text| trainer.save_state(text).map(drop)),
        ("save_weights_for_sampler", |_, trainer, text| trainer.save_weights_for_sampler(text).map(drop)),
        ("load_state", |_, trainer, text| trainer.load_state(&*of_run(text)).map(drop)),
        ("get_session", |client, _, text| client.create_rest_client().get_session(text).map(drop)),
        ("get_sampler", |client, _, text| client.create_rest_client().get_sampler(text).map(drop)),
        ("get_training_run", |client, _, text| client.create_rest_client().get_training_run(text).map(drop)),
        ("list_checkpoints", |client, _, text| client.create_rest_client().list_checkpoints(text).map(drop)),
        ("delete_checkpoint", |client, _, text| {
            client.create_rest_client().delete_checkpoint("run", &format!("weights/{text}b"))
        }),
        ("delete_checkpoint_from_tinker_path", |client, _, text| {
            client.create_rest_client().delete_checkpoint_from_tinker_path(&of_run(text))
        }),
        ("assign_session_project", |client, _, text| {
            client.create_rest_client().assign_session_project("session", text)
        }),
        ("export_session_trace", |client, _, text| {
            client.create_rest_client().export_session_trace(text, Duration::from_secs(1)).map(drop)
        }),
        ("path of a copy", |client, _, text| {
            let copy = CopyWeights::new(of_run(text)).destination_project_id("p");
            client.create_rest_client().copy_weights(&copy).map(drop)
        }),
        ("project of a copy", |client, _, text| {
            let copy = CopyWeights::new(of_run("a")).destination_project_id(text);
            client.create_rest_client().copy_weights(&copy).map(drop)
        }),
        ("header of a call", |client, _, text| {
            client.api().get("/api/v1/x").header("x-a", format!("{text}b")).send().map(drop)
        }),
    ];
    let service = Service::start(healthy_service);
    let client = connect(service.config());
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let sent = service.requests().len();
    for (name, call) in calls {
        for text in HOSTILE {
            let error: Error = call(&client, &trainer, text).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}: {error}");
            assert!(!error.to_string().contains(char::is_control), "{name}: {error:?}");
        }
    }
    assert_eq!(service.requests().len(), sent, "a request was sent");
}
