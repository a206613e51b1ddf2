//! Models: passes, steps, saves and loads, each with a sequence number.

use serde_json::{Value, json};

use super::pass::{Form, SeenPass, form_of};
use super::server::{Numbers, Optimizer};
use super::world::{Execution, Model, Outcome, ResultKind, Weights, World, promise_body};
use super::{Shared, not_found, refusal};
use crate::support::{RecordedRequest, Reply};

/// What a request asks for, once it has passed the checks that refuse it at once.
enum Work {
    Pass(SeenPass),
    Step,
    Save {
        path: String,
    },
    /// Saves without a name, for a sampling session with this id.
    Session(String),
    Load {
        weights: Option<Weights>,
        optimizer: bool,
    },
    Unload,
}

impl Shared {
    pub(super) fn train(&self, request: &RecordedRequest) -> Reply {
        let body = &request.body;
        let mut world = self.world.lock().unwrap();
        match request.path.as_str() {
            "create_model" => return self.create_model(&mut world, body),
            "get_info" => return info(&world, body),
            "forward" if !self.server.forward => return not_found(),
            _ => {}
        }
        let is_pass = matches!(request.path.as_str(), "forward" | "forward_backward");
        if is_pass {
            match (form_of(request), self.server.refuses_protobuf) {
                (Form::Json, _) if !self.server.json_passes => {
                    return refusal(
                        415,
                        "forward_backward requires a application/x-protobuf body (tinker SDK >= 0.25.0)",
                    );
                }
                (Form::Protobuf, Some(status)) => return refusal(status, "Internal Server Error"),
                _ => {}
            }
        }
        let (model_id, number, work) = if is_pass {
            match SeenPass::read(request) {
                Ok(pass) => (pass.model_id.clone(), pass.seq_id, Work::Pass(pass)),
                Err(error) => return refusal(422, &error),
            }
        } else {
            let model_id = body["model_id"].as_str().unwrap_or_default().to_owned();
            let Some(number) = request.seq_id().or_else(|| (request.path == "unload_model").then_some(0)) else {
                return refusal(422, "seq_id: Field required");
            };
            match self.work(&world, &request.path, &model_id, body) {
                Ok(work) => (model_id, number, work),
                Err(reply) => return reply,
            }
        };
        self.submit(&mut world, path_name(&request.path), &model_id, number, work)
    }

    fn work(&self, world: &World, path: &str, model_id: &str, body: &Value) -> Result<Work, Reply> {
        let name = body["path"].as_str();
        Ok(match (path, name) {
            ("optim_step", _) => Work::Step,
            ("save_weights", Some(name)) => Work::Save { path: format!("tinker://{model_id}/weights/{name}") },
            ("save_weights_for_sampler", Some(name)) if self.server.short_sampler_paths => {
                Work::Save { path: format!("tinker://{model_id}/{name}") }
            }
            ("save_weights_for_sampler", Some(name)) => {
                Work::Save { path: format!("tinker://{model_id}/sampler_weights/{name}") }
            }
            ("save_weights_for_sampler", None) => {
                let session = model_id.split(':').next().unwrap_or_default();
                Work::Session(format!("{session}:sample:{}", body["sampling_session_seq_id"]))
            }
            ("save_weights_external", Some(name)) if self.server.finish => {
                Work::Save { path: format!("tinker://{model_id}/external_weights/{name}") }
            }
            ("load_weights", Some(name)) => {
                let optimizer = match (body["optimizer"].as_bool(), self.server.optimizer) {
                    (Some(optimizer), _) | (None, Optimizer::DefaultsTo(optimizer)) => optimizer,
                    (None, Optimizer::RequiresKey) => return Err(refusal(422, "optimizer: Field required")),
                };
                Work::Load { weights: world.saved.get(name).cloned(), optimizer }
            }
            ("unload_model", _) => Work::Unload,
            (_, None) => return Err(refusal(422, "path: Field required")),
            _ => return Err(not_found()),
        })
    }

    fn create_model(&self, world: &mut World, body: &Value) -> Reply {
        let (session, number) = (body["session_id"].as_str().unwrap_or_default(), &body["model_seq_id"]);
        let model_id = format!("{session}:train:{number}");
        let base_model = body["base_model"].as_str().unwrap_or_default().to_owned();
        let rank = body["lora_config"]["rank"].as_u64().unwrap_or(32);
        let ok = |id| Reply::ok(promise_body(id, self.server.number_ids));
        if let Some(model) = world.models.get(&model_id) {
            return ok(model.created);
        }
        let created = world.promise(Outcome::Done(json!({"model_id": model_id})), ResultKind::Other);
        let weights = Weights { model_id: model_id.clone(), base_model, rank, ..Weights::default() };
        world.models.insert(model_id, Model { weights, created, ..Model::default() });
        ok(created)
    }

