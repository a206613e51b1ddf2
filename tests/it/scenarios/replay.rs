//! A service that replays a scenario, and the comparison of what it got with what was recorded.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;
use tinkex::clock::ManualClock;
use tinkex::types::LoraConfig;
use tinkex::{ConfigBuilder, ServiceClient, TrainingClient, Wire};

use super::compare::{compare_all, left_out};
use crate::support::{RecordedRequest, Reply, Service, golden};

/// Longer than any wait of a client that has something to do.
const QUIET: Duration = Duration::from_secs(365 * 24 * 3600);

/// No wait between two attempts or polls is as long.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Which Python client was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// 0.4.1.
    Of2025,
    /// 0.38.0.
    Of2026,
}

pub struct Scenario {
    generation: Generation,
    pub exchanges: Vec<Value>,
    pub service: Service,
    pub clock: ManualClock,
}

impl Scenario {
    /// A service that replays the responses to the client 0.4.1.
    pub fn start(name: &str) -> Self {
        let exchanges = golden::exchanges(name);
        let (service, exchanges) = replay(exchanges, Service::start);
        Scenario { generation: Generation::Of2025, exchanges, service, clock: ManualClock::new() }
    }

    /// A service that replays the responses to the client 0.38.0. The requests that only that client sends are left out.
    pub fn of_2026(name: &str, is_ours: impl Fn(&Value) -> bool) -> Self {
        let mut exchanges = golden::exchanges_2026(name);
        exchanges.retain(is_ours);
        in_order(&mut exchanges);
        let (service, exchanges) = replay(exchanges, Service::start_current);
        Scenario { generation: Generation::Of2026, exchanges, service, clock: ManualClock::new() }
    }

    pub fn config(&self) -> ConfigBuilder {
        match self.generation {
            Generation::Of2025 => self.service.config(),
            Generation::Of2026 => self.service.manual_config(&self.clock).idle_retention(QUIET).wire(Wire::Protobuf),
        }
    }

    pub fn connect(&self) -> ServiceClient {
        ServiceClient::connect(self.config().build_with(|_| None).unwrap()).unwrap()
    }

    pub fn trainer(&self) -> TrainingClient {
        self.connect().create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default()).unwrap()
    }

    /// The requests so far. Only this crate ends a session of its own accord.
    fn requests(&self) -> Vec<RecordedRequest> {
        let ends = self.exchanges.iter().any(|exchange| path_of(exchange).ends_with("/finish"));
        self.service.requests().into_iter().filter(|request| ends || !is_end_of_session(request)).collect()
    }

    /// Makes a call, and advances the clock past every wait until it returns. Returns the waits in seconds and the result.
    pub fn freely<T: Send>(&self, call: impl FnOnce() -> T + Send) -> (Vec<f64>, T) {
        thread::scope(|scope| {
            let call = scope.spawn(call);
            let (mut waits, nothing) = (Vec::new(), Mutex::new(()));
            while !call.is_finished() {
                match self.clock.waits().into_iter().find(|wait| !wait.is_zero()) {
                    Some(next) if next < LONGEST_WAIT => {
                        self.clock.advance(next);
                        waits.push(next.as_secs_f64());
                    }
                    // Nobody notifies, so this looks again after 2 ms.
                    _ => drop(Condvar::new().wait_timeout(nothing.lock().unwrap(), Duration::from_millis(2)).unwrap()),
                }
            }
            (waits, call.join().unwrap())
        })
    }

    /// Compares the requests so far with the first ones of the scenario, and returns their number.
    pub fn compare(&self) -> usize {
        let (seen, exchanges) = (self.requests(), self.exchanges.iter().collect::<Vec<_>>());
        compare_all(self.generation, &seen, &exchanges);
        seen.len()
    }

    /// Asserts that the whole scenario was played.
    pub fn is_played(&self) {
        assert_eq!(self.compare(), self.exchanges.len());
    }

    /// The same, if several results were polled at once: the submissions in order, then the polls.
    pub fn is_played_in_any_order_of_polls(&self) {
        let is_poll = |path: &str| path == "retrieve_future";
        let (mut seen, mut exchanges) = (self.requests(), self.exchanges.iter().collect::<Vec<_>>());
        assert_eq!(seen.len(), exchanges.len());
        // A stable sort keeps the order of the submissions. A poll is identified by its promise.
        seen.sort_by_key(|request| (is_poll(&request.path), request.request_id().to_owned()));
        exchanges.sort_by_key(|exchange| {
            (
                is_poll(&path_of(exchange)),
                exchange["body"]["json"]["request_id"].as_str().unwrap_or_default().to_owned(),
            )
        });
        compare_all(self.generation, &seen, &exchanges);
    }
}

