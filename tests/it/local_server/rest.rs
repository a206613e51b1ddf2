//! Runs, checkpoints, sessions and samplers: listed, published, deleted, fetched as archives.

use std::io::Read;
use std::time::Duration;

use serde_json::{Value, json};
use tinkex::local::LocalServer;

use super::client::{Client, Response, save};

const BASE: &str = "tinkex/bytes-tiny";

/// A run with one checkpoint of each kind: "one" for training and "two" for sampling.
fn with_checkpoints(client: &mut Client) -> String {
    let run = client.model(BASE);
    client.call("save_weights", save(&run, 1, "one"));
    client.call("save_weights_for_sampler", save(&run, 2, "two"));
    run
}

fn ids(checkpoints: &Value) -> Vec<&str> {
    let checkpoints = checkpoints["checkpoints"].as_array().unwrap();
    checkpoints.iter().map(|checkpoint| checkpoint["checkpoint_id"].as_str().unwrap()).collect()
}

#[test]
fn a_run_is_shown_with_its_last_checkpoints() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let run = with_checkpoints(&mut client);
    // Clients may percent-encode the colons of an id.
    for path in [run.clone(), run.replace(':', "%3A")] {
        let shown = client.get(&format!("training_runs/{path}?access_scope=owned")).json();
        assert_eq!((&shown["training_run_id"], &shown["base_model"]), (&json!(run), &json!(BASE)));
        assert_eq!(
            (&shown["is_lora"], &shown["lora_rank"], &shown["corrupted"]),
            (&json!(true), &json!(8), &json!(false))
        );
        assert_eq!(shown["last_checkpoint"]["tinker_path"], format!("tinker://{run}/weights/one"));
        assert_eq!(shown["last_sampler_checkpoint"]["checkpoint_type"], "sampler");
        assert!(!shown["model_owner"].as_str().unwrap().contains("tml-test"));
    }
    assert_eq!(client.get("training_runs/nothing").status, 404);
}

#[test]
fn run_has_its_metadata() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let session_id = client.session();
    let body = json!({
        "session_id": session_id, "model_seq_id": 3, "base_model": BASE, "user_metadata": { "a": "b" },
        "lora_config": { "rank": 4 }, "type": "create_model",
    });
    let run = client.call("create_model", body)["model_id"].as_str().unwrap().to_owned();
    let shown = client.get(&format!("training_runs/{run}")).json();
    assert_eq!((&shown["user_metadata"], &shown["lora_rank"]), (&json!({ "a": "b" }), &json!(4)));
    assert_eq!((&shown["last_checkpoint"], &shown["last_sampler_checkpoint"]), (&Value::Null, &Value::Null));
}

#[test]
fn lists_come_in_pages_newest_first() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let runs: Vec<_> = (0..25).map(|_| client.model(BASE)).collect();
    let page = |response: Response| -> (Vec<String>, Value) {
        let body = response.json();
        let runs = body["training_runs"].as_array().unwrap().iter();
        let ids = runs.map(|run| run["training_run_id"].as_str().unwrap().to_owned());
        (ids.collect(), body["cursor"].clone())
    };
    let newest: Vec<_> = runs.iter().rev().cloned().collect();
    let cursor = |offset: u64, limit: u64| json!({ "offset": offset, "limit": limit, "total_count": 25 });
    assert_eq!(page(client.get("training_runs")), (newest[..20].to_vec(), cursor(0, 20)));
    assert_eq!(page(client.get("training_runs?limit=3&offset=23")), (newest[23..].to_vec(), cursor(23, 3)));
    assert_eq!(page(client.get("training_runs?offset=99&access_scope=owned")), (Vec::new(), cursor(99, 20)));
    let refused = client.get("training_runs?limit=x");
    assert_eq!((refused.status, &refused.json()["detail"][0]["loc"]), (422, &json!(["query", "limit"])));

    let sessions = client.get("sessions?limit=2").json();
    assert_eq!(sessions, json!({ "sessions": ["session-25", "session-24"] }));
}

