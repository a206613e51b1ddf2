//! Clients in separate processes.

use std::env;
use std::process::{Child, Command, Stdio};

use tinkex::local::LocalServer;

use super::client::{Client, forward_backward, optim_step, save};

const PORT: &str = "TINKEX_TEST_PORT";
const TEXT: &str = "TINKEX_TEST_TEXT";

/// Not a test: trains a model on a text and saves it, when a test starts it as a process.
#[test]
fn train_in_child_process() {
    let (Ok(port), Ok(text)) = (env::var(PORT), env::var(TEXT)) else { return };
    let mut client = Client::at(port.parse().unwrap());
    let run = client.model("tinkex/bytes-tiny");
    let mut last = String::new();
    for step in 0..10 {
        client.promise("forward_backward", forward_backward(&run, 2 * step + 1, &text));
        last = client.promise("optim_step", optim_step(&run, 2 * step + 2, 0.01));
    }
    client.result(&last);
    client.call("save_weights", save(&run, 99, "end"));
    println!("run={run}");
}

fn start(server: &LocalServer, text: &str) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "local_server::processes::train_in_child_process", "--nocapture"])
        .envs([(PORT, server.port().to_string()), (TEXT, text.to_owned())])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The archive of the checkpoint that a process saved.
fn trained(server: &LocalServer, process: Child) -> Vec<u8> {
    let output = process.wait_with_output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let run = output.lines().find_map(|line| Some(line.split_once("run=")?.1.trim())).unwrap();
    let mut client = Client::new(server);
    let link = client.get(&format!("training_runs/{run}/checkpoints/weights/end/archive"));
    let archive = client.follow(link.header("location").unwrap());
    assert_eq!(archive.status, 200);
    archive.body
}

#[test]
fn concurrent_training_matches_sequential_training() {
    let server = LocalServer::start().unwrap();
    let texts = ["the first text", "another, longer text to learn"];
    let after_each_other = texts.map(|text| trained(&server, start(&server, text)));
    let at_once = texts.map(|text| start(&server, text)).map(|process| trained(&server, process));
    assert!(at_once == after_each_other);
    assert!(at_once[0] != at_once[1]);
}
