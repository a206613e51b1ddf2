//! The example that fine-tunes on conversations.

use std::process::Command;

use crate::support::example;

#[test]
fn the_loss_on_held_out_conversations_falls() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/hours.jsonl");
    let output =
        Command::new(example("chat_finetune")).args([data, "2"]).env_remove("TINKER_BASE_URL").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let loss = text.lines().find_map(|line| line.strip_prefix("held-out loss: ")?.strip_suffix(" nats/token"));
    let (before, after) = loss.unwrap().split_once(" -> ").unwrap();
    assert!(after.parse::<f64>().unwrap() < before.parse().unwrap(), "{text}");
}
