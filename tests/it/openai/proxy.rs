//! The proxy in front of the local server.

use serde_json::json;
use tinkex::chat::{ChatTemplate, Renderer};
use tinkex::local::model::Model;
use tinkex::local::{Fault, LocalServer, OpenAiProxy, OpenAiProxyBuilder};
use tinkex::{Config, ErrorKind, ServiceClient, Tokenizer};

use super::client::{Client, chat, content, finish_reason};
use super::speaker::Speaker;
use crate::local_server::client::PATIENCE;

pub fn service(server: &LocalServer) -> ServiceClient {
    let config = Config::builder().base_url(server.base_url()).api_key("tml-test").build_with(|_| None).unwrap();
    ServiceClient::connect(config).unwrap()
}

fn renderer() -> Renderer {
    Renderer::new(ChatTemplate::builtin("chatml").unwrap(), Tokenizer::bytes()).unwrap()
}

/// A proxy for the only model of a server.
fn proxy(service: &ServiceClient) -> OpenAiProxy {
    proxy_builder(service).start().unwrap()
}

pub fn proxy_builder(service: &ServiceClient) -> OpenAiProxyBuilder {
    let sampler = service.create_sampling_client("test/speaker").unwrap();
    OpenAiProxy::builder().model("test/speaker", sampler, renderer())
}

#[test]
fn the_proxy_answers_as_the_server_does() {
    let server = Speaker::serve("<think>\nHm.\n</think>\n\none END two");
    let service = service(&server);
    let proxy = proxy(&service);
    let whole = |port: u16| {
        let (status, mut body) = Client::new(port).chat(&json!({ "stop": "END", "logprobs": true, "top_logprobs": 1 }));
        let choices = body["choices"].take();
        (status, choices, body["usage"].clone())
    };
    assert_eq!(whole(proxy.port()), whole(server.port()));

    let mut client = Client::new(proxy.port());
    client.send("POST", "chat/completions", &chat(&json!({ "stream": true, "stop": "END" })));
    let events = client.events();
    assert_eq!((content(&events, 0).as_str(), finish_reason(&events, 0).as_str()), ("one ", "stop"));
    let (_, body) = client.get("models");
    assert_eq!((body["data"].as_array().unwrap().len(), &body["data"][0]["id"]), (1, &json!("test/speaker")));
}

#[test]
fn a_client_that_goes_away_ends_the_sample() {
    let (model, _gate, counts) = Speaker::new("abc");
    let mut builder = LocalServer::builder().model(model);
    builder = builder.flag("sample_cancel_enabled=true".parse().unwrap());
    let server = builder.start().unwrap();
    let service = service(&server);
    let proxy = proxy(&service);
    let mut client = Client::new(proxy.port());
    client.send("POST", "chat/completions", &chat(&json!({ "stream": true })));
    assert!(server.wait_until(PATIENCE, |activity| activity.requests_to("retrieve_future").count() > 0));
    drop(client);
    assert_eq!(counts.recv_timeout(PATIENCE).unwrap(), 0);
}

#[test]
fn errors_of_the_service_keep_their_status() {
    let server = Speaker::serve("Hi");
    let service = service(&server);
    let proxy = proxy(&service);
    let mut client = Client::new(proxy.port());
    for status in [400, 403, 422] {
        server.inject(Fault::on("asample").times(1).status(status));
        let (got, body) = client.chat(&json!({}));
        assert_eq!(got, status, "{body}");
        assert!(body["error"]["message"].is_string(), "{body}");
    }
    let (status, body) = client.chat(&json!({ "model": "test/other" }));
    assert_eq!((status, &body["error"]["code"]), (404, &json!("model_not_found")));
    let (status, body) = client.chat(&json!({ "max_tokens": 2_000_000 }));
    assert_eq!((status, &body["error"]["code"]), (400, &json!("context_length_exceeded")), "{body}");
    assert_eq!(client.chat(&json!({})).0, 200);
}

#[test]
fn keys_are_checked_if_that_is_wanted() {
    let server = Speaker::serve("Hi");
    let sampler = service(&server).create_sampling_client("test/speaker").unwrap();
    let builder = OpenAiProxy::builder().model("test/speaker", sampler, renderer());
    let proxy = builder.api_key_check(|key| key == "mine").start().unwrap();
    for (key, status) in [("", 401), ("other", 401), ("mine", 200)] {
        assert_eq!(Client::new(proxy.port()).key(key).get("models").0, status, "{key}");
    }
}

#[test]
fn models_of_a_proxy_have_different_names() {
    let none = OpenAiProxy::builder().start().unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Config);
    let (model, ..) = Speaker::new("Hi");
    let name = model.name().to_owned();
    let server = LocalServer::builder().model(model).start().unwrap();
    let sampler = service(&server).create_sampling_client(&name).unwrap();
    let builder = OpenAiProxy::builder().model("a", sampler.clone(), renderer()).model("a", sampler, renderer());
    let error = builder.start().unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("\"a\""), "{error}");
    let bad = OpenAiProxy::builder().addr("nowhere").start();
    assert_eq!(bad.unwrap_err().kind(), ErrorKind::Config, "a model comes first");
}
