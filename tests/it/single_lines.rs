//! No header, id or name has a line break, which would begin another line of a head or of a log.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
#[cfg(feature = "tokenizers")]
use tinkex::TokenizerSource;
use tinkex::rest::CopyWeights;
use tinkex::types::{AuditEventType, LoadOptions, LoraConfig, SaveOptions, SessionSearch};
use tinkex::{ConfigBuilder, Error, ErrorKind, Result, ServiceClient, TrainingClient, TrainingOptions};

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
    let calls: [(&str, Call); 33] = [
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
        ("token of a copy", |client, _, text| {
            let copy = CopyWeights::new(of_run("a")).destination_project_id("p").weights_access_token(text);
            client.create_rest_client().copy_weights(&copy).map(drop)
        }),
        ("token of a load", |_, trainer, text| {
            trainer.load_state(LoadOptions::new(of_run("a")).weights_access_token(text)).map(drop)
        }),
        ("token of a state", |client, _, text| {
            client.training_client().from_state(of_run("a")).weights_access_token(text).create().map(drop)
        }),
        ("publish_checkpoint", |client, _, text| client.create_rest_client().publish_checkpoint(text, "weights/a")),
        ("unpublish_checkpoint", |client, _, text| {
            client.create_rest_client().unpublish_checkpoint("run", &format!("weights/{text}b"))
        }),
        ("set_checkpoint_ttl", |client, _, text| {
            client.create_rest_client().set_checkpoint_ttl_from_tinker_path(&of_run(text), None)
        }),
        ("get_checkpoint_archive_url", |client, _, text| {
            client.create_rest_client().get_checkpoint_archive_url(text, "weights/a").map(drop)
        }),
        ("get_external_weights_urls", |client, _, text| {
            client.create_rest_client().get_external_weights_urls(&of_run(text)).map(drop)
        }),
        ("get_weights_info", |client, _, text| {
            client.create_rest_client().get_weights_info_by_tinker_path(&of_run(text)).map(drop)
        }),
        ("download_checkpoint_archive", |client, _, text| {
            client
                .create_rest_client()
                .download_checkpoint_archive(text, "weights/a", Path::new("/no/folder"))
                .map(drop)
        }),
        ("list_training_runs_of_project", |client, _, text| {
            client.create_rest_client().list_training_runs_of_project(text, 1, 0).map(drop)
        }),
        ("project of the storage", |client, _, text| {
            client.create_rest_client().get_current_checkpoint_storage_usage(Some(text)).map(drop)
        }),
        ("day of the audit log", |client, _, text| {
            client.create_rest_client().get_audit_log(&AuditEventType::All, Some(text)).map(drop)
        }),
        ("session of a search", |client, _, text| {
            client.create_rest_client().search_sessions(&SessionSearch::new().session_id(text)).map(drop)
        }),
        ("project of a search", |client, _, text| {
            client.create_rest_client().search_sessions(&SessionSearch::new().project_ids(["a", text])).map(drop)
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

#[cfg(feature = "tokenizers")]
#[test]
fn the_hub_gets_no_line_breaks() {
    let hub = Service::start(|_| crate::support::Reply::Json(404, json!({})));
    for text in HOSTILE {
        let source = || TokenizerSource::from_env_with(|_| None).endpoint(hub.url());
        for (name, result) in [
            ("token", source().token(format!("hf-{text}-")).load("acme/words")),
            ("revision", source().load(&format!("acme/words@{text}"))),
            ("id", source().load(&format!("acme/{text}words"))),
            ("endpoint", source().endpoint(format!("{}/{text}b", hub.url())).load("acme/words")),
        ] {
            let error = result.expect_err(name);
            assert!(!error.to_string().contains(char::is_control), "{name}: {error:?}");
            assert!(!error.to_string().contains("hf-"), "{name}: {error:?}");
        }
    }
    assert!(hub.requests().is_empty(), "a request was sent");
}

/// Recorded traffic of the official client has some: they are escaped in a body, and reach no header and no path.
#[test]
fn line_breaks_of_metadata_stay_in_bodies() {
    let service = Service::start(healthy_service);
    let client = connect(service.config().user_metadata("a\r\nx-api-key", "b\nc"));
    let options = TrainingOptions::new().user_metadata("a\r\nx-api-key", "b\nc");
    let trainer = client.create_lora_training_client("base", options).unwrap();
    trainer.save_state(SaveOptions::new("s").user_metadata("a\r\nx-api-key", "b\nc")).unwrap();
    for path in ["create_session", "create_model", "save_weights"] {
        let request = &service.requests_to(path)[0];
        assert_eq!(request.body["user_metadata"], json!({"a\r\nx-api-key": "b\nc"}), "{path}");
        assert_eq!(request.headers.iter().filter(|(name, _)| name == "x-api-key").count(), 1, "{path}");
        assert!(!request.raw.contains(&b'\n'), "{path}");
    }
}
