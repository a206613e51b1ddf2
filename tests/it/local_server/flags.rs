//! What the server announces to its clients, and holds them to.

use serde_json::json;
use tinkex::local::LocalServer;
use tinkex::types::wire::protobuf::pass_request;
use tinkex::types::wire::{ClientConfig, ClientDynamicConfig};
use tinkex::types::{Datum, Loss, LossFn, ModelInput};

use super::client::{Client, batch, forward_backward};

const BASE: &str = "tinkex/bytes-tiny";

#[test]
fn flags_are_announced() {
    let server = LocalServer::builder()
        .client_config(ClientConfig { sample_no_retries: true, ..ClientConfig::default() })
        .flag("fwdbwd_max_chunk_len=7".parse().unwrap())
        .flag("refresh_interval_sec=20".parse().unwrap())
        .start()
        .unwrap();
    let mut client = Client::new(&server);
    let body = json!({ "sdk_version": "0.38.0" });
    let config: ClientConfig = serde_json::from_value(client.ok("client/config", body.clone())).unwrap();
    let expected = ClientConfig { sample_no_retries: true, fwdbwd_max_chunk_len: 7, ..ClientConfig::default() };
    assert_eq!(config, expected);
    let dynamic: ClientDynamicConfig = serde_json::from_value(client.ok("client/dynamic_config", body)).unwrap();
    assert_eq!(dynamic, ClientDynamicConfig { refresh_interval_sec: 20, ..ClientDynamicConfig::default() });
}

#[test]
fn chunks_beyond_the_limits_are_refused() {
    let start = |flag: &str| LocalServer::builder().flag(flag.parse().unwrap()).start().unwrap();
    // 8 bytes of tokens, 16 of targets and 8 of weights.
    let datum = Datum::new(ModelInput::from_tokens([1, 2]))
        .input("target_tokens", [2_i64, 3])
        .and_then(|datum| datum.input("weights", [1.0_f32, 1.0]))
        .unwrap();
    for (flag, limit) in
        [("fwdbwd_max_chunk_len=2", 2), ("fwdbwd_max_chunk_bytes_count=64", 2), ("fwdbwd_max_chunk_bytes_count=1", 1)]
    {
        let server = start(flag);
        let mut client = Client::new(&server);
        let model = client.model(BASE);
        let mut pass = |seq: u64, datums: usize| {
            let data = vec![datum.clone(); datums];
            let body = pass_request(&data, &Loss::new(LossFn::CrossEntropy), &model, seq, false).unwrap();
            let head = format!("content-type: application/x-protobuf\r\ncontent-length: {}", body.len());
            let head =
                format!("POST /api/v1/forward_backward HTTP/1.1\r\nhost: h\r\nx-api-key: tml-test\r\n{head}\r\n\r\n");
            client.write([head.as_bytes(), &body].concat()).unwrap();
            client.receive().unwrap()
        };
        assert_eq!(pass(1, limit).status, 200, "{flag}");
        let refused = pass(2, limit + 1);
        assert!(refused.status == 400 && refused.detail().contains("send chunks of at most"), "{flag}: {refused:?}");
        // Clients of 2025 do not know the limits.
        let mut body = forward_backward(&model, 2, "abc");
        let data = body["forward_backward_input"]["data"].as_array_mut().unwrap();
        *data = vec![data[0].clone(); limit + 1];
        client.call("forward_backward", body);
    }
}

#[test]
fn custom_losses_are_left_to_the_client() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let model = client.model(BASE);
    let graph = json!({ "session_id": "session-1", "custom_loss_seq_id": 1, "name": "f", "inputs": [], "graph": { "format": 1, "nodes": [] } });
    let mut pass = json!({ "model_id": model, "seq_id": 1, "forward_backward_input": batch("abc") });
    pass["forward_backward_input"]["loss_fn"] = json!("custom");
    for (endpoint, body) in [("create_custom_loss", graph), ("forward_backward", pass)] {
        let refused = client.post(endpoint, body);
        assert_eq!(refused.status, 400);
        assert!(refused.detail().contains("forward_backward_custom"), "{refused:?}");
    }
}
