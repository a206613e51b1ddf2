//! Training through faults ends with the weights of an undisturbed run.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use ndarray::Array1;
use tinkex::local::{Faults, LocalServer, WireFormats};
use tinkex::types::{
    AdamParams, Batch, Datum, ExternalSaveOptions, ForwardBackwardOutput, LoraConfig, LossFn, ModelInput, Timestamp,
};
use tinkex::{CustomLoss, Event, ServiceClient};

use crate::support::config_for;

const BASE: &str = "tinkex/bytes-tiny";

/// Resets, failures before and after the work was done, refusals and delays: of each about what a bad day brings.
const CHAOS: &str = "*:reset%1; *:lost_response%1; *:truncate%1; *:503%1; *:429%2,retry_after_ms=5; \
                     optim_step:malformed%2; forward_backward:malformed%2; *:slow%5,delay_ms=50; *:slow%2,delay_ms=200";

const STEPS: u32 = 60;
/// The step with a batch of three chunks, in both formats.
const LARGE: u32 = 20;
/// The step with a custom loss.
const CUSTOM: u32 = 40;

/// The training batch of this step.
fn batch(number: u32) -> Batch {
    vec![datum(number); if number == LARGE { 260 } else { 1 }].into()
}

fn datum(number: u32) -> Datum {
    let text: Vec<u32> = (0..6).map(|place| 97 + (number + place) % 8).collect();
    let targets: Vec<i64> = text[1..].iter().map(|token| i64::from(*token)).collect();
    let datum = Datum::new(ModelInput::from_tokens(text[..5].to_vec()));
    datum.input("weights", vec![1.0_f32; 5]).unwrap().input("target_tokens", targets).unwrap()
}

/// A custom loss, the sum of all squares.
fn squares(_: &[Datum], logprobs: &[Array1<f32>]) -> Result<CustomLoss, Infallible> {
    let loss = logprobs.iter().flatten().map(|logprob| f64::from(*logprob).powi(2)).sum();
    Ok(CustomLoss::new(loss, logprobs.iter().map(|logprobs| logprobs * 2.0).collect()))
}

fn bits(output: ForwardBackwardOutput) -> Vec<(String, u64)> {
    output.metrics.into_iter().map(|(name, value)| (name, value.to_bits())).collect()
}

/// How many tokens of passes the server charges for: what it computed, not what was sent.
fn computed_tokens(service: &ServiceClient) -> u64 {
    let hour = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() / 3600;
    let [from, to] =
        [hour - 1, hour + 2].map(|hour| Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_secs(hour * 3600)));
    let usage = service.create_rest_client().get_billing_usage(&from, &to).unwrap();
    let events = usage.data.iter().map(|event| serde_json::to_value(&event.event_info).unwrap());
    events.filter(|event| event["type"] == "training").map(|event| event["token_count"].as_u64().unwrap()).sum()
}

/// What a run leaves: its metrics, the files of its weights, and how many attempts were repeated.
struct Run {
    losses: Vec<Vec<(String, u64)>>,
    files: BTreeMap<String, Vec<u8>>,
    retries: usize,
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// Trains with steps submitted ahead, and saves the weights.
fn train(wire: WireFormats, chaos: &str) -> Run {
    let server = LocalServer::builder()
        .wire(wire)
        .flag("fwdbwd_max_chunk_len=128".parse().unwrap())
        .fault_seed(3)
        .start()
        .unwrap();
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
    let mut losses = vec![Vec::new(); STEPS as usize];
    let (mut pending, mut steps) = (Vec::new(), Vec::new());
    for number in 0..STEPS {
        if number == CUSTOM {
            losses[number as usize] = bits(trainer.forward_backward_custom(batch(number), squares).unwrap());
        } else {
            let pass = trainer.submit_forward_backward(batch(number), LossFn::CrossEntropy).unwrap();
            pending.push((number, pass));
        }
        steps.push(trainer.submit_optim_step(AdamParams::new().learning_rate(0.01)).unwrap());
    }
    steps.into_iter().for_each(|step| drop(step.wait().unwrap()));
    for (number, pass) in pending {
        losses[number as usize] = bits(pass.wait().unwrap());
    }
    let saved = trainer.save_weights_external(ExternalSaveOptions::new("end")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("adapter");
    service.create_rest_client().download_checkpoint_archive_from_tinker_path(&saved.path, target.as_path()).unwrap();
    // Each number is that of one request, whose attempts all went to one endpoint, and the server computed each pass once: the
    // custom loss takes two, and two of the chunks are more than a step has. That each step was made once, the weights show.
    let requests = server.requests();
    let requests = requests.iter().filter(|request| request.subject.as_deref() == Some(trainer.model_id()));
    let numbered: BTreeSet<_> = requests.filter_map(|request| Some((request.seq?, request.endpoint()))).collect();
    let last = u64::from(2 * STEPS) + 1 + 2 + 1;
    assert!(numbered.iter().map(|(number, _)| *number).eq(1..=last), "{numbered:?}");
    assert_eq!(computed_tokens(&service), 5 * u64::from(STEPS - 1 + 260 + 1));
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
