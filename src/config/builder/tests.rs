use std::time::Duration;

use super::*;
use crate::error::ErrorKind;
use crate::rules::testing::{golden, list};

fn build(builder: ConfigBuilder) -> Result<Config> {
    builder.build_with(|_| None)
}

fn valid() -> ConfigBuilder {
    Config::builder().api_key("tml-k").base_url("http://127.0.0.1:1")
}

#[test]
fn invalid_settings_are_refused_by_name() {
    for (builder, expected) in [
        (Config::builder(), "set TINKER_API_KEY"),
        (Config::builder().api_key(" "), "set TINKER_API_KEY"),
        (valid().api_key("tml-\u{7f}"), "not allowed in an HTTP header"),
        (valid().base_url("example.com"), "does not start with http"),
        (valid().base_url("ftp://example.com"), "does not start with http"),
        (valid().base_url("http://"), "base URL"),
        (valid().base_url("http://me:secret@example.com"), "user name or password"),
        (valid().base_url("http://example.com/?a=b"), "query"),
        (valid().timeout_idle(Duration::ZERO), "timeout_idle must be greater"),
        (valid().timeout_operation(Some(Duration::ZERO)), "timeout_operation must be greater"),
        (valid().max_poll_connections(0), "max_poll_connections must be greater"),
        (valid().sampling_rate(0), "sampling_rate must be greater"),
        (valid().thread_stack_size(64 * 1024), "at least 131072 bytes"),
        (valid().project_id(" "), "project_id is empty"),
        (valid().display_name(""), "display_name is empty"),
        (valid().header("a b", "c"), "not allowed in an HTTP header"),
        (valid().proxy(Proxy::Url("ftp://me:secret@127.0.0.1:1".into())), "unsupported scheme \"ftp\""),
    ] {
        let error = build(builder).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[cfg(any(feature = "rustls", feature = "native-tls"))]
#[test]
fn an_invalid_root_certificate_is_refused() {
    for (builder, expected) in [
        (valid().root_certificate("no certificate"), "BEGIN CERTIFICATE"),
        (
            valid().root_certificate("-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n"),
            "the root certificate is not valid PEM",
        ),
    ] {
        let error = build(builder).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn zero_retries_are_allowed() {
    assert_eq!(build(valid().max_retries(0)).unwrap().max_retries(), 0);
}

#[test]
fn code_overrides_environment_overrides_defaults() {
    let environment = |name: &str| {
        Some(match name {
            "TINKER_API_KEY" => "tml-env".to_owned(),
            "TINKER_BASE_URL" => "http://localhost:9/path/".to_owned(),
            "TINKER_TAGS" => "a, b,".to_owned(),
            "TINKER_PROJECT_ID" => " proj-1 ".to_owned(),
            "TINKER_WIRE" => " Protobuf".to_owned(),
            "CLOUDFLARE_ACCESS_CLIENT_ID" => "id".to_owned(),
            "CLOUDFLARE_ACCESS_CLIENT_SECRET" => "hidden".to_owned(),
            _ => return None,
        })
    };
    let from_env = Config::builder().build_with(environment).unwrap();
    assert_eq!(from_env.base_url(), "http://localhost:9/path");
    assert_eq!(from_env.credential().identity().expose(), "tml-env");
    assert_eq!(from_env.tags(), ["a", "b"]);
    assert_eq!((from_env.project_id(), from_env.display_name()), (Some("proj-1"), None));
    assert_eq!(from_env.wire(), Wire::Protobuf);
    assert_eq!(from_env.cloudflare().unwrap().1.expose(), "hidden");
    let from_code = valid().wire(Wire::Json).tags(["c"]).cloudflare_access("x", "y").build_with(environment).unwrap();
    assert_eq!(from_code.base_url(), "http://127.0.0.1:1");
    assert_eq!(from_code.credential().identity().expose(), "tml-k");
    assert_eq!(from_code.tags(), ["c"]);
    let named = valid().project_id("other").display_name("run").build_with(environment).unwrap();
    assert_eq!((named.project_id(), named.display_name()), (Some("other"), Some("run")));
    assert_eq!(from_code.wire(), Wire::Json);
    assert_eq!(from_code.cloudflare().unwrap().1.expose(), "y");
}

#[test]
fn another_wire_format_is_refused() {
    let environment = |name: &str| (name == "TINKER_WIRE").then(|| "cbor".to_owned());
    let error = valid().build_with(environment).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let expected = "TINKER_WIRE: \"cbor\" is not a wire format; set it to auto, json or protobuf";
    assert_eq!(error.to_string(), expected);
    assert_eq!(build(valid()).unwrap().wire(), Wire::Auto);
}

#[test]
fn telemetry_is_on_by_default() {
    for case in list(&golden("pure_misc")["enabled"]) {
        let word = case["TINKER_TELEMETRY"].as_str();
        let environment = |name: &str| word.filter(|_| name == "TINKER_TELEMETRY").map(str::to_owned);
        let config = valid().build_with(environment).unwrap();
        assert_eq!(config.telemetry(), case["enabled"].as_bool().unwrap(), "{word:?}");
        for choice in [true, false] {
            assert_eq!(valid().telemetry(choice).build_with(environment).unwrap().telemetry(), choice);
        }
    }
}

#[test]
fn debug_shows_no_secrets() {
    let config = build(
        valid()
            .api_key("tml-hidden")
            .cloudflare_access("hidden-id", "hidden-secret")
            .header("authorization", "hidden-token")
            .proxy(Proxy::Url("http://hidden-user:hidden@127.0.0.1:1".into())),
    )
    .unwrap();
    assert!(!format!("{config:?} {config:#?}").contains("hidden"), "{config:?}");
}