#[test]
fn checkpoints_are_listed_per_run_and_overall() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let (first, _second) = (with_checkpoints(&mut client), with_checkpoints(&mut client));
    let of_run = client.get(&format!("training_runs/{first}/checkpoints")).json();
    assert_eq!(ids(&of_run), ["weights/one", "sampler_weights/two"]);
    let one = &of_run["checkpoints"][0];
    assert_eq!((&one["checkpoint_type"], &one["public"]), (&json!("training"), &json!(false)));
    assert!(one["size_bytes"].as_u64().unwrap() > 10_000, "{one}");

    let all = client.get("checkpoints?limit=3&offset=1").json();
    assert_eq!(ids(&all), ["weights/one", "sampler_weights/two", "weights/one"]);
    assert_eq!(all["cursor"], json!({ "offset": 1, "limit": 3, "total_count": 4 }));
    assert_eq!(client.get("checkpoints").json()["cursor"]["limit"], 100);
}

#[test]
fn deleted_checkpoint_frees_its_name() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let run = with_checkpoints(&mut client);
    let path = format!("training_runs/{run}/checkpoints/weights/one");
    assert_eq!(client.request("DELETE", &path).status, 204);
    assert_eq!(client.request("DELETE", &path).status, 404);
    assert_eq!(ids(&client.get(&format!("training_runs/{run}/checkpoints")).json()), ["sampler_weights/two"]);
    let load = json!({ "model_id": run, "path": format!("tinker://{run}/weights/one"), "seq_id": 3 });
    assert_eq!(client.call("load_weights", load)["category"], "user");
    client.call("save_weights", save(&run, 4, "one"));
    assert_eq!(client.post("save_weights", save(&run, 5, "one")).status, 400);
}

#[test]
fn checkpoint_name_may_be_any_path_segment() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let run = client.model(BASE);
    client.call("save_weights", save(&run, 1, "a b.ü"));
    let path = format!("training_runs/{run}/checkpoints/weights/a%20b.%C3%BC");
    assert_eq!(client.request("POST", &format!("{path}/publish")).status, 204);
    assert_eq!(client.request("DELETE", &path).status, 204);
    for name in ["", "a/b", "a?b", "x#y", "new\nline"] {
        assert_eq!(client.post("save_weights", save(&run, 2, name)).status, 400, "{name:?}");
    }
}

#[test]
fn published_checkpoint_is_readable_but_not_writable() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let mut other = Client::new(&server).key("tml-other");
    let run = with_checkpoints(&mut client);
    let path = format!("training_runs/{run}/checkpoints/weights/one");
    let public = |client: &mut Client| {
        client.get(&format!("training_runs/{run}/checkpoints")).json()["checkpoints"][0]["public"].clone()
    };
    let info = json!({ "tinker_path": format!("tinker://{run}/weights/one") });
    assert_eq!(other.post("weights_info", info.clone()).status, 403);

    assert_eq!(client.request("POST", &format!("{path}/publish")).status, 204);
    assert_eq!(public(&mut client), true);
    assert_eq!(other.ok("weights_info", info.clone())["base_model"], BASE);
    assert_eq!(other.get(&format!("{path}/archive")).status, 302);
    let theirs = other.model(BASE);
    let load = json!({ "model_id": theirs, "path": info["tinker_path"], "seq_id": 1, "optimizer": true });
    assert_eq!(other.call("load_weights", load)["path"], info["tinker_path"]);
    assert_eq!(other.request("DELETE", &path).status, 403);
    assert_eq!(other.request("DELETE", &format!("{path}/publish")).status, 403);

    assert_eq!(client.request("DELETE", &format!("{path}/publish")).status, 204);
    assert_eq!(public(&mut client), false);
    assert_eq!(other.post("weights_info", info).status, 403);
}

