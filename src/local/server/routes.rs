//! From a request to what is done about it: the endpoints of the service.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::http::{Request, Response};
use super::promises::{Polled, PromiseId};
use super::reply::Reply;
use super::state::{Fingerprint, Run, Sampler, State, Tables};
use super::work::{SampleJob, Task, start_run};
use super::{input, now};
use crate::local::model::Model;
use crate::types::{
    CreateModelRequest, CreateSamplingSessionRequest, CreateSamplingSessionResponse, CreateSessionRequest,
    CreateSessionResponse, ForwardBackwardRequest, ForwardRequest, GetInfoRequest, GetInfoResponse,
    GetServerCapabilitiesResponse, HealthResponse, HeartbeatRequest, HeartbeatResponse, LoadWeightsRequest, ModelData,
    OptimStepRequest, Promise, QueueState, RetrieveFutureRequest, SampleRequest, SaveWeightsForSamplerRequest,
    SaveWeightsRequest, SupportedModel, UnloadModelRequest,
};

/// Where every path begins.
const PREFIX: &str = "/api/v1/";

/// Decides whether a key may use the server.
pub(in crate::local) type KeyCheck = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What the endpoints work with.
pub(super) struct Service {
    pub(super) state: Arc<State>,
    /// How long a poll for a result is held.
    pub(super) hold_time: Duration,
    pub(super) key_check: KeyCheck,
}

/// One request to an endpoint.
struct Call<'a> {
    service: &'a Service,
    state: &'a Arc<State>,
    request: &'a Request,
    print: Fingerprint,
    reply: &'a Reply,
}

/// What came of a request.
enum Answer {
    Now(Response),
    /// The answer comes through the reply.
    Later,
}