/// Python sends the chunks of a batch at the same time. This crate sends them in order, each with the same number and result.
fn in_order(exchanges: &mut [Value]) {
    let passes = exchanges.iter_mut().filter(|exchange| exchange["body"]["proto"]["seq_id"].is_u64());
    let mut places: Vec<_> = passes.collect();
    let mut sorted: Vec<_> = places.iter().map(|exchange| (**exchange).clone()).collect();
    sorted.sort_by_key(|exchange| exchange["body"]["proto"]["seq_id"].as_u64());
    places.iter_mut().zip(sorted).for_each(|(place, exchange)| **place = exchange);
}

fn replay(
    mut exchanges: Vec<Value>,
    start: impl FnOnce(Box<dyn Fn(&RecordedRequest) -> Reply + Send + Sync>) -> Service,
) -> (Service, Vec<Value>) {
    exchanges.iter_mut().for_each(|exchange| fill(&mut exchange["response"]["json"]));
    let mut responses = HashMap::<(String, String), Vec<Value>>::new();
    for exchange in exchanges.iter().rev() {
        let request_id = exchange["body"]["json"]["request_id"].as_str().unwrap_or_default().to_owned();
        responses.entry((line_of(exchange), request_id)).or_default().push(exchange["response"].clone());
    }
    let responses = Mutex::new(responses);
    let service = start(Box::new(move |request| {
        let asked = (asked_line(request), request.request_id().to_owned());
        let response = responses.lock().unwrap().get_mut(&asked).and_then(Vec::pop);
        if response.is_none() && is_end_of_session(request) {
            return Reply::no_content();
        }
        let response = response.unwrap_or_else(|| panic!("{} is not asked once more in the scenario", request.path));
        reply(&response)
    }));
    (service, exchanges)
}

fn is_end_of_session(request: &RecordedRequest) -> bool {
    request.path.starts_with("sessions/") && request.path.ends_with("/finish")
}

/// The recorded response.
pub fn reply(response: &Value) -> Reply {
    let Some(status) = response["status"].as_u64() else { return Reply::Close };
    let headers = response["headers"].as_object().into_iter().flatten();
    let known = ["location", "retry-after", "retry-after-ms", "www-authenticate", "x-should-retry"];
    let mut headers: Vec<(&'static str, String)> = headers
        .filter_map(|(name, value)| {
            let name = known.into_iter().find(|known| known.eq_ignore_ascii_case(name))?;
            Some((name, value.as_str()?.to_owned()))
        })
        .collect();
    let body = match (decoded(&response["body_b64"]), response["raw"].as_str(), response.get("json")) {
        (Some(body), ..) => body,
        (None, Some(raw), _) => raw.as_bytes().to_vec(),
        (None, None, Some(json)) if !json.is_null() => json.to_string().into_bytes(),
        _ => Vec::new(),
    };
    headers.push(("content-type", response["content_type"].as_str().unwrap_or("application/json").to_owned()));
    Reply::Full { status: status.try_into().unwrap(), headers, body }
}

/// Bytes in base64, if any.
pub fn decoded(text: &Value) -> Option<Vec<u8>> {
    Some(base64::engine::general_purpose::STANDARD.decode(text.as_str()?).unwrap())
}

/// The path of a recorded request below `/api/v1/`.
pub fn path_of(exchange: &Value) -> String {
    exchange["path"].as_str().unwrap().trim_start_matches("/api/v1/").to_owned()
}

/// Method, path and query of a recorded request.
pub fn line_of(exchange: &Value) -> String {
    let query = exchange["query"].as_str().map_or(String::new(), |query| format!("?{query}"));
    format!("{} {}{query}", exchange["method"].as_str().unwrap(), path_of(exchange))
}

/// The same of a request. This crate escapes ids in paths.
pub fn asked_line(request: &RecordedRequest) -> String {
    format!("{} {}", request.method, request.path.replace("%3A", ":"))
}

/// Replaces an abbreviation by copies of the item before it.
fn fill(response: &mut Value) {
    match response {
        Value::Array(items) => {
            if let Some((at, count)) = items.iter().enumerate().find_map(|(at, item)| Some((at, left_out(item)?))) {
                let copies = vec![items[at - 1].clone(); count];
                items.splice(at..=at, copies);
            }
            items.iter_mut().for_each(fill);
        }
        Value::Object(fields) => fields.values_mut().for_each(fill),
        _ => {}
    }
}
