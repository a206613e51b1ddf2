//! The work that `scripts/compare/run` measures, done with this crate, or as little as is possible without it. `scripts/compare/work.py`
//! does the same with the official Python client. Prints one line of JSON; the base URL is that of `tinkex serve --stub`.
//!
//! ```text
//! cargo run --release --example compare WORK [NUMBER]…
//!
//! start                        a session, and the capabilities of the server
//! pass DATUMS TOKENS CALLS     forward_backward
//! result DATUMS TOKENS         reading the result of a forward pass; the server holds it until it is released
//! samples COUNT AT_ONCE        samples, so many in flight
//! rounds COUNT AT_ONCE         samples, so many in flight, then the next so many
//! prompt TOKENS CALLS          samples of a long prompt
//! futures COUNT                samples without a result; the server holds all until they are released
//! idle SECONDS                 a session, a training client and a sampling client that do nothing
//! floor-pass, floor-result, floor-samples, floor-prompt
//!                              the same bytes, made from the data and sent and received by the HTTP client alone
//! ```
#![allow(clippy::print_stdout, reason = "it prints what it measured")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::borrow::Cow;
use std::collections::VecDeque;
use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use serde_json::{Map, Value, json};
use tinkex::types::wire::protobuf::{self, prost::Message, prost::bytes::Bytes};
use tinkex::types::wire::{ForwardBackwardInput, ForwardBackwardRequest, SampleRequest};
use tinkex::types::{
    Batch, Datum, ForwardBackwardOutput, LoraConfig, Loss, LossFn, ModelInput, SampleResponse, SamplingParams,
};
use tinkex::{Config, Pending, Proxy, SamplingClient, ServiceClient, TrainingClient};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const MODEL: &str = "tinkex/bytes-tiny";
const JSON: &str = "application/json";
/// What this crate puts into a request in protobuf and in JSON: estimated bytes, and numbers.
const CHUNK_BYTES: usize = 5_000_000;
const CHUNK_NUMBERS: usize = 500_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let work = arguments.first().map(String::as_str).unwrap_or_default();
    let numbers: Vec<usize> =
        arguments.iter().skip(1).map(|text| text.parse()).collect::<std::result::Result<_, _>>()?;
    let measured = match (work, numbers.as_slice()) {
        ("start", []) => start()?,
        ("pass", &[datums, tokens, calls]) => pass(datums, tokens, calls)?,
        ("result", &[datums, tokens]) => result(datums, tokens)?,
        ("samples", &[count, at_once]) => samples(count, at_once, false)?,
        ("rounds", &[count, at_once]) => samples(count, at_once, true)?,
        ("prompt", &[tokens, calls]) => prompt(tokens, calls)?,
        ("futures", &[count]) => futures(count)?,
        ("idle", &[seconds]) => idle(seconds)?,
        ("floor-pass", &[datums, tokens, calls]) => floor_pass(datums, tokens, calls)?,
        ("floor-result", &[datums, tokens]) => floor_result(datums, tokens)?,
        ("floor-samples", &[count, at_once]) => floor_samples(count, at_once)?,
        ("floor-prompt", &[tokens, calls]) => floor_prompt(tokens, calls)?,
        _ => return Err(format!("unknown work {arguments:?}").into()),
    };
    let measured = with(measured, json!({ "own_connections": CONNECTIONS.load(Ordering::Relaxed) }));
    println!("{}", Value::Object(measured));
    Ok(())
}

/// What was used since some moment.
struct Meter {
    began: Instant,
    cpu: Duration,
}

#[cfg(unix)]
fn cpu() -> Result<Duration> {
    use nix::time::{ClockId, clock_gettime};
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into())
}

#[cfg(not(unix))]
fn cpu() -> Result<Duration> {
    Err("this system has no clock of a process's CPU time".into())
}

impl Meter {
    fn start() -> Result<Self> {
        Ok(Meter { began: Instant::now(), cpu: cpu()? })
    }

    /// The seconds of each call.
    fn stop(self, calls: usize) -> Result<Map<String, Value>> {
        let (cpu, wall) = (cpu()? - self.cpu, self.began.elapsed());
        let each = |time: Duration| json!(time.as_secs_f64() / calls as f64);
        Ok(Map::from_iter([("cpu".to_owned(), each(cpu)), ("wall".to_owned(), each(wall))]))
    }
}

/// A value of `/proc/self/status`: bytes, or a count.
fn status(name: &str) -> Result<usize> {
    status_of(Path::new("/proc/self"), name)
}

