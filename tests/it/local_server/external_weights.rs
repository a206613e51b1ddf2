//! External weights, and the links to files and archives.

use std::time::Duration;

use serde_json::json;
use tinkex::local::LocalServer;

use super::client::{Client, save};
use super::weights::{checkpoints, trained, with};

#[test]
fn external_weights_are_fetched_file_by_file() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let run = trained(&mut client);
    let saved = client.call("save_weights_external", save(&run, 4, "ext"));
    assert_eq!(saved["path"], format!("tinker://{run}/external_weights/ext"));
    let listed = checkpoints(&mut client, &run);
    assert_eq!((&listed[1]["checkpoint_type"], &listed[1]["size_bytes"]), (&json!("external"), &saved["size_bytes"]));

    let urls =
        client.get(&format!("training_runs/{run}/checkpoints/external_weights/ext/external_weights_urls")).json();
    let expires = urls["expires"].as_str().unwrap().parse::<tinkex::types::Timestamp>().unwrap();
    assert!(expires.system_time() > std::time::SystemTime::UNIX_EPOCH);
    let mut sizes = 0;
    for (name, url) in urls["urls"].as_object().unwrap() {
        let file = client.follow(url.as_str().unwrap());
        assert_eq!(file.status, 200);
        sizes += file.body.len();
        if name == "adapter_config.json" {
            assert_eq!((&file.json()["peft_type"], &file.json()["r"]), (&json!("LORA"), &json!(4)));
            assert_eq!(file.json()["target_modules"], json!(["k_proj", "lm_head", "o_proj", "q_proj", "v_proj"]));
        } else {
            assert_eq!(name, "adapter_model.safetensors");
            assert!(safetensors::SafeTensors::deserialize(&file.body).unwrap().len() > 4);
        }
        assert_eq!(client.follow(&url.as_str().unwrap().replace("files/", "archives/")).status, 403);
    }
    assert_eq!(saved["size_bytes"], sizes);
    let of_training = client.get(&format!("training_runs/{run}/checkpoints/weights/one/external_weights_urls"));
    assert_eq!(of_training.status, 400);
    let encrypted = with(save(&run, 5, "secret"), json!({ "age_encryption_recipients": ["age1xyz"] }));
    let refused = client.post("save_weights_external", encrypted);
    assert!(refused.status == 400 && refused.detail().contains("does not encrypt"), "{}", refused.detail());
}

#[test]
fn a_link_for_ever_has_an_end() {
    let server = LocalServer::builder().link_time(Duration::MAX).start().unwrap();
    let mut client = Client::new(&server);
    let run = trained(&mut client);
    client.call("save_weights_external", save(&run, 4, "ext"));
    let urls = client.get(&format!("training_runs/{run}/checkpoints/external_weights/ext/external_weights_urls"));
    assert_eq!(urls.json()["expires"], "9999-12-31T23:59:59Z");
    let archive = client.get(&format!("training_runs/{run}/checkpoints/weights/one/archive"));
    assert_eq!(archive.header("expires"), Some("Fri, 31 Dec 9999 23:59:59 GMT"));
    let path = archive.header("location").unwrap().strip_prefix("http://local.test").unwrap();
    client.write(format!("GET {path} HTTP/1.1\r\n\r\n")).unwrap();
    assert_eq!(client.receive().unwrap().status, 200);
}
