//! The contract with a Tinker service, of either generation: a table of what a service can do and what it lacks.
//!
//! It is checked against the local server and against the service at `TEST_API_BASE_URL`; `TINKER_API_KEY` is the key and
//! `TEST_API_BASE_MODEL` the model. Nothing depends on the local server: metrics may be missing, ids may have any form, and the
//! tokens are small numbers that every vocabulary has. A test fails only for what every service must do.

mod report;
mod rest;
mod sampling;
mod scene;
mod training;

use std::env;
use std::error::Error;
use std::io::Write;
use std::time::Duration;

use tinkex::Config;

use report::Report;
use scene::Scene;

/// What one check found: nothing, or why the service does not have the capability.
type Found = Result<(), Box<dyn Error>>;

/// A capability, and how it is tried.
type Check = (&'static str, fn(&mut Scene) -> Found);

/// A real model may take minutes to load; one that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// What the local server lacks.
#[cfg(feature = "local")]
const LOCAL_SERVER_LACKS: &[&str] = &[];

#[test]
#[ignore = "needs a service: set TEST_API_BASE_URL, TINKER_API_KEY and TEST_API_BASE_MODEL"]
fn the_service_keeps_the_contract() {
    let base_url = env::var("TEST_API_BASE_URL").expect("set TEST_API_BASE_URL to the address of the service");
    let model = env::var("TEST_API_BASE_MODEL").expect("set TEST_API_BASE_MODEL to a model of the service");
    let config = Config::builder().base_url(base_url).timeout_operation(Some(PATIENCE)).max_retries(1);
    let config = config.timeout_submit(Duration::from_secs(60)).build().unwrap();
    let report = try_everything(config, &model);
    say(&report.to_string());
    assert!(report.missing().is_empty(), "every service must do this: {:?}", report.missing());
}

#[cfg(feature = "local")]
#[test]
fn the_local_server_keeps_the_contract() {
    let server = tinkex::local::LocalServer::start().unwrap();
    let config = Config::builder().base_url(server.base_url()).api_key("tml-contract");
    let report = try_everything(config.build_with(|_| None).unwrap(), "tinkex/bytes-tiny");
    assert_eq!(report.lacks(), LOCAL_SERVER_LACKS, "{report}");
}

/// Not `eprintln`, which the test harness captures: the table must be seen.
fn say(text: &str) {
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap();
}

fn try_everything(config: Config, model: &str) -> Report {
    let mut report = Report::default();
    let mut scene = Scene::open(config, model).unwrap();
    for (required, checks) in
        [(true, training::REQUIRED), (false, training::OPTIONAL), (false, sampling::CHECKS), (false, rest::CHECKS)]
    {
        for (capability, check) in checks {
            report.add(capability, required, check(&mut scene));
        }
    }
    scene.service.close(Duration::from_secs(5));
    report
}