    /// Gives the promise of a request, and runs it when its turn has come.
    fn submit(&self, world: &mut World, path: &'static str, model_id: &str, number: u64, work: Work) -> Reply {
        let Some(model) = world.models.get(model_id) else { return refusal(404, "no such model") };
        let ok = |id| Reply::ok(promise_body(id, self.server.number_ids));
        if path == "unload_model" {
            world.models.remove(model_id);
            let id = world.promise(Outcome::Done(json!({"model_id": model_id})), ResultKind::Other);
            return ok(id);
        }
        let (next, known) = (model.last + 1, model.promised.get(&number).copied());
        match (self.server.numbers, known) {
            (Numbers::Contiguous, _) if number != next => {
                return refusal(409, &format!("Sequence conflict: expected {next}, got {number}"));
            }
            (_, Some(id)) => return ok(id),
            _ => {}
        }
        let kind = if matches!(work, Work::Pass(_)) { ResultKind::Pass } else { ResultKind::Other };
        let in_turn = self.server.numbers != Numbers::InOrder || number == next;
        // A client that waits for each promise never leaves a number out; one that does waits for ever, as at the service.
        let outcome = if in_turn { self.run(world, path, model_id, number, work) } else { Outcome::Waiting };
        let id = world.promise(outcome, kind);
        if path == "optim_step" && number == 2 {
            world.promised(id).unwrap().not_yet = 1;
        }
        if let Some(model) = world.models.get_mut(model_id) {
            model.promised.insert(number, id);
            model.last = if in_turn { model.last.max(number) } else { model.last };
        }
        ok(id)
    }

    fn run(&self, world: &mut World, path: &'static str, model_id: &str, number: u64, work: Work) -> Outcome {
        let (form, data) = match &work {
            Work::Pass(pass) => (pass.form, pass.data.clone()),
            _ => (Form::Json, Vec::new()),
        };
        let path = if matches!(&work, Work::Pass(pass) if pass.forward_only) { "forward" } else { path };
        world.executions.push(Execution { path, owner: model_id.to_owned(), number, form, data });
        let model = world.models.get_mut(model_id).unwrap();
        Outcome::Done(match work {
            Work::Pass(pass) if pass.loss_fn == "dro" => return Outcome::Failed("this loss always fails".to_owned()),
            Work::Pass(pass) => {
                model.trained |= !pass.forward_only;
                pass.result()
            }
            Work::Step => {
                model.weights.steps += 1;
                model.weights.optimizer_steps += 1;
                json!({"metrics": {"steps": model.weights.steps}})
            }
            Work::Save { path } => {
                let weights = model.weights.clone();
                world.saved.insert(path.clone(), weights);
                json!({"path": path})
            }
            Work::Session(id) => {
                let weights = model.weights.clone();
                world.samplers.insert(id.clone(), weights);
                json!({"path": null, "sampling_session_id": id})
            }
            Work::Load { .. } if model.trained && !self.server.loads_into_trained => {
                return Outcome::Failed("the model has been trained".to_owned());
            }
            Work::Load { weights: None, .. } => return Outcome::Failed("no such weights".to_owned()),
            Work::Load { weights: Some(weights), optimizer } => {
                model.weights.steps = weights.steps;
                model.weights.optimizer_steps = if optimizer { weights.optimizer_steps } else { 0 };
                json!({"path": null})
            }
            Work::Unload => json!({"model_id": model_id}),
        })
    }
}

fn info(world: &World, body: &Value) -> Reply {
    let id = body["model_id"].as_str().unwrap_or_default();
    let Some(model) = world.models.get(id) else { return refusal(404, "no such model") };
    let data = json!({"model_name": model.weights.base_model, "tokenizer_id": "none"});
    Reply::ok(json!({"model_id": id, "model_data": data, "is_lora": true, "lora_rank": model.weights.rank}))
}

fn path_name(path: &str) -> &'static str {
    let all = ["forward", "forward_backward", "optim_step", "save_weights", "save_weights_for_sampler"];
    let rest = ["save_weights_external", "load_weights", "unload_model"];
    all.into_iter().chain(rest).find(|name| *name == path).expect("a path of `reply`")
}
