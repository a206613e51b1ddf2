//! `tinkex serve` as a process.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout};
use std::time::{Duration, SystemTime};

use serde_json::json;
use tempfile::TempDir;
use tinkex::types::wire::{ClientConfig, ClientDynamicConfig};
use tinkex::types::{AdamParams, Datum, LoraConfig, LossFn};
use tinkex::{Config, ServiceClient, Wire};

use super::program::{KEY, PROGRAM, Program, ignoring, read_to_end, shell, tinkex};
use crate::local_server::client::{Client, sample};

pub(super) struct Server {
    pub(super) child: Child,
    stdout: BufReader<ChildStdout>,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(super) fn serve(options: &str) -> Server {
    started(tinkex(&format!("serve {options}")))
}

pub(super) fn started(program: Program) -> Server {
    let mut child = program.start();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let url = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).trim_end().to_owned();
    Server { child, stdout, url }
}

fn connect(server: &Server) -> tinkex::Result<ServiceClient> {
    ServiceClient::connect(Config::builder().base_url(&server.url).api_key(KEY).max_retries(0).build_with(|_| None)?)
}

pub(super) fn models(server: &Server) -> Vec<String> {
    let capabilities = connect(server).unwrap().get_server_capabilities().unwrap();
    capabilities.supported_models.into_iter().filter_map(|model| model.model_name).collect()
}

#[test]
fn all_or_selected_models_are_served() {
    let names = ["tinkex/bytes-tiny", "tinkex/bytes-small", "tinkex/bytes-medium"];
    assert_eq!(models(&serve("")), names);
    assert_eq!(models(&serve("--model tinkex/bytes-small --addr 127.0.0.1:0")), names[1..2]);
}

#[test]
fn a_port_is_enough() {
    let server = serve("--port 0");
    let port = server.url.rsplit(':').next().unwrap().to_owned();
    for options in [format!("--port {port}"), format!("--addr 127.0.0.1:{port}")] {
        let refused = tinkex(&format!("serve {options}")).run();
        let hint = format!(
            "hint: another program listens on 127.0.0.1:{port}: choose another port with --port or --addr; port 0 picks a free one\n"
        );
        assert!(
            refused.stderr.contains(&format!("127.0.0.1:{port}: ")) && refused.stderr.ends_with(&hint),
            "{refused:?}"
        );
    }
    assert_eq!(tinkex("serve --port 0 --addr 127.0.0.1:0").run().code, Some(2));
}

#[test]
fn a_server_for_other_machines_says_so() {
    let mut server = serve("--addr 0.0.0.0:0");
    let mut stderr = BufReader::new(server.child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("other machines can reach this server at 0.0.0.0:"), "{line:?}");
}

