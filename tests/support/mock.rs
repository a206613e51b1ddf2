//! httpmock, for tests of plain requests and responses. A mock matches all that the test knows of the request, and the test
//! asserts how often it came: any other request gets a 404.

use httpmock::{Method, Mock, MockServer, Then, When};
use serde_json::json;
use tinkex::ConfigBuilder;

use super::{KEY, config_for, is_for_current_services};

/// A configuration for this server, as [`Service::config`](super::Service::config).
pub fn config(server: &MockServer) -> ConfigBuilder {
    config_for(server.base_url())
}

/// Matches an endpoint, by its path below `/api/v1/` with exactly this query, requested with the key of the tests.
pub fn endpoint(when: When, method: Method, path: &str) -> When {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query.to_owned())));
    when.method(method)
        .path(format!("/api/v1/{path}"))
        .is_true(move |request| request.uri().query() == query.as_deref())
        .header("x-api-key", KEY)
}

/// A mock of an endpoint, requested without a body, which responds with this.
pub fn respond<'a>(server: &'a MockServer, method: Method, path: &str, then: impl FnOnce(Then) -> Then) -> Mock<'a> {
    server.mock(|when, response| {
        endpoint(when, method, path).is_true(|request| request.body().is_empty());
        then(response);
    })
}

/// A mock of the creation of a session.
pub fn session(server: &MockServer) -> Mock<'_> {
    server.mock(|when, then| {
        endpoint(when, Method::POST, "create_session").json_body_includes(r#"{"sdk_version": "0.4.1"}"#);
        then.json_body(json!({ "session_id": "session-1" }));
    })
}

/// A mock that takes every request that no earlier mock takes, to assert that there is none. Those that services of 2025 do not
/// know are left to the server, which responds with 404.
pub fn anything(server: &MockServer) -> Mock<'_> {
    server.mock(|when, then| {
        when.is_false(|request| is_for_current_services(request.uri().path().trim_start_matches("/api/v1/")));
        then.status(500);
    })
}
