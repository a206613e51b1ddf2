//! Downloads, credentials and the billing of an account.

use std::thread;

use tempfile::tempdir;
use tinkex::rest::DownloadOptions;
use tinkex::types::{AdamParams, LoraConfig};
use tinkex::{RestClient, WaitKind};

use super::*;
use crate::support::connect;

#[test]
fn an_archive_that_is_prepared_is_said() {
    let scene = Scene::refusing("training_runs/run", 503);
    let (rest, folder) = (RestClient::new(scene.config().build_with(|_| None).unwrap()).unwrap(), tempdir().unwrap());
    let out = folder.path().join("out");
    let loading = thread::spawn(move || {
        let options = DownloadOptions::new(&out).timeout_preparation(600 * SECOND);
        rest.download_checkpoint_archive("run", "weights/a", options).map(drop)
    });
    scene.past([7500..=10_000]);
    scene.past([7500..=10_000]);
    let waiting = scene.waiting();
    assert_eq!((waiting.kind, waiting.status), (WaitKind::Download, Some(503)));
    assert!(waiting.limit.to_string().ends_with("(timeout_preparation)"), "{waiting}");
    scene.respond_to_next(404);
    loading.join().unwrap().unwrap_err();
    assert_eq!(scene.ended().kind, WaitKind::Download);
}

#[cfg(feature = "tokenizers")]
#[test]
fn a_tokenizer_that_does_not_come_is_said() {
    let scene = Scene::refusing("", 503);
    let (folder, url) = (tempdir().unwrap(), scene.service.url());
    let config = scene.config().max_retries(3).retry_base(8 * SECOND).build_with(|_| None).unwrap();
    let cache = folder.path().to_str().unwrap().to_owned();
    let source = tinkex::TokenizerSource::from_env_with(move |name| match name {
        "HF_ENDPOINT" => Some(url.clone()),
        "TINKEX_CACHE" => Some(cache.clone()),
        _ => None,
    });
    let source = source.config(&config);
    let loading = thread::spawn(move || source.load("acme/words").map(drop));
    scene.past([6000..=8000, 7500..=10_000]);
    let waiting = scene.waiting();
    assert!(
        waiting.kind == WaitKind::Download && &*waiting.reason == "503 no GPU free" && waiting.tries >= 2,
        "{waiting}"
    );
    assert_eq!(waiting.limit.to_string(), "gives up after 4 tries (max_retries)");
    scene.past([7500..=10_000]);
    let error = loading.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("503"), "{error}");
}

#[test]
fn an_unpaid_bill_is_said_each_minute() {
    let scene = Scene::refusing("optim_step", 402);
    let trainer = connect(scene.config()).create_lora_training_client("base", LoraConfig::default()).unwrap();
    let step = trainer.submit_optim_step(AdamParams::default()).unwrap();
    scene.past([5000..=5000, 5000..=5000]);
    let waiting = scene.waiting();
    assert!(&*waiting.reason == "402 no GPU free" && waiting.status == Some(402) && waiting.tries >= 2, "{waiting}");
    assert!(waiting.limit.to_string().ends_with("(timeout_billing)"), "{waiting}");
    scene.past((0..12).map(|_| 5000..=5000));
    assert_eq!(scene.waiting().waited, 70 * SECOND);
    scene.recover_before_next();
    step.wait().unwrap();
    assert_eq!(scene.ended().waited, 75 * SECOND);
}

#[cfg(unix)]
#[test]
fn a_command_that_hangs_is_said() {
    let scene = Scene::refusing("nothing", 200);
    let url = scene.service.url();
    let config = tinkex::Config::builder()
        .base_url(&url)
        .clock(scene.manual.clock())
        .proxy(tinkex::Proxy::Off)
        .observer({
            let sender = scene.sender.clone();
            move |event: &Event| {
                if matches!(event, Event::Waiting(_)) {
                    sender.send(event.clone()).unwrap();
                }
            }
        })
        .build_with(|name| (name == "TINKER_CREDENTIAL_CMD").then(|| "exec sleep 90".to_owned()))
        .unwrap();
    let rest = RestClient::new(config).unwrap();
    let asking = thread::spawn(move || rest.get_training_run("run").map(drop));
    scene.manual.until_waiting(|waits| waits.contains(&(60 * SECOND)));
    scene.manual.advance(10 * SECOND);
    assert_eq!(&*scene.waiting().reason, "the command in TINKER_CREDENTIAL_CMD is running");
    scene.manual.advance(50 * SECOND);
    asking.join().unwrap().unwrap_err();
}
