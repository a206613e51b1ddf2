//! API keys and tokens.

use std::time::Duration;

use serde_json::json;
use tinkex::local::{Flag, LocalServer};
use tinkex::types::{AdamParams, LoraConfig};
use tinkex::{Config, RestClient, ServiceClient};

use super::client::{Client, Response};

fn token(client: &mut Client) -> String {
    client.ok("auth/token", json!({}))["jwt"].as_str().unwrap().to_owned()
}

fn is_invalid_token(response: &Response) -> bool {
    let challenge = response.header("www-authenticate").unwrap_or_default();
    response.status == 401 && challenge.starts_with("Bearer error=\"invalid_token\"")
}

fn with_tokens() -> LocalServer {
    let flag: Flag = "pjwt_auth_enabled=true".parse().unwrap();
    LocalServer::builder().flag(flag).start().unwrap()
}

#[test]
fn a_token_stands_for_its_key() {
    let server = LocalServer::start().unwrap();
    let mut by_key = Client::new(&server);
    let mut by_token = Client::new(&server).key(token(&mut by_key));
    let session = by_key.session();
    assert_eq!(by_token.get(&format!("sessions/{session}")).status, 200);
    assert_eq!(by_token.get("sessions").json()["sessions"], json!([session]));
    assert_eq!(by_token.get("auth/apikey/me").json(), by_key.get("auth/apikey/me").json());
    let other = token(&mut Client::new(&server).key("tml-other"));
    assert_eq!(Client::new(&server).key(other).get(&format!("sessions/{session}")).status, 403);
}

#[test]
fn forged_tokens_are_refused_everywhere() {
    let server = LocalServer::start().unwrap();
    let token = token(&mut Client::new(&server));
    let (signed, _) = token.rsplit_once('.').unwrap();
    for forged in ["eyJ".to_owned(), format!("{signed}."), format!("{signed}.AAAA"), token.replacen("eyJh", "eyJi", 1)]
    {
        let mut client = Client::new(&server).key(forged.clone());
        for (method, endpoint) in [("GET", "sessions"), ("POST", "auth/token"), ("DELETE", "auth/apikey/me")] {
            let response = client.request(method, endpoint);
            assert!(is_invalid_token(&response), "{forged}: {response:?}");
            let words = "this server did not issue the token: exchange the API key for a new one at auth/token";
            assert_eq!(response.detail(), words);
        }
    }
}

#[test]
fn expired_tokens_are_refused() {
    let server = LocalServer::builder().token_time(Duration::ZERO).start().unwrap();
    let token = token(&mut Client::new(&server));
    let response = Client::new(&server).key(token).get("sessions");
    assert!(is_invalid_token(&response));
    assert!(response.detail().starts_with("the token has expired: "), "{response:?}");
}

#[test]
fn a_revoked_key_is_refused_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let start = || LocalServer::builder().data_dir(directory.path()).start().unwrap();
    let server = start();
    let mut client = Client::new(&server).key("tml-lost");
    let token = token(&mut client);
    let key = client.get("auth/apikey/me").json();
    let name = key["name"].as_str().unwrap();
    assert_eq!(key["details"]["user_details"]["email"], format!("{name}@localhost"));
    assert!(key["key_id"].as_u64().unwrap() > 0 && key["note"] == "" && !name.contains("lost"));

    assert_eq!(client.request("DELETE", "auth/apikey/me").status, 204);
    let refused = |server: &LocalServer, key: &str| {
        let response = Client::new(server).key(key).get("sessions");
        assert_eq!((response.status, response.header("www-authenticate")), (401, None));
        assert_eq!(response.detail(), "the API key was revoked: use another one");
    };
    refused(&server, "tml-lost");
    refused(&server, &token);
    assert_eq!(Client::new(&server).get("sessions").status, 200);
    server.stop();
    let server = start();
    refused(&server, "tml-lost");
    // The secret that signs tokens is kept as well.
    refused(&server, &token);
}

#[test]
fn the_client_trains_with_tokens() {
    let server = with_tokens();
    let config =
        Config::builder().base_url(server.base_url()).api_key("tml-a").telemetry(false).build_with(|_| None).unwrap();
    let service = ServiceClient::connect(config.clone()).unwrap();
    let training = service.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::default()).unwrap();
    training.optim_step(AdamParams::default()).unwrap();
    let whoami = RestClient::new(config).unwrap().whoami().unwrap();
    let owner = whoami.user_urn.unwrap();
    assert!(owner.starts_with("key-"));
    assert_eq!(
        (whoami.org_urn.as_deref(), whoami.email),
        (Some("tml:organization:local"), Some(format!("{owner}@localhost")))
    );
    assert!(server.activity().requests_to("token").count() >= 1);
}

#[test]
fn the_client_replaces_tokens_that_expired() {
    let flag: Flag = "pjwt_auth_enabled=true".parse().unwrap();
    let server = LocalServer::builder().flag(flag).token_time(Duration::ZERO).start().unwrap();
    let config =
        Config::builder().base_url(server.base_url()).api_key("tml-a").telemetry(false).build_with(|_| None).unwrap();
    // Every token is refused at once: the key is exchanged again, and the same request sent once more.
    let error = ServiceClient::connect(config).unwrap_err();
    assert_eq!(error.status(), Some(401), "{error}");
    let activity = server.activity();
    let keys: Vec<_> =
        activity.requests_to("create_session").map(|request| request.header("x-idempotency-key")).collect();
    assert_eq!(keys.len(), 2);
    assert!(keys[0].is_some() && keys[0] == keys[1]);
    assert!(activity.requests_to("token").count() > 1);
}
