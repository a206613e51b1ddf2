//! `tinkex serve --model` with real models.

use super::program::{read_to_end, tinkex};
use super::serve::{models, serve};

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/models");
const BYTES: [&str; 3] = ["tinkex/bytes-tiny", "tinkex/bytes-small", "tinkex/bytes-medium"];

#[test]
fn real_models_are_served_beside_bytes() {
    let options = format!(
        "--model {MODELS}/llama3-rope-f16 --model {MODELS}/gguf/llama-q4_0.gguf=acme/small --threads 1 --weights f32"
    );
    let mut server = serve(&options);
    assert_eq!(models(&server), [BYTES.as_slice(), &["llama3-rope-f16", "acme/small"]].concat());
    server.child.kill().unwrap();
    let said = read_to_end(server.child.stderr.take().unwrap());
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        matches!(lines.as_slice(), [first, second]
            if first.starts_with("llama3-rope-f16: weights in f32, ") && second.starts_with("acme/small: weights in f32, ")),
        "{said}"
    );
    let one = format!("--model {MODELS}/qwen3-bf16=q --model tinkex/bytes-small");
    assert_eq!(models(&serve(&one)), ["tinkex/bytes-small", "q"]);
}

#[test]
fn a_model_that_cannot_be_served_is_explained() {
    for (model, code, words, hint) in [
        ("gpt-5", 2, "no file or directory \"gpt-5\"", "an id on the hub"),
        ("acme/small", 1, "\"acme/small\" is not in the cache, and HF_HUB_OFFLINE", "put its files at"),
        (MODELS, 1, "neither config.json nor a GGUF file", "directory of a model"),
    ] {
        let done = tinkex(&format!("serve --model {model}")).env("TINKEX_CACHE", "/no/cache").run();
        assert_eq!((done.code, done.stdout.as_str()), (Some(code), ""), "{done:?}");
        assert!(done.stderr.starts_with("error: ") && done.stderr.contains(words), "{done:?}");
        assert!(done.stderr.contains("\nhint: ") && done.stderr.contains(hint), "{done:?}");
    }
    // Before any of them is loaded.
    let twice = format!("serve --model {MODELS}/llama3-rope-f16 --model {MODELS}/qwen3-bf16=llama3-rope-f16");
    let done = tinkex(&twice).run();
    let said = "error: two models have the name \"llama3-rope-f16\"\nhint: give one of them another name, as in --model PATH=NAME\n";
    assert_eq!((done.code, done.stderr.as_str()), (Some(2), said));
}

#[cfg(unix)]
#[test]
fn a_signal_ends_loading() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use crate::support::{Reply, Service};

    let cache = tempfile::tempdir().unwrap();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let hub = Service::start(|_| Reply::Silence);
        let program = tinkex("serve --model acme/small").without_env("HF_HUB_OFFLINE").env("HF_ENDPOINT", &hub.url());
        let mut child = program.env("TINKEX_CACHE", cache.path().to_str().unwrap()).start();
        hub.wait_until(|requests| !requests.is_empty());
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        let said = read_to_end(child.stderr.take().unwrap());
        assert_eq!(said, "error: loading was interrupted; what was downloaded is kept\n", "{signal}");
    }
}