#[cfg(unix)]
#[test]
fn a_server_without_descriptors_refuses_politely() {
    let server = started(shell(&format!(r#"sh -c "ulimit -n 40; exec {PROGRAM} serve""#)));
    let port = server.url.rsplit(':').next().unwrap().parse().unwrap();
    let ask = |client: &mut Client| {
        client.write("GET /api/v1/healthz HTTP/1.1\r\nx-api-key: k\r\n\r\n").ok();
        client.receive().unwrap().status
    };
    let mut clients: Vec<Client> = (0..100).map(|_| Client::at(port)).collect();
    let mut statuses: Vec<u16> = clients.iter_mut().map(ask).collect();
    statuses.sort_unstable();
    statuses.dedup();
    assert_eq!(statuses, [200, 503]);
    drop(clients);
    // The server hears of each end by itself.
    assert!((0..1000).any(|_| ask(&mut Client::at(port)) == 200));
}

#[test]
fn chaos_rules_inject_faults() {
    let server = serve("--chaos create_session:503*1,detail=later --chaos-seed 3");
    let error = connect(&server).unwrap_err();
    assert_eq!(error.status(), Some(503));
    assert!(error.to_string().contains("later"), "{error}");
    connect(&server).unwrap();
}

#[test]
fn a_stub_computes_nothing() {
    let server = serve("--stub --stub-delay-ms 1 --max-connections 100");
    let trainer = connect(&server).unwrap().create_lora_training_client("tinkex/bytes-tiny", LoraConfig::default());
    // No model of bytes has such a token.
    let datum = Datum::new([1, 2]).input("target_tokens", [2, 99_999]).unwrap().input("weights", [1, 1]).unwrap();
    let output = trainer.unwrap().forward([datum], LossFn::CrossEntropy).unwrap();
    assert_eq!(output.loss_fn_outputs[0].logprobs().unwrap().len(), 2);
    for (without_effect, code) in [
        ("--stub-delay-ms 1", 2),
        ("--stub --metadata-above 5", 2),
        ("--stub --flag sample_use_retrieve_futures=true", 2),
    ] {
        assert_eq!(tinkex(&format!("serve {without_effect}")).run().code, Some(code), "{without_effect}");
    }
}

#[test]
fn flags_are_announced_and_explained() {
    let server = serve("--flag pjwt_auth_enabled=true --flag sample_cancel_enabled=true --token-time 2h");
    let whoami = tinkex("auth whoami -f json").at(&server.url).run();
    assert!(whoami.code == Some(0) && whoami.stdout.contains("@localhost"), "{whoami:?}");

    let help = tinkex("serve --help").run().stdout;
    let defaults = [json!(ClientConfig::default()), json!(ClientDynamicConfig::default())];
    for (name, value) in defaults.iter().flat_map(|config| config.as_object().unwrap()) {
        let flag = format!("{name}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        assert!(help.contains(&flag), "{flag}");
    }
}

#[test]
fn one_wire_format_is_served_alone() {
    let server = serve("--wire protobuf");
    let trainer = connect(&server).unwrap().create_lora_training_client("tinkex/bytes-tiny", LoraConfig::default());
    let datum = Datum::new([1, 2]).input("target_tokens", [2, 3]).unwrap().input("weights", [1, 1]).unwrap();
    assert!(trainer.unwrap().forward([datum.clone()], LossFn::CrossEntropy).is_ok());
    let config = Config::builder().base_url(&server.url).api_key(KEY).wire(Wire::Json).build_with(|_| None).unwrap();
    let service = ServiceClient::connect(config).unwrap();
    let trainer = service.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::default()).unwrap();
    let error = trainer.forward_backward([datum], LossFn::CrossEntropy).unwrap_err();
    assert_eq!(error.status(), Some(415), "{error}");
}

#[test]
fn the_data_directory_survives_a_restart() {
    let folder = TempDir::new().unwrap();
    let options = format!("--data-dir {}", folder.path().join("new").display());
    let server = serve(&options);
    let service = connect(&server).unwrap();
    let trainer = service.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::default()).unwrap();
    let path = trainer.save_state("kept").unwrap().path;
    drop((trainer, service, server));
    let server = serve(&options);
    let info = tinkex(&format!("checkpoint info {path}")).at(&server.url).run();
    assert!(info.code == Some(0) && info.stdout.contains("weights/kept"), "{info:?}");
}

#[cfg(unix)]
#[test]
fn a_signal_stops_the_server_cleanly() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut server = serve("");
        connect(&server).unwrap();
        kill(Pid::from_raw(server.child.id().try_into().unwrap()), signal).unwrap();
        assert_eq!(server.child.wait().unwrap().code(), Some(0), "{signal}");
        assert_eq!(read_to_end(&mut server.stdout), "", "exactly one line");
        assert_eq!(read_to_end(server.child.stderr.take().unwrap()), "");
    }
}

#[cfg(unix)]
#[test]
fn a_client_waits_for_a_suspended_server() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    let server = serve("");
    let send = |signal| kill(Pid::from_raw(server.child.id().try_into().unwrap()), signal).unwrap();
    let client = connect(&server).unwrap();
    let trainer = client.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::default()).unwrap();
    for _ in 0..3 {
        send(Signal::SIGSTOP);
        let step = trainer.submit_optim_step(AdamParams::default()).unwrap();
        assert!(step.wait_timeout(Duration::from_millis(50)).is_none());
        send(Signal::SIGCONT);
        step.wait().unwrap();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_ignored_signal_stays_ignored() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    for (ignored, other) in
        [(Signal::SIGHUP, Signal::SIGINT), (Signal::SIGINT, Signal::SIGTERM), (Signal::SIGTERM, Signal::SIGHUP)]
    {
        let mut server = started(shell(&ignoring(ignored.as_str(), "serve")));
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
        let mask = |name: &str| {
            let mask = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(mask.trim(), 16).unwrap()
        };
        let bit = 1 << (ignored as i32 - 1);
        assert_eq!((mask("SigIgn:") & bit, mask("SigCgt:") & bit), (bit, 0), "{status}");
        let pid = Pid::from_raw(server.child.id().try_into().unwrap());
        kill(pid, ignored).unwrap();
        connect(&server).unwrap();
        kill(pid, other).unwrap();
        assert_eq!(server.child.wait().unwrap().code(), Some(0), "{ignored}");
    }
}

#[cfg(unix)]
#[test]
fn a_signal_does_not_wait_for_a_sample() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    let mut server = serve("--model tinkex/bytes-medium");
    let port = server.url.rsplit_once(':').unwrap().1.parse().unwrap();
    let mut client = Client::at(port);
    let sampler = client.sampler("tinkex/bytes-medium");
    // This takes minutes.
    let mut long = sample(&sampler, 0, "abc", json!({ "max_tokens": 1000, "stop": [] }));
    long["num_samples"] = json!(64);
    client.promise("asample", long);
    let start = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    kill(Pid::from_raw(server.child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    let took = SystemTime::UNIX_EPOCH.elapsed().unwrap().saturating_sub(start);
    assert!(took < Duration::from_secs(10), "{took:?}");
}