/// The same of a process or thread.
fn status_of(task: &Path, name: &str) -> Result<usize> {
    let status = fs::read_to_string(task.join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = line.ok_or("no such line")?.trim();
    Ok(match value.strip_suffix(" kB") {
        Some(kilobytes) => kilobytes.parse::<usize>()? * 1024,
        None => value.parse()?,
    })
}

/// How far the resident memory rises above that of now while this runs.
fn peak<T>(act: impl FnOnce() -> Result<T>) -> Result<(T, usize)> {
    fs::write("/proc/self/clear_refs", "5")?;
    let before = status("VmRSS")?;
    let result = act()?;
    Ok((result, status("VmHWM")?.saturating_sub(before)))
}

fn with(mut measured: Map<String, Value>, fields: Value) -> Map<String, Value> {
    if let Value::Object(fields) = fields {
        measured.extend(fields);
    }
    measured
}

fn base_url() -> Result<String> {
    Ok(env::var("TINKER_BASE_URL")?)
}

/// The connections of the measurement itself: one for each request to the stub as such.
static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

/// Something that the stub counts.
fn counted(name: &str) -> Result<u64> {
    CONNECTIONS.fetch_add(1, Ordering::Relaxed);
    let counts = ureq::get(format!("{}/stub", base_url()?)).call()?.body_mut().read_to_vec()?;
    let counts: Value = serde_json::from_slice(&counts)?;
    counts[name].as_u64().ok_or_else(|| "the stub does not count this".into())
}

/// Waits until the stub has as many of something.
fn wait_for(name: &str, count: usize) -> Result<()> {
    while counted(name)? < count as u64 {
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn release() -> Result<()> {
    CONNECTIONS.fetch_add(1, Ordering::Relaxed);
    ureq::post(format!("{}/stub/release", base_url()?)).send_empty()?;
    Ok(())
}

/// `queued` is how many samples wait at most, if they are more than the default.
fn service(queued: usize) -> Result<ServiceClient> {
    let config = Config::builder().api_key("tml-compare").base_url(base_url()?).proxy(Proxy::Off).telemetry(false);
    let config = config.wire(Config::from_env()?.wire()).max_queued(queued.max(10_000));
    Ok(ServiceClient::connect(config.build()?)?)
}

fn trainer() -> Result<TrainingClient> {
    Ok(service(0)?.create_lora_training_client(MODEL, LoraConfig::default())?)
}

fn sampler(queued: usize) -> Result<(ServiceClient, SamplingClient)> {
    let service = service(queued)?;
    let sampler = service.create_sampling_client(MODEL)?;
    Ok((service, sampler))
}

fn noise(index: usize) -> u32 {
    let mut bits = (index as u32).wrapping_mul(2_654_435_761);
    bits ^= bits >> 15;
    bits.wrapping_mul(2_246_822_519)
}

fn token(index: usize) -> u32 {
    noise(index) % 150_000
}

fn data(datums: usize, tokens: usize) -> Result<Vec<Datum>> {
    let datum = |datum: usize| -> Result<Datum> {
        let places = || datum * tokens..(datum + 1) * tokens;
        let targets: Vec<i64> = places().map(|place| token(place + 1).into()).collect();
        let weights: Vec<f32> = places().map(|place| noise(place) as f32 / 1e9).collect();
        let input = ModelInput::from_tokens(places().map(token).collect::<Vec<_>>());
        Ok(Datum::new(input).input("target_tokens", targets)?.input("weights", weights)?)
    };
    (0..datums).map(datum).collect()
}

fn long_prompt(tokens: usize) -> ModelInput {
    ModelInput::from_tokens((0..tokens).map(token).collect::<Vec<_>>())
}

fn start() -> Result<Map<String, Value>> {
    service(0)?.get_server_capabilities()?;
    Ok(Map::from_iter([("peak".to_owned(), status("VmHWM")?.into())]))
}

/// The first call for the memory, which no earlier one has left behind, and the others for the time.
fn calls(calls: usize, mut call: impl FnMut() -> Result<()>) -> Result<Map<String, Value>> {
    let ((), above) = peak(&mut call)?;
    let meter = Meter::start()?;
    (0..calls).try_for_each(|_| call())?;
    Ok(with(meter.stop(calls)?, json!({ "peak": above, "calls": calls + 1 })))
}

/// Measures one call, with its memory.
fn once(call: impl FnOnce() -> Result<()>) -> Result<Map<String, Value>> {
    let (measured, above) = peak(|| {
        let meter = Meter::start()?;
        call()?;
        meter.stop(1)
    })?;
    Ok(with(measured, json!({ "peak": above, "calls": 1 })))
}

fn pass(datums: usize, tokens: usize, count: usize) -> Result<Map<String, Value>> {
    let batch: Batch = data(datums, tokens)?.into();
    let trainer = trainer()?;
    calls(count, || {
        let output = trainer.forward_backward(&batch, LossFn::CrossEntropy)?;
        assert_eq!(output.loss_fn_outputs.len(), datums);
        Ok(())
    })
}

fn result(datums: usize, tokens: usize) -> Result<Map<String, Value>> {
    let batch: Batch = data(datums, tokens)?.into();
    let trainer = trainer()?;
    let pending = trainer.submit_forward(&batch, LossFn::CrossEntropy)?;
    // Each chunk has a promise.
    wait_for("promises", datums.div_ceil(chunk_length(tokens)))?;
    once(|| {
        release()?;
        let outputs = pending.wait()?.loss_fn_outputs;
        let numbers: usize = outputs.iter().filter_map(|output| output.logprobs()).map(<[_]>::len).sum();
        assert_eq!(numbers, datums * tokens);
        Ok(())
    })
}

fn samples(count: usize, at_once: usize, in_rounds: bool) -> Result<Map<String, Value>> {
    let (_service, sampler) = sampler(0)?;
    let (prompt, params) = (long_prompt(16), SamplingParams::default().max_tokens(16));
    once(|| {
        let mut pending: VecDeque<Pending<SampleResponse>> = VecDeque::new();
        for _ in 0..count {
            if pending.len() == at_once {
                let mut first = pending.drain(..if in_rounds { at_once } else { 1 });
                first.try_for_each(|sample| sample.wait().map(drop))?;
            }
            pending.push_back(sampler.submit_sample(&prompt, 1, &params)?);
        }
        pending.into_iter().try_for_each(|sample| sample.wait().map(drop))?;
        Ok(())
    })
}

fn prompt(tokens: usize, count: usize) -> Result<Map<String, Value>> {
    let (_service, sampler) = sampler(0)?;
    let (prompt, params) = (long_prompt(tokens), SamplingParams::default().max_tokens(16));
    calls(count, || {
        sampler.sample(&prompt, 1, &params)?;
        Ok(())
    })
}

fn futures(count: usize) -> Result<Map<String, Value>> {
    const WARM: usize = 200;
    let (service, sampler) = sampler(2 * count)?;
    let (prompt, params) = (long_prompt(1000), SamplingParams::default().max_tokens(16));
    let submit = |count: usize| -> Result<Vec<_>> {
        (0..count).map(|_| Ok(sampler.submit_sample(&prompt, 1, &params)?)).collect()
    };
    let warm = submit(WARM)?;
    wait_for("promises", WARM)?;
    let before = status("VmRSS")?;
    let meter = Meter::start()?;
    let pending = submit(count)?;
    wait_for("promises", WARM + count)?;
    let submitted = meter.stop(count)?;
    let resident = status("VmRSS")?.saturating_sub(before) / count;
    let meter = Meter::start()?;
    release()?;
    warm.into_iter().chain(pending).try_for_each(|sample| sample.wait().map(drop))?;
    let resolved = meter.stop(count)?;
    service.close(Duration::from_secs(5));
    Ok(with(resolved, json!({ "peak": resident, "submit_cpu": submitted["cpu"], "calls": count })))
}

fn idle(seconds: usize) -> Result<Map<String, Value>> {
    let (service, _sampler) = sampler(0)?;
    let _trainer = service.create_lora_training_client(MODEL, LoraConfig::default())?;
    // What starting left behind ends first.
    thread::sleep(Duration::from_secs(12));
    let wakes = || -> Result<usize> {
        let tasks = fs::read_dir("/proc/self/task")?;
        tasks.map(|task| status_of(&task?.path(), "voluntary_ctxt_switches")).sum()
    };
    let (before, meter) = (wakes()?, Meter::start()?);
    thread::sleep(Duration::from_secs(seconds as u64));
    let measured = meter.stop(seconds)?;
    let wakes = (wakes()? - before) as f64 / seconds as f64;
    let fields = json!({ "peak": status("VmRSS")?, "threads": status("Threads")?, "wakes": wakes, "calls": 1 });
    Ok(with(measured, fields))
}

fn is_json() -> bool {
    env::var("TINKER_WIRE").is_ok_and(|wire| wire == "json")
}

/// How many datums of so many tokens a request has.
fn chunk_length(tokens: usize) -> usize {
    let length = if is_json() { CHUNK_NUMBERS / (3 * tokens) } else { CHUNK_BYTES / (16 * tokens) };
    length.clamp(1, 1024)
}

/// Posts bytes to the stub and returns the body of the response.
fn post(agent: &ureq::Agent, endpoint: &str, content_type: &str, body: &[u8]) -> Result<Vec<u8>> {
    let request = agent.post(format!("{}/api/v1/{endpoint}", base_url()?)).header("x-api-key", "tml-compare");
    let accepted = if is_json() { JSON } else { protobuf::CONTENT_TYPE };
    let request = request.header("content-type", content_type).header("accept", accepted);
    let mut response = request.send(body)?;
    Ok(response.body_mut().with_config().limit(u64::MAX).read_to_vec()?)
}

fn promised(agent: &ureq::Agent, promise: &[u8]) -> Result<Vec<u8>> {
    let promise: Value = serde_json::from_slice(promise)?;
    let poll = json!({ "request_id": promise["request_id"] }).to_string();
    post(agent, "retrieve_future", JSON, poll.as_bytes())
}

fn floor_pass(datums: usize, tokens: usize, count: usize) -> Result<Map<String, Value>> {
    let data = data(datums, tokens)?;
    let agent = ureq::Agent::new_with_defaults();
    let is_json = is_json();
    let loss = Loss::cross_entropy();
    calls(count, || {
        for chunk in data.chunks(chunk_length(tokens)) {
            let (body, content_type) = match is_json {
                true => {
                    let forward_backward_input = ForwardBackwardInput::new(chunk, &loss);
                    let request =
                        ForwardBackwardRequest { forward_backward_input, model_id: "m".into(), seq_id: Some(1) };
                    (serde_json::to_vec(&request)?, JSON)
                }
                false => (protobuf::pass_request(chunk, &loss, "m", 1, false)?, protobuf::CONTENT_TYPE),
            };
            let promise = post(&agent, "forward_backward", content_type, &body)?;
            drop(body);
            decode_pass(promised(&agent, &promise)?)?;
        }
        Ok(())
    })
}

fn decode_pass(body: Vec<u8>) -> Result<usize> {
    let output = match body.first() {
        Some(b'{') => serde_json::from_slice(&body)?,
        _ => ForwardBackwardOutput::try_from(protobuf::ForwardBackwardOutput::decode(Bytes::from(body))?)?,
    };
    Ok(output.loss_fn_outputs.len())
}

fn floor_result(datums: usize, tokens: usize) -> Result<Map<String, Value>> {
    let (agent, length) = (ureq::Agent::new_with_defaults(), chunk_length(tokens));
    // What the stub would promise for the chunks, with a time that is far.
    let chunks = (0..datums).step_by(length).map(|first| length.min(datums - first));
    let polls: Vec<_> = chunks
        .map(|chunk| json!({ "request_id": format!("stub-0-100000000-pass-{tokens}x{chunk}") }).to_string())
        .map(|promise| (agent.clone(), promise))
        .map(|(agent, promise)| thread::spawn(move || decode_pass(promised(&agent, promise.as_bytes())?)))
        .collect();
    wait_for("held_polls", polls.len())?;
    once(|| {
        release()?;
        let read: usize = polls.into_iter().map(|poll| poll.join().expect("it ends")).sum::<Result<_>>()?;
        assert_eq!(read, datums);
        Ok(())
    })
}

fn sample_body(prompt: &ModelInput) -> Result<Vec<u8>> {
    let sampling_params = Cow::Owned(SamplingParams::default().max_tokens(16));
    let request = SampleRequest { prompt: Cow::Borrowed(prompt), sampling_params, ..SampleRequest::default() };
    Ok(serde_json::to_vec(&request)?)
}

fn floor_sample(agent: &ureq::Agent, prompt: &ModelInput) -> Result<()> {
    let promise = post(agent, "asample", JSON, &sample_body(prompt)?)?;
    let result = promised(agent, &promise)?;
    SampleResponse::try_from(protobuf::SampleResponse::decode(Bytes::from(result))?)?;
    Ok(())
}

fn floor_samples(count: usize, at_once: usize) -> Result<Map<String, Value>> {
    let config = ureq::Agent::config_builder().max_idle_connections(at_once).max_idle_connections_per_host(at_once);
    let (agent, prompt) = (config.build().new_agent(), long_prompt(16));
    let each = || (0..count / at_once).try_for_each(|_| floor_sample(&agent, &prompt));
    once(|| {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(each)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("it ends"))
        })?;
        Ok(())
    })
}

fn floor_prompt(tokens: usize, count: usize) -> Result<Map<String, Value>> {
    let (agent, prompt) = (ureq::Agent::new_with_defaults(), long_prompt(tokens));
    calls(count, || floor_sample(&agent, &prompt))
}
