//! Web pages that use the API from a browser.

use serde_json::{Value, json};
use tinkex::ErrorKind;
use tinkex::local::{LocalServer, OpenAiProxy};

use super::client::{Client, chat};
use super::proxy::{proxy_builder, service};
use super::speaker::Speaker;

const PAGE: &str = "http://localhost:3000";

/// The ports of a server and of a proxy in front of it, which allow these origins, are used.
fn at_both(origins: &[&str], check: impl Fn(u16)) {
    let mut builder = LocalServer::builder().model(Speaker::new("Hi").0);
    for origin in origins {
        builder = builder.allow_origin(*origin);
    }
    let server = builder.start().unwrap();
    check(server.port());
    let service = service(&server);
    let mut builder = proxy_builder(&service);
    for origin in origins {
        builder = builder.allow_origin(*origin);
    }
    check(builder.start().unwrap().port());
}

#[test]
fn pages_of_unknown_origins_are_refused() {
    at_both(&[PAGE], |port| {
        for (method, path) in [("OPTIONS", "chat/completions"), ("POST", "chat/completions"), ("GET", "models")] {
            let mut client = Client::new(port).header("origin", "http://evil.example");
            client.send(method, path, &if method == "POST" { chat(&json!({})) } else { Value::Null });
            let (status, body) = client.receive();
            assert_eq!((status, &body["error"]["type"]), (403, &json!("permission_error")), "{method}");
            assert!(body["error"]["message"].as_str().unwrap().contains("--allow-origin"), "{body}");
        }
    });
    at_both(&[], |port| assert_eq!(Client::new(port).header("origin", PAGE).chat(&json!({})).0, 403));
}

#[test]
fn an_allowed_page_reads_whole_and_streamed_responses() {
    for (origins, origin) in [(&[PAGE, "null"][..], PAGE), (&["null"], "null"), (&["*"], "app://chat")] {
        at_both(origins, |port| {
            for stream in [false, true] {
                let mut client = Client::new(port).header("origin", origin);
                client.send("POST", "chat/completions", &chat(&json!({ "stream": stream })));
                let head = client.head();
                assert_eq!((head.status, head.header("access-control-allow-origin")), (200, Some(origin)));
                assert_eq!(head.header("vary"), Some("origin"));
            }
        });
    }
}

#[test]
fn a_browser_may_ask_first() {
    at_both(&[PAGE], |port| {
        let names = "authorization,content-type,x-stainless-os";
        let mut client = Client::new(port)
            .key("")
            .header("origin", PAGE)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", names)
            .header("access-control-request-private-network", "true");
        client.send("OPTIONS", "chat/completions", &Value::Null);
        let head = client.head();
        assert_eq!(head.status, 204);
        for (name, value) in [
            ("access-control-allow-origin", PAGE),
            ("access-control-allow-methods", "GET, POST"),
            ("access-control-allow-headers", names),
            ("access-control-allow-private-network", "true"),
        ] {
            assert_eq!(head.header(name), Some(value), "{name}");
        }
    });
}

#[test]
fn an_origin_with_a_path_is_refused() {
    let server = LocalServer::builder().allow_origin("http://localhost:3000/chat").start();
    let proxy = OpenAiProxy::builder().allow_origin("localhost").start();
    for error in [server.unwrap_err(), proxy.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("is no origin of web pages"), "{error}");
    }
}
