//! What the decoders take: the input that is then damaged.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tinkex::decoders::DECODERS;
use tinkex::types::wire::protobuf::{self, prost::Message};
use tinkex::types::{Datum, ForwardBackwardOutput, Loss, ModelInput, SampleResponse, TensorData};

/// The bytes of a GGUF file up to its tensors, and a few more.
const GGUF_HEADER: usize = 8500;

/// The most recorded responses for one decoder.
const MAX_RECORDED: usize = 100;

const PASS: &str = r#"{"type":"forward_backward","loss_fn_output_type":"CrossEntropyLossReturn","loss_fn_outputs":[
    {"logprobs":{"data":[-0.5,null,-1e-3],"dtype":"float32","shape":[3]}},
    {"logprobs":{"data":[-0.25],"dtype":"float32","shape":[1]},"ids":{"data":[7,9],"dtype":"int64","shape":[1,2]}}],
    "metrics":{"loss:sum":1.5,"tokens:sum":4,"norm:max":null,"unknown":2}}"#;

const SAMPLE: &str = r#"{"type":"sample","sequences":[{"stop_reason":"stop","tokens":[5,6],"logprobs":[-0.5,-1.25],
    "topk_logprobs":[[[5,-0.5],[8,-2.0]],[[6,-1.25]]]},{"stop_reason":"length","tokens":[9]}],
    "prompt_logprobs":[null,-1.0,-2.5],"topk_prompt_logprobs":[null,[[7,-1.0]],null],"prompt_cache_hit_tokens":2}"#;