#[test]
fn resources_of_other_keys_are_inaccessible() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let mut other = Client::new(&server).key("tml-other");
    let run = with_checkpoints(&mut client);
    let session = run.split(':').next().unwrap().to_owned();
    let sampler = client.sampler(BASE);
    let promise = client.promise("save_weights", save(&run, 3, "three"));
    for (method, endpoint, body) in [
        ("GET", format!("training_runs/{run}"), json!(null)),
        ("GET", format!("training_runs/{run}/checkpoints"), json!(null)),
        ("GET", format!("training_runs/{run}/checkpoints/weights/one/archive"), json!(null)),
        ("POST", format!("training_runs/{run}/checkpoints/weights/one/publish"), json!(null)),
        ("DELETE", format!("training_runs/{run}/checkpoints/weights/one"), json!(null)),
        ("GET", format!("sessions/{session}"), json!(null)),
        ("GET", format!("samplers/{sampler}"), json!(null)),
        ("POST", "get_info".to_owned(), json!({ "model_id": run })),
        ("POST", "unload_model".to_owned(), json!({ "model_id": run })),
        ("POST", "optim_step".to_owned(), json!({ "model_id": run, "seq_id": 9, "adam_params": {} })),
        ("POST", "session_heartbeat".to_owned(), json!({ "session_id": session })),
        ("POST", "retrieve_future".to_owned(), json!({ "request_id": promise })),
    ] {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        other.send(method, &endpoint, &body);
        let response = other.receive().unwrap();
        assert_eq!(response.status, 403, "{method} {endpoint}");
        assert!(response.detail().contains("another API key"), "{endpoint}");
    }
    assert_eq!(other.get("training_runs").json()["cursor"]["total_count"], 0);
    assert_eq!(other.get("checkpoints").json()["checkpoints"], json!([]));
    assert_eq!(other.get("sessions").json(), json!({ "sessions": [] }));
    client.result(&promise);
}

#[test]
fn sessions_and_samplers_are_described() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let run = with_checkpoints(&mut client);
    let session = run.split(':').next().unwrap().to_owned();
    let path = format!("tinker://{run}/sampler_weights/two");
    let open = |seq: u64, base: Option<&str>, path: Option<&str>| json!({ "session_id": session, "sampling_session_seq_id": seq, "base_model": base, "model_path": path });
    let opened = client.ok("create_sampling_session", open(0, None, Some(&path)));
    assert_eq!(opened["type"], "create_sampling_session");
    client.ok("create_sampling_session", open(1, Some(BASE), None));
    let samplers = [0, 1].map(|number| format!("{session}:sample:{number}"));
    assert_eq!(
        client.get(&format!("sessions/{session}")).json(),
        json!({
            "training_run_ids": [run], "sampler_ids": samplers, "user_metadata": null, "display_name": null,
        })
    );
    let sampler = |client: &mut Client, id: &str| client.get(&format!("samplers/{id}")).json();
    let shown = sampler(&mut client, &samplers[0]);
    assert_eq!(shown, json!({ "sampler_id": samplers[0], "base_model": BASE, "model_path": path }));
    assert_eq!(sampler(&mut client, &samplers[1])["model_path"], Value::Null);
    assert_eq!(client.get("sessions/none").status, 404);
    assert_eq!(client.get("samplers/none").status, 404);
    let info = client.ok("weights_info", json!({ "tinker_path": path }));
    let all = json!({
        "base_model": BASE, "is_lora": true, "lora_rank": 8, "train_attn": true, "train_mlp": true, "train_unembed": true,
        "optimizer_config": { "type": "adamw" },
    });
    assert_eq!(info, all);
}

#[test]
fn archive_has_peft_files_behind_signed_link() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let run = with_checkpoints(&mut client);
    let link = client.get(&format!("training_runs/{run}/checkpoints/weights/one/archive"));
    assert_eq!((link.status, link.body.len()), (302, 0));
    let expires = httpdate::parse_http_date(link.header("expires").unwrap()).unwrap();
    assert!(expires > std::time::UNIX_EPOCH);

    let response = client.follow(link.header("location").unwrap());
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/gzip")));
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(response.body.as_slice()));
    let mut names = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        match name.as_str() {
            "adapter_config.json" => {
                let config: Value = serde_json::from_slice(&bytes).unwrap();
                assert_eq!((&config["peft_type"], &config["r"]), (&json!("LORA"), &json!(8)));
            }
            _ => drop(safetensors::SafeTensors::deserialize(&bytes).unwrap()),
        }
        names.push(name);
    }
    assert_eq!(names, ["adapter_config.json", "adapter_model.safetensors", "optimizer.safetensors"]);
}

