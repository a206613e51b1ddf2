//! Every command that uses the service, in both formats, against the local server.

use std::time::{Duration, SystemTime};

use serde_json::json;
use tinkex::api::{Api, Path};
use tinkex::local::LocalServer;
use tinkex::types::{FinishReason, LoraConfig, Timestamp};
use tinkex::{Config, ServiceClient, TrainingOptions};

use super::program::{Done, KEY, Volatile, golden, tinkex};

/// A server with a run that has a checkpoint of each kind, and the values that differ between test runs.
pub struct Stocked {
    pub server: LocalServer,
    pub volatile: Volatile,
    pub run: String,
    session: String,
    sampler: String,
    _service: ServiceClient,
}

pub fn stocked() -> Stocked {
    let server = LocalServer::start().unwrap();
    let config = Config::builder().base_url(server.base_url()).api_key(KEY).build_with(|_| None).unwrap();
    let service = ServiceClient::connect(config).unwrap();
    let lora = LoraConfig::new().rank(8);
    let options = TrainingOptions::from(lora).user_metadata("purpose", "golden");
    let trainer = service.create_lora_training_client("tinkex/bytes-tiny", options).unwrap();
    trainer.save_state("step-1").unwrap();
    let path = trainer.save_weights_for_sampler("final").unwrap().path;
    let sampler = service.create_sampling_client(&path).unwrap();
    let (run, session) = (trainer.model_id().to_owned(), service.session_id().to_owned());
    let sampler = sampler.sampling_session_id().to_owned();
    let volatile = Volatile::default().value(&sampler, "SAMPLER").value(&session, "SESSION").value(&run, "RUN");
    Stocked { server, volatile, run, session, sampler, _service: service }
}

impl Stocked {
    /// Runs each command in both formats; `RUN`, `SESSION` and `SAMPLER` stand for the ids.
    fn in_both_formats(&self, commands: &[&str]) -> Vec<Done> {
        let both = commands.iter().flat_map(|words| [(*words).to_owned(), format!("{words} --format json")]);
        both.map(|words| self.run(&words)).collect()
    }

    fn run(&self, words: &str) -> Done {
        tinkex(&self.words(words)).at(&self.server.base_url()).run()
    }

    /// Replaces `RUN`, `SESSION` and `SAMPLER` with the ids.
    pub fn words(&self, words: &str) -> String {
        words.replace("SESSION", &self.session).replace("SAMPLER", &self.sampler).replace("RUN", &self.run)
    }
}

#[test]
fn runs_are_listed_and_shown() {
    let stocked = stocked();
    let runs = stocked.in_both_formats(&["run list", "run info RUN"]);
    golden("run", &runs, &stocked.volatile);
}

#[test]
fn checkpoints_are_listed_and_shown() {
    let stocked = stocked();
    let commands = ["checkpoint list", "checkpoint list --run-id RUN", "checkpoint info tinker://RUN/weights/step-1"];
    golden("checkpoint", &stocked.in_both_formats(&commands), &stocked.volatile);
}

#[test]
fn checkpoints_are_published_and_unpublished() {
    let stocked = stocked();
    let path = "tinker://RUN/weights/step-1";
    let mut runs = stocked.in_both_formats(&[&format!("checkpoint publish {path}")]);
    runs.push(stocked.run(&format!("checkpoint info {path}")));
    runs.extend(stocked.in_both_formats(&[&format!("checkpoint unpublish {path} tinker://RUN/weights/missing")]));
    runs.push(stocked.run(&format!("checkpoint info {path}")));
    golden("publish", &runs, &stocked.volatile);
}

#[test]
fn a_failed_deletion_does_not_stop_the_others() {
    for (format, name) in [("table", "delete"), ("json", "delete_json")] {
        let stocked = stocked();
        let all = "tinker://RUN/weights/step-1 tinker://RUN/weights/missing tinker://RUN/sampler_weights/final";
        let delete = stocked.run(&format!("checkpoint delete --yes {all} --format {format}"));
        let list = stocked.run(&format!("checkpoint list --format {format}"));
        golden(name, &[delete, list], &stocked.volatile);
    }
}

#[test]
fn sessions_and_samplers_are_shown() {
    let stocked = stocked();
    let runs = stocked.in_both_formats(&["session list", "session info SESSION", "sampler info SAMPLER"]);
    golden("session", &runs, &stocked.volatile);
}

#[test]
fn a_session_shows_how_it_ended() {
    let server = LocalServer::start().unwrap();
    let config = Config::builder().base_url(server.base_url()).api_key(KEY).build_with(|_| None).unwrap();
    let service = ServiceClient::connect(config).unwrap();
    let info =
        |words: &str| tinkex(&format!("session info {} {words}", service.session_id())).at(&server.base_url()).run();
    assert!(info("").stdout.contains("active"));
    service.close_with(FinishReason::Errored, Some("out of data"), Duration::from_secs(10));
    assert!(info("").stdout.contains("client_finished: errored (out of data)"));
    let status = json!({"type": "client_finished", "reason": {"type": "errored"}, "detail": "out of data"});
    assert_eq!(info("-f json").json()["status"], status);
}

#[test]
fn a_limit_of_zero_lists_all_pages() {
    let server = LocalServer::builder().max_models(200).start().unwrap();
    let config = Config::builder().base_url(server.base_url()).api_key(KEY).build_with(|_| None).unwrap();
    let services: Vec<_> = (0..103).map(|_| ServiceClient::connect(config.clone()).unwrap()).collect();
    let count = |limit: &str| {
        let done = tinkex(&format!("session list {limit} -f json")).at(&server.base_url()).run();
        done.json()["sessions"].as_array().unwrap().len()
    };
    assert_eq!((count(""), count("--limit 0"), count("--limit 101"), count("--limit 1")), (20, 103, 101, 1));
    let title = tinkex("session list --limit 2").at(&server.base_url()).run().stdout;
    assert!(title.starts_with("2 sessions"), "{title}");
    drop(services);
}

#[test]
fn usage_storage_and_traces_are_shown() {
    let stocked = stocked();
    let hour = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() / 3600;
    let time = |hour: u64| Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_secs(hour * 3600));
    let usage = stocked.run(&format!("billing usage --from {} --to {} --format json", time(hour - 1), time(hour + 2)));
    let events = usage.json()["data"].as_array().unwrap().clone();
    let checkpoints = events.iter().filter_map(|event| event["event_info"]["count"].as_u64()).sum::<u64>();
    assert_eq!((usage.code, checkpoints), (Some(0), 2), "{usage:?}");
    let storage = stocked.run("billing checkpoint-storage --format json");
    assert_eq!(storage.json()["data"][0]["checkpoint_count"], 2, "{storage:?}");

    let listed = stocked.run("session list --accessible --format json");
    assert_eq!(listed.json()["sessions"][0], stocked.words("SESSION"), "{listed:?}");
    // The first request starts the export, and the command need not wait for it.
    let config = Config::builder().base_url(stocked.server.base_url()).api_key(KEY).build_with(|_| None).unwrap();
    let path = Path::new("/api/v1/sessions").segment(&stocked.session).segment("trace_export");
    Api::new(config).unwrap().get(path).send().unwrap();
    let exported = stocked.run("session export-trace SESSION --url-only --format json");
    assert!(exported.json()["url"].as_str().unwrap().contains("/traces/"), "{exported:?}");
}