/// The seeds of a decoder.
pub fn seeds(decoder: &str) -> Vec<Vec<u8>> {
    match decoder {
        "passes" => texts(&[PASS, r#"{"loss_fn_outputs":[],"metrics":{"a":NaN,"b":-Infinity}}"#]),
        "samples" => texts(&[SAMPLE, r#"{"sequences":[{"stop_reason":"stop","tokens":[1],"logprobs":[NaN]}]}"#]),
        "protobuf_passes" => {
            let output: ForwardBackwardOutput = serde_json::from_str(PASS).unwrap();
            vec![protobuf::ForwardBackwardOutput::from(&output).encode_to_vec()]
        }
        "protobuf_samples" => {
            let response: SampleResponse = serde_json::from_str(SAMPLE).unwrap();
            vec![protobuf::SampleResponse::from(&response).encode_to_vec()]
        }
        "protobuf_requests" => vec![pass_request()],
        "error_message" => texts(&[
            r#"{"detail":"no GPU free"}"#,
            r#"{"detail":[{"loc":["body","prompt",0],"msg":"field required"},{"msg":"too long"}]}"#,
            r#"{"error":{"message":"busy"}}"#,
        ]),
        "retry_after" => texts(&[
            "1.5",
            "1500",
            "Tue, 14 Nov 2023 23:00:00 GMT",
            "Tuesday, 14-Nov-23 23:00:00 GMT",
            "Tue, 14 Nov 2023 23:00:00 -0030",
        ]),
        "content_range" => texts(&["bytes 100-199/200", "bytes 100-199/*"]),
        "location" => texts(&["https://files.example.com/a%20b?x=1#y", "//other/a", "/a/../b", "?a=b", "a/./b"]),
        "response_headers" => {
            texts(&["application/x-protobuf; a=b", "Bearer error=\"invalid_token\"", "W/\"a\"", "none"])
        }
        "base_url" => texts(&["http://127.0.0.1:8000/prefix", "https://tinker.example.com", "http://[::1]:80/"]),
        "checkpoint_path" => texts(&["tinker://run-1/weights/step-100", "tinker://a:train:0/sampler_weights/b"]),
        "no_proxy" => texts(&["localhost,.example.com, 10.0.0.0/8 ::1", "*", "[fe80::1]:443,example.com:8080"]),
        "proxy_address" => texts(&["http://user:p%40ss@proxy.example.com:3128/", "socks5h://127.0.0.1", "[::1]:80"]),
        "sampler_handle" => texts(&[&sampler_handle()]),
        "session_duration" => texts(&["1 day, 0:01:01.500000", "0:00:01"]),
        "server_sent_events" => texts(&["\u{feff}event: a\r\nid: 1\ndata: x\ndata: y\n\n: c\n\ndata\n\n", "data: z"]),
        "timestamp" => {
            texts(&["2026-01-02T03:04:05.678901+00:00", "2024-02-29", "2026-01-02 03:04Z", "0001-01-01T00:00:00-1159"])
        }
        "token" => texts(&[&token(r#"{"exp":1e9,"iat":"999999000","sub":"u"}"#), &token("{}")]),
        "tokenizer_id" => texts(&["Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B@main"]),
        "chat_template" => texts(&[
            "{%- for m in messages %}{{ '<|' + m.role + '|>' + m['content'] | trim }}{% endfor %}",
            "{% set ns = namespace(n=0) %}{% macro f(x, y=[1]) %}{{ x ~ y[::-1] | tojson(indent=2) }}{% endmacro %}\
             {{ f(messages[0].content.split('i')) }}{% if add_generation_prompt and ns.n < 3 ** 2 %}{{ '%05d' | format(7) }}{% endif %}",
            "{{ strftime_now('%d %b %Y') }}{{ messages | map(attribute='role') | list | join(', ') | upper }}",
            "{% for i in range(10) %}{{ 'x' * i }}{% break %}{% endfor %}{{ bos_token }}",
        ]),
        "chaos_rules" => texts(&[
            "asample:429*3,retry_after_ms=50; retrieve_future:reset%2; *:slow%10,delay_ms=200",
            r"archive:503,after=2,header=A:b,detail=a\, b\;;forward:paused_capacity,reason=r,form=408",
        ]),
        "flags" => texts(&[
            "protobuf",
            "pjwt_auth_enabled=true",
            "fwdbwd_max_chunk_len=5",
            "credential_default_source=api_key",
        ]),
        "credentials_file" => {
            texts(&[r#"{"default":"k","keys":{"k":{"key":"tml-example","type":"generated","name":"n","details":{}}}}"#])
        }
        "image" => vec![
            b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x02\0\0\0\x03\x08\x06".to_vec(),
            b"\xff\xd8\xff\xe0\0\x04ab\xff\xff\xc0\0\x0b\x08\0\x03\0\x02\x01\x01\x11\0".to_vec(),
        ],
        "json_lines" => texts(&["{\"step\":1,\"loss\":NaN}\n\n{\"step\":2}\r\n", "[1]\n{\"ste"]),
        "tar" => vec![tar(), gzip(&tar())],
        "gguf" => vec![model("gguf/llama-q4_0.gguf")],
        "gguf_header" => vec![model("gguf/llama-q4_0.gguf")[..GGUF_HEADER].to_vec()],
        "adapter_config" => texts(&[r#"{"peft_type":"LORA","r":8,"lora_alpha":32,"bias":"none","use_dora":false,
            "rank_pattern":{},"base_model_name_or_path":"acme/small","init_lora_weights":"gaussian"}"#]),
        "hub_listing" => texts(&[&hub_listing()]),
        "model_config" => {
            ["llama3-rope-f16", "qwen2-bias-bf16", "qwen3-bf16"].map(|name| model(&format!("{name}/config.json"))).into()
        }
        "tokenizer_config" => vec![
            model("llama-gqa-tied-f32/tokenizer_config.json"),
            br#"{"chat_template":[{"name":"default","template":"{{ bos_token }}"},{"name":"tool_use","template":"{{ tools }}"}],
                "bos_token":{"content":"<s>"},"extra_special_tokens":{"image_token":"<i>"}}"#
                .to_vec(),
        ],
        "safetensors" => vec![safetensors()],
        "weights_index" => vec![model("llama-mha-untied-sharded-f32/model.safetensors.index.json")],
        "http_requests" => http_requests(),
        "openai_requests" => texts(&[
            r#"{"model":"m","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":[{"type":"text","text":"Hi"}]},
                {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},
                {"role":"tool","tool_call_id":"c","content":"7"}],"tools":[{"type":"function","function":{"name":"f"}}],
                "n":2,"max_completion_tokens":5,"temperature":0.5,"stop":["a","b"],"logprobs":true,"top_logprobs":3,"stream":true,
                "stream_options":{"include_usage":true},"chat_template_kwargs":{"enable_thinking":false}}"#,
            r#"{"model":"m","prompt":[[1,2],"Hi"],"max_tokens":3,"logprobs":2,"seed":7,"top_p":0.9,"stop":"x","echo":false}"#,
        ]),
        "tiktoken" => vec![(0..=255u8).map(tiktoken_line).collect::<String>().into_bytes()],
        "tokenizer_json" => vec![model("llama-gqa-tied-f32/tokenizer.json")],
        _ => recorded(decoder),
    }
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Recorded responses that a decoder takes.
fn recorded(name: &str) -> Vec<Vec<u8>> {
    static ALL: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let golden = |folder: &str| fs::read_dir(golden(folder)).unwrap().map(|file| file.unwrap().path());
        let files = golden("v0.4.1").chain(golden("v0.38.0"));
        let files = files.filter(|file| file.extension().is_some_and(|extension| extension == "json"));
        let fixtures = files.map(|file| serde_json::from_slice::<Value>(&fs::read(file).unwrap()).unwrap());
        let bodies = fixtures.flat_map(|mut fixture| match fixture["exchanges"].take() {
            Value::Array(exchanges) => {
                exchanges.into_iter().map(|exchange| exchange["response"]["json"].to_string()).collect()
            }
            _ => Vec::new(),
        });
        bodies.filter(|body| body.len() < 4000).collect()
    });
    let (_, decoder) = DECODERS.iter().find(|(other, _)| *other == name).unwrap();
    let taken: Vec<_> = ALL.iter().filter(|body| decoder(body.as_bytes())).collect();
    assert!(taken.len() > 2, "{name}: {} recorded responses", taken.len());
    let step = taken.len().div_ceil(MAX_RECORDED);
    taken.into_iter().step_by(step).map(|body| body.clone().into_bytes()).collect()
}

fn golden(path: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/golden", path].iter().collect()
}

fn model(path: &str) -> Vec<u8> {
    fs::read(golden("models").join(path)).unwrap()
}

fn pass_request() -> Vec<u8> {
    let datum = Datum::new(ModelInput::from_tokens([1, 2])).input("target_tokens", [2, 3]).unwrap();
    let sparse = TensorData::sparse_csr(vec![1.0_f32], vec![0, 1, 1], vec![0], [2, 2]).unwrap();
    let data = [datum.input("weights", [1.0_f32, 0.0]).unwrap().input("more", sparse).unwrap()];
    protobuf::pass_request(&data, &Loss::ppo().config("clip_low_threshold", 0.8), "m-1", 7, false).unwrap()
}

fn hub_listing() -> String {
    let siblings = json!([
        {"rfilename": "config.json", "size": 7},
        {"rfilename": "sub/small.gguf"},
        {"rfilename": "small.gguf", "size": 1, "lfs": {"sha256": "ab".repeat(32), "size": 9}},
        {"rfilename": "../other"},
    ]);
    json!({"id": "acme/small", "sha": "0123456789".repeat(4), "siblings": siblings}).to_string()
}

fn safetensors() -> Vec<u8> {
    let header = json!({
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 8]},
        "b": {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]},
    })
    .to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 12]].concat()
}

/// Two after each other, of each way to say how long a body is.
fn http_requests() -> Vec<Vec<u8>> {
    let content = zstd::encode_all(&b"{\"seq_id\":1}"[..], 0).unwrap();
    let head =
        format!("POST /api/v1/forward?a=b%20c HTTP/1.1\r\nX-Api-Key: tml-k\r\ncontent-length: {}\r\n", content.len());
    let compressed = [head.as_bytes(), b"content-encoding: zstd\r\n\r\n", &content].concat();
    let chunked =
        b"PUT /a HTTP/1.1\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2;x=y\r\n{}\r\n0\r\nt: u\r\n\r\n";
    vec![[&compressed[..], chunked].concat(), [&chunked[..], &compressed].concat()]
}

fn sampler_handle() -> String {
    let handle = json!({
        "session_id": "s-1", "sampling_session_id": "s-1:sample:0", "base_model": null, "record_stability_info": true,
        "holder": {
            "base_url": "http://127.0.0.1", "default_headers_overrides": {"a": "b"}, "api_key": null,
            "client_config": {"sample_join_sampling_session": true, "fwdbwd_max_chunk_len": 5, "pjwt_auth_enabled": null},
            "client_dynamic_config": {"refresh_interval_sec": 60},
        },
    });
    URL_SAFE.encode(handle.to_string())
}

fn token(claims: &str) -> String {
    format!("eyJhbGciOiJub25lIn0.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

fn tiktoken_line(byte: u8) -> String {
    format!("{} {byte}\n", STANDARD.encode([byte]))
}

fn tar() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in [("adapter/config.json", &b"{}"[..]), ("adapter/weights", &[7; 600]), ("empty", b"")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content).unwrap();
    }
    archive.into_inner().unwrap()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}
