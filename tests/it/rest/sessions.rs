//! Searches of sessions, scopes and projects.

use serde_json::{Value, json};
use tinkex::types::{AccessScope, SearchOwner, SessionSearch, SessionStatusQuery, SessionStatusType};
use tinkex::{ErrorKind, RestClient};

use crate::support::{RecordedRequest, Reply, Service};

fn rest(service: &Service) -> RestClient {
    RestClient::new(service.config().max_retries(0).build_with(|_| None).unwrap()).unwrap()
}

/// A session that echoes the search's limit and the position of its page.
fn found(request: &RecordedRequest, number: u64) -> Value {
    let start = &request.body["cursor"]["last_session_id"];
    json!({
        "session_id": format!("s-{number} after {start} of {}", request.body["limit"]), "owner": "u", "project_id": "p",
        "created_at": "2025-11-01T12:00:00Z", "checkpoints_count": number, "status": {"type": "later", "more": [1]},
        "later": true,
    })
}

fn cursor(id: &str) -> Value {
    json!({"last_created_at": "2025-11-01T12:00:00Z", "last_session_id": id})
}

#[test]
fn found_sessions_are_fetched_by_cursor() {
    let service = Service::start(|request| {
        Reply::ok(match request.body["cursor"]["last_session_id"].as_str() {
            None => json!({"sessions": [found(request, 1), found(request, 2)], "next_cursor": cursor("s-2")}),
            Some(_) => json!({"sessions": [found(request, 3)], "next_cursor": null}),
        })
    });
    let search = SessionSearch::new()
        .session_id("s")
        .owner(SearchOwner::User { owner_urns: vec!["u".to_owned()] })
        .statuses([SessionStatusQuery::new(SessionStatusType::ClientFinished).reasons(["errored"])])
        .limit(2);
    let rest = rest(&service);
    let mut sessions = rest.found_sessions(search);
    assert_eq!(service.requests().len(), 0, "nothing is fetched before it is read");
    let ids: Vec<_> = sessions.by_ref().map(|session| session.unwrap().session_id).collect();
    assert_eq!(ids, ["s-1 after null of 2", "s-2 after null of 2", "s-3 after \"s-2\" of 2"]);
    assert!(sessions.next().is_none());
    let requests = service.requests();
    assert_eq!(requests.len(), 2);
    let sent = json!({
        "session_id": "s", "user_metadata": {}, "owner": {"type": "user", "owner_urns": ["u"]}, "limit": 2,
        "statuses": [{"type": "client_finished", "reasons": ["errored"]}],
    });
    assert_eq!((&*requests[0].method, &*requests[0].path, &requests[0].body), ("POST", "sessions/search", &sent));
}

#[test]
fn a_search_that_repeats_itself_ends() {
    for sessions in [json!([]), json!([found(&first(), 1)])] {
        let service = Service::start(move |_| Reply::ok(json!({"sessions": sessions, "next_cursor": cursor("s-1")})));
        assert!(rest(&service).found_sessions(SessionSearch::new()).count() <= 2);
        assert!(service.requests().len() <= 2);
    }
}

fn first() -> RecordedRequest {
    let service = Service::start(|_| Reply::ok(json!({"sessions": []})));
    rest(&service).search_sessions(&SessionSearch::new()).unwrap();
    service.requests().remove(0)
}

#[test]
fn a_failed_page_ends_the_search() {
    let service = Service::start(|_| Reply::Json(400, json!({"detail": "no"})));
    let results: Vec<_> = rest(&service).found_sessions(SessionSearch::new()).collect();
    assert_eq!(results.len(), 1);
    assert_eq!(results[0].as_ref().unwrap_err().status(), Some(400));
}

#[test]
fn a_page_has_1_to_200_sessions() {
    let service = Service::start(|_| panic!("nothing may be requested"));
    for limit in [0, 201] {
        let error = rest(&service).search_sessions(&SessionSearch::new().limit(limit)).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidInput, Some("search_sessions")));
    }
    assert_eq!(service.requests().len(), 0);
}

#[test]
fn the_scope_is_sent_only_if_set() {
    let service = Service::start(|request| match request.path.split('?').next().unwrap() {
        "training_runs" => {
            Reply::ok(json!({"training_runs": [], "cursor": {"offset": 0, "limit": 0, "total_count": 0}}))
        }
        "sessions" => Reply::ok(json!({"sessions": []})),
        _ => Reply::ok(json!({"training_run_ids": [], "sampler_ids": []})),
    });
    let ask = |rest: &RestClient| {
        rest.training_runs().for_each(drop);
        rest.training_runs_of_project("p 1").for_each(drop);
        rest.sessions().for_each(drop);
        rest.get_session("s/1").unwrap();
    };
    let rest = rest(&service);
    ask(&rest);
    ask(&rest.with_access_scope(AccessScope::Accessible));
    let paths: Vec<_> = service.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(
        paths,
        [
            "training_runs?limit=100&offset=0",
            "training_runs?limit=100&offset=0&project_id=p+1",
            "sessions?limit=100&offset=0",
            "sessions/s%2F1",
            "training_runs?limit=100&offset=0&access_scope=accessible",
            "training_runs?limit=100&offset=0&access_scope=accessible&project_id=p+1",
            "sessions?limit=100&offset=0&access_scope=accessible",
            "sessions/s%2F1?access_scope=accessible",
        ]
    );
}