type Handler = fn(&Call<'_>) -> Result<Answer, Response>;

const ROUTES: &[(&str, &str, Handler)] = &[
    ("POST", "create_session", create_session),
    ("POST", "session_heartbeat", session_heartbeat),
    ("GET", "get_server_capabilities", get_server_capabilities),
    ("GET", "healthz", healthz),
    ("POST", "create_model", create_model),
    ("POST", "get_info", get_info),
    ("POST", "unload_model", unload_model),
    ("POST", "forward", forward),
    ("POST", "forward_backward", forward_backward),
    ("POST", "optim_step", optim_step),
    ("POST", "save_weights", save_weights),
    ("POST", "load_weights", load_weights),
    ("POST", "save_weights_for_sampler", save_weights_for_sampler),
    ("POST", "create_sampling_session", create_sampling_session),
    ("POST", "asample", asample),
    ("POST", "retrieve_future", retrieve_future),
    ("POST", "telemetry", telemetry),
];

impl Service {
    /// Carries out a request and sees to it that it is answered.
    pub(super) fn answer(&self, request: &Request, reply: &Reply) {
        match self.route(request, reply) {
            Ok(Answer::Now(response)) | Err(response) => reply.answer(response),
            Ok(Answer::Later) => {}
        }
    }

    fn route(&self, request: &Request, reply: &Reply) -> Result<Answer, Response> {
        let key = request.header("x-api-key").unwrap_or_default();
        if key.is_empty() {
            return Err(Response::detail(401, "the header x-api-key is missing or empty"));
        }
        if !(self.key_check)(key) {
            return Err(Response::detail(401, "the API key is not known"));
        }
        let name = request.path.strip_prefix(PREFIX).unwrap_or_default();
        match ROUTES.iter().find(|(_, path, _)| *path == name) {
            None => Err(Response::detail(404, "Not Found")),
            Some((method, ..)) if *method != request.method => Err(Response::detail(405, "Method Not Allowed")),
            Some((_, _, handler)) => {
                let print = Fingerprint::of(request);
                handler(&Call { service: self, state: &self.state, request, print, reply })
            }
        }
    }
}

fn respond<T: Serialize>(body: &T) -> Result<Answer, Response> {
    Ok(Answer::Now(Response::json(200, body)))
}

fn create_session(call: &Call<'_>) -> Result<Answer, Response> {
    let _: CreateSessionRequest<'_> = input::body(call.request)?;
    let session_id = call.state.lock().open_session();
    respond(&CreateSessionResponse { session_id, ..CreateSessionResponse::default() })
}

fn session_heartbeat(call: &Call<'_>) -> Result<Answer, Response> {
    let HeartbeatRequest { session_id } = input::body(call.request)?;
    call.state.lock().session(&session_id)?;
    respond(&HeartbeatResponse {})
}

fn get_server_capabilities(call: &Call<'_>) -> Result<Answer, Response> {
    let models = call.state.models.iter().map(|model| SupportedModel { model_name: Some(model.name().to_owned()) });
    respond(&GetServerCapabilitiesResponse { supported_models: models.collect() })
}

fn healthz(_: &Call<'_>) -> Result<Answer, Response> {
    respond(&HealthResponse { status: "ok".to_owned() })
}

fn telemetry(_: &Call<'_>) -> Result<Answer, Response> {
    respond(&json!({ "status": "accepted" }))
}

fn create_model(call: &Call<'_>) -> Result<Answer, Response> {
    let body: CreateModelRequest<'_> = input::body(call.request)?;
    let model = call.state.model(&body.base_model)?;
    let options = input::adapter_options(&body.lora_config.unwrap_or_default())?;
    let seq = Some(body.model_seq_id);

    let mut tables = call.state.lock();
    let session = tables.session(&body.session_id)?;
    let model_id = format!("{}:train:{}", body.session_id, body.model_seq_id);
    if let Some(first) = session.models.repeated(seq, call.print)? {
        return respond(&promise(*first, &model_id));
    }
    let lora_rank = options.rank;
    let queue = start_run(call.state, &model_id, &model, options)
        .map_err(|error| Response::detail(503, &format!("no thread for another model: {error}")))?;
    let id = call.state.promises.make();
    session.models.record(seq, call.print, id);
    // The worker has just begun to wait for it.
    let _ = queue.send((id, Task::Create));
    tables.runs.insert(model_id.clone(), Run::new(&body.session_id, model, lora_rank, queue));
    respond(&promise(id, &model_id))
}

fn get_info(call: &Call<'_>) -> Result<Answer, Response> {
    let GetInfoRequest { model_id } = input::body(call.request)?;
    let mut tables = call.state.lock();
    let run = tables.run(&model_id)?;
    run.queue()?;
    let name = Some(run.model.name().to_owned());
    respond(&GetInfoResponse {
        model_id: model_id.into_owned(),
        model_data: ModelData { arch: None, model_name: name.clone(), tokenizer_id: name.clone() },
        is_lora: Some(true),
        lora_rank: u32::try_from(run.lora_rank).ok(),
        model_name: name,
    })
}

fn unload_model(call: &Call<'_>) -> Result<Answer, Response> {
    let UnloadModelRequest { model_id } = input::body(call.request)?;
    let mut tables = call.state.lock();
    let run = tables.run(&model_id)?;
    let id = match run.unloaded {
        Some(first) => first,
        None => {
            let id = call.state.promises.make();
            // The worker ends after this task, as its queue is dropped here.
            if let Some(queue) = run.queue.take() {
                let _ = queue.send((id, Task::Unload));
            }
            *run.unloaded.insert(id)
        }
    };
    respond(&promise(id, &model_id))
}

fn forward(call: &Call<'_>) -> Result<Answer, Response> {
    let body: ForwardRequest<'_> = input::body(call.request)?;
    let batch = input::batch(&*call.base_model(&body.model_id)?, &body.forward_input)?;
    call.submit(&body.model_id, body.seq_id, |_| Ok(Task::Forward(batch)))
}

fn forward_backward(call: &Call<'_>) -> Result<Answer, Response> {
    let body: ForwardBackwardRequest<'_> = input::body(call.request)?;
    let batch = input::batch(&*call.base_model(&body.model_id)?, &body.forward_backward_input)?;
    call.submit(&body.model_id, body.seq_id, |_| Ok(Task::ForwardBackward(batch)))
}

fn optim_step(call: &Call<'_>) -> Result<Answer, Response> {
    let body: OptimStepRequest<'_> = input::body(call.request)?;
    let step = input::adam_step(&body.adam_params)?;
    call.submit(&body.model_id, body.seq_id, |_| Ok(Task::OptimStep(step)))
}

fn save_weights(call: &Call<'_>) -> Result<Answer, Response> {
    let body: SaveWeightsRequest<'_> = input::body(call.request)?;
    let name = input::checkpoint_name(body.path.as_deref())?;
    call.submit(&body.model_id, body.seq_id, |tables| {
        tables.run(&body.model_id)?.name_checkpoint(&body.model_id, "weights", name).map(Task::Save)
    })
}

fn load_weights(call: &Call<'_>) -> Result<Answer, Response> {
    let body: LoadWeightsRequest<'_> = input::body(call.request)?;
    let task = Task::Load { path: body.path.into_owned(), optimizer: body.optimizer.unwrap_or_default() };
    call.submit(&body.model_id, body.seq_id, |_| Ok(task))
}

fn save_weights_for_sampler(call: &Call<'_>) -> Result<Answer, Response> {
    let body: SaveWeightsForSamplerRequest<'_> = input::body(call.request)?;
    let Some(sampler_seq) = body.sampling_session_seq_id else {
        let name = input::checkpoint_name(body.path.as_deref())?;
        return call.submit(&body.model_id, body.seq_id, |tables| {
            let run = tables.run(&body.model_id)?;
            run.name_checkpoint(&body.model_id, "sampler_weights", name).map(Task::SaveForSampler)
        });
    };
    call.submit(&body.model_id, body.seq_id, |tables| {
        let session_id = tables.run(&body.model_id)?.session_id.clone();
        let sampler_id = tables.session(&session_id)?.number_sampler(&session_id, sampler_seq, call.print)?;
        Ok(Task::Snapshot(sampler_id))
    })
}

fn create_sampling_session(call: &Call<'_>) -> Result<Answer, Response> {
    let body: CreateSamplingSessionRequest<'_> = input::body(call.request)?;
    let mut tables = call.state.lock();
    let (model, adapter) = match (body.model_path.as_deref(), body.base_model.as_deref()) {
        (Some(path), _) => {
            let missing = || Response::detail(404, &format!("there is no checkpoint {path:?}"));
            let checkpoint = tables.checkpoints.get(path).ok_or_else(missing)?;
            (checkpoint.model.clone(), Some(checkpoint.adapter.clone()))
        }
        (None, Some(name)) => (call.state.model(name)?, None),
        (None, None) => return Err(Response::detail(400, "either base_model or model_path is needed")),
    };
    let session = tables.session(&body.session_id)?;
    let id = session.number_sampler(&body.session_id, body.sampling_session_seq_id, call.print)?;
    tables.samplers.entry(id.clone()).or_insert_with(|| Sampler::new(model, adapter));
    respond(&CreateSamplingSessionResponse { sampling_session_id: id })
}

fn asample(call: &Call<'_>) -> Result<Answer, Response> {
    let body: SampleRequest<'_> = input::body(call.request)?;
    let needed = || Response::detail(400, "sampling_session_id is needed");
    let sampler_id = body.sampling_session_id.as_deref().ok_or_else(needed)?;
    let model = call.state.lock().sampler(sampler_id)?.model.clone();
    let task = input::sample_task(&*model, &body)?;

    let mut tables = call.state.lock();
    let sampler = tables.sampler(sampler_id)?;
    if let Some(first) = sampler.requests.repeated(body.seq_id, call.print)? {
        return respond(&Promise::new(first.to_string()));
    }
    let id = call.state.promises.make();
    sampler.requests.record(body.seq_id, call.print, id);
    let job = SampleJob { promise: id, model, adapter: sampler.adapter.clone(), task };
    tables.sample(job)?;
    respond(&Promise::new(id.to_string()))
}

fn retrieve_future(call: &Call<'_>) -> Result<Answer, Response> {
    let RetrieveFutureRequest { request_id } = input::body(call.request)?;
    match call.state.promises.poll(&request_id, call.reply) {
        Polled::Ready(result) => Ok(Answer::Now(result)),
        Polled::Held => {
            let not_yet = Response::json(408, &json!({ "queue_state": QueueState::Active }));
            call.reply.hold(now().checked_add(call.service.hold_time), not_yet);
            Ok(Answer::Later)
        }
        Polled::Expired => Err(Response::detail(410, &format!("the result of {request_id} is no longer kept"))),
        Polled::Unknown => Err(Response::detail(404, &format!("there is no request {request_id:?}"))),
    }
}

impl Call<'_> {
    /// The base model of a training run.
    fn base_model(&self, model_id: &str) -> Result<Arc<dyn Model>, Response> {
        Ok(self.state.lock().run(model_id)?.model.clone())
    }

    /// Gives a task to a run's worker, unless the request was here before. `task` runs under the lock, so that what it
    /// reserves is reserved for what is queued.
    fn submit(
        &self,
        model_id: &str,
        seq: Option<u64>,
        task: impl FnOnce(&mut Tables) -> Result<Task, Response>,
    ) -> Result<Answer, Response> {
        let mut tables = self.state.lock();
        if let Some(first) = tables.run(model_id)?.requests.repeated(seq, self.print)? {
            return respond(&promise(*first, model_id));
        }
        tables.run(model_id)?.queue()?;
        let task = task(&mut tables)?;
        let id = self.state.promises.make();
        let run = tables.run(model_id)?;
        run.requests.record(seq, self.print, id);
        // A worker ends before its queue only when the server stops.
        let _ = run.queue()?.send((id, task));
        respond(&promise(id, model_id))
    }
}

/// A promise about a training run.
fn promise(id: PromiseId, model_id: &str) -> Promise {
    Promise { model_id: Some(model_id.to_owned()), ..Promise::new(id.to_string()) }
}