#[test]
fn changed_or_expired_links_are_rejected() {
    let server = LocalServer::builder().link_time(Duration::ZERO).start().unwrap();
    let mut client = Client::new(&server);
    let run = with_checkpoints(&mut client);
    let link = client.get(&format!("training_runs/{run}/checkpoints/weights/one/archive"));
    let link = link.header("location").unwrap();
    let refused = client.follow(link);
    assert_eq!((refused.status, refused.detail().as_str()), (403, "the link has expired"));
    for (from, to) in [("weights/one", "sampler_weights/two"), ("expires=", "expires=9")] {
        assert_eq!(client.follow(&link.replace(from, to)).detail(), "the signature is wrong");
    }
}

#[test]
fn checkpoint_expires_after_its_ttl() {
    let server = LocalServer::builder().min_ttl(Duration::ZERO).start().unwrap();
    let mut client = Client::new(&server);
    let run = with_checkpoints(&mut client);
    let path = format!("training_runs/{run}/checkpoints/weights/one/ttl");
    let mut put = |body: &str| {
        client.send("PUT", &path, body);
        let status = client.receive().unwrap().status;
        (status, client.get(&format!("training_runs/{run}/checkpoints")).json())
    };
    let (status, listed) = put(r#"{"ttl_seconds": 3600}"#);
    assert_eq!(status, 204);
    assert!(listed["checkpoints"][0]["expires_at"].is_string());
    assert_eq!(put(r#"{"ttl_seconds": null}"#).1["checkpoints"][0]["expires_at"], Value::Null);
    // A wrong name does not keep the checkpoint for good.
    assert_eq!(put(r#"{"ttl": 3600}"#).0, 422);
    assert_eq!(ids(&put(r#"{"ttl_seconds": 0}"#).1), ["sampler_weights/two"]);
    assert_eq!(put(r#"{"ttl_seconds": null}"#).0, 404);
}

#[test]
fn published_checkpoints_make_a_run_accessible() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let mut other = Client::new(&server).key("tml-other");
    let (run, _private) = (with_checkpoints(&mut client), with_checkpoints(&mut client));
    let publish = format!("training_runs/{run}/checkpoints/weights/one/publish");
    assert_eq!(client.request("POST", &publish).status, 204);

    let runs = |client: &mut Client, query: &str| -> Vec<String> {
        let runs = client.get(&format!("training_runs?{query}")).json();
        let runs = runs["training_runs"].as_array().unwrap().iter();
        runs.map(|run| run["training_run_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(runs(&mut other, "access_scope=accessible"), [run.as_str()]);
    assert_eq!(runs(&mut other, "access_scope=owned"), [""; 0]);
    assert_eq!(runs(&mut client, "access_scope=accessible").len(), 2);
    let shown = other.get(&format!("training_runs/{run}?access_scope=accessible")).json();
    assert_eq!(shown["last_checkpoint"]["tinker_path"], format!("tinker://{run}/weights/one"));
    assert_eq!(shown["last_sampler_checkpoint"], Value::Null, "it is not published");
    assert_eq!(ids(&other.get(&format!("training_runs/{run}/checkpoints")).json()), ["weights/one"]);

    assert_eq!(other.get("sessions?access_scope=accessible").json(), json!({ "sessions": ["session-1"] }));
    let session = other.get("sessions/session-1?access_scope=accessible").json();
    assert_eq!((&session["training_run_ids"], &session["sampler_ids"]), (&json!([run]), &json!([])));

    for (path, status) in [
        (format!("training_runs/{run}"), 403),
        (format!("training_runs/{run}?access_scope=everything"), 422),
        ("sessions/session-1".to_owned(), 403),
        ("sessions/session-2?access_scope=accessible".to_owned(), 403),
        ("training_runs/session-2:train:0?access_scope=accessible".to_owned(), 403),
    ] {
        assert_eq!(other.get(&path).status, status, "{path}");
    }
}
