//! Training through faults ends with the weights of an undisturbed run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tinkex::local::{Faults, LocalServer, WireFormats};
use tinkex::types::{AdamParams, Batch, Datum, ExternalSaveOptions, LoraConfig, LossFn, ModelInput};
use tinkex::{Event, ServiceClient};

use crate::support::config_for;

const BASE: &str = "tinkex/bytes-tiny";

/// Resets, failures before and after the work was done, refusals and delays: of each about what a bad day brings.
const CHAOS: &str = "*:reset%1; *:lost_response%1; *:truncate%1; *:503%1; *:429%2,retry_after_ms=5; \
                     optim_step:malformed%2; forward_backward:malformed%2; *:slow%5,delay_ms=50; *:slow%2,delay_ms=200";

/// The training batch of this step.
fn batch(number: u32) -> Batch {
    let text: Vec<u32> = (0..6).map(|place| 97 + (number + place) % 8).collect();
    let targets: Vec<i64> = text[1..].iter().map(|token| i64::from(*token)).collect();
    let datum = Datum::new(ModelInput::from_tokens(text[..5].to_vec()));
    vec![datum.input("weights", vec![1.0_f32; 5]).unwrap().input("target_tokens", targets).unwrap()].into()
}

/// What a run leaves: its losses, the files of its weights, and how many attempts were repeated.
struct Run {
    losses: Vec<u64>,
    files: BTreeMap<String, Vec<u8>>,
    retries: usize,
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// Trains with steps submitted ahead, and saves the weights.
fn train(wire: WireFormats, chaos: &str) -> Run {
    let server = LocalServer::builder().wire(wire).fault_seed(3).start().unwrap();
    let retries = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&retries);
    let config = config_for(server.base_url());
    let config = config.retry_base(Duration::from_millis(5)).retry_cap(Duration::from_millis(20));
    let config = config.observer(move |event: &Event| {
        counted.fetch_add(usize::from(matches!(event, Event::Retry { .. })), Ordering::Relaxed);
    });
    let service = ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap();
    let trainer = service.create_lora_training_client(BASE, LoraConfig::new().seed(5).rank(4)).unwrap();
    for fault in chaos.parse::<Faults>().unwrap() {
        server.inject(fault);
    }
    let pending: Vec<_> = (0..60)
        .map(|number| {
            let pass = trainer.submit_forward_backward(batch(number), LossFn::CrossEntropy).unwrap();
            (pass, trainer.submit_optim_step(AdamParams::new().learning_rate(0.01)).unwrap())
        })
        .collect();
    let losses = pending.into_iter().map(|(pass, step)| {
        step.wait().unwrap();
        pass.wait().unwrap().metrics["loss:sum"].to_bits()
    });
    let losses = losses.collect();
    let saved = trainer.save_weights_external(ExternalSaveOptions::new("end")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("adapter");
    service.create_rest_client().download_checkpoint_archive_from_tinker_path(&saved.path, target.as_path()).unwrap();
    // Each number took effect once: the server would have given the promise of the first.
    let mut numbers: Vec<_> = server
        .requests()
        .into_iter()
        .filter(|request| request.subject.as_deref() == Some(trainer.model_id()))
        .filter_map(|request| request.seq)
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert!(numbers.iter().copied().eq(1..=121), "{numbers:?}");
    Run { losses, files: files(&target), retries: retries.load(Ordering::Relaxed) }
}

/// In real time: the server's delays.
fn assert_identical(wire: WireFormats) {
    let (calm, disturbed) = (train(wire, ""), train(wire, CHAOS));
    assert_eq!(calm.losses, disturbed.losses);
    assert!(calm.files.contains_key("adapter_model.safetensors") && calm.files == disturbed.files);
    assert!(calm.retries == 0 && disturbed.retries >= 3, "{} {}", calm.retries, disturbed.retries);
}

#[test]
fn json_training_survives_chaos() {
    assert_identical(WireFormats::Json);
}

#[test]
fn protobuf_training_survives_chaos() {
    assert_identical(WireFormats::Protobuf);
}
