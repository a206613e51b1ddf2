//! `tinkex proxy` as a process.
#![cfg(feature = "cli")]

use std::io::{BufRead, BufReader};

use serde_json::json;
use tinkex::local::LocalServer;

use super::client::{Client, chat};
use super::speaker::Speaker;
use crate::cli::program::tinkex;

#[test]
fn the_program_serves_models_by_name() {
    let server = Speaker::serve("Hello!");
    let options = "--model test/speaker=speaker --model test/speaker --tokenizer bytes --template chatml";
    let mut child = tinkex(&format!("proxy {options}")).at(&server.base_url()).start();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.strip_prefix("listening on http://127.0.0.1:").and_then(|rest| rest.strip_suffix("/v1\n"));
    let mut client = Client::new(url.unwrap_or_else(|| panic!("{line:?}")).parse().unwrap());
    for name in ["speaker", "test/speaker"] {
        let (status, body) = client.post("chat/completions", &chat(&json!({ "model": name })));
        assert_eq!((status, &body["choices"][0]["message"]["content"]), (200, &json!("Hello!")), "{body}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_model_that_is_not_there_is_refused() {
    let server = LocalServer::start().unwrap();
    let done = tinkex("proxy --model test/none").at(&server.base_url()).run();
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("tinkex/bytes-tiny"), "{done:?}");
    assert_eq!(tinkex("proxy").at(&server.base_url()).run().code, Some(2));
}

#[test]
fn an_address_in_use_is_explained() {
    let server = Speaker::serve("Hello!");
    let port = server.port();
    let options = format!("--model test/speaker --tokenizer bytes --template chatml --port {port}");
    let done = tinkex(&format!("proxy {options}")).at(&server.base_url()).run();
    assert_eq!(done.code, Some(1), "{done:?}");
    let hint = format!("hint: another program listens on 127.0.0.1:{port}: choose another port with --port or --addr");
    assert!(done.stderr.contains(&hint), "{done:?}");
}
