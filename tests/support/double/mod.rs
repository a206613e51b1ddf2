//! Doubles of the servers of this protocol, small and with state: one server, with a row of traits for each.
//!
//! | file | contents |
//! |---|---|
//! | `server.rs` | the traits, and a row for each server |
//! | `world.rs` | the state: models, saved weights, promises, and what was run |
//! | `training.rs` | passes, steps, saves and loads, by the server's rule for sequence numbers |
//! | `sampling.rs` | sampling sessions and samples |
//! | `polls.rs` | `retrieve_future`, `retrieve_futures`, and the form of results |
//! | `stored.rs` | stored runs and weights, and their files |
//! | `echo.rs` | batches whose outputs tell which datums they are for |
//! | `pass.rs` | passes in both forms, and their results, which echo what was sent |
//!
//! A double keeps everything that was run, so that a test can assert that nothing ran twice.

mod echo;
mod pass;
mod polls;
mod sampling;
mod server;
mod stored;
mod training;
mod world;

use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use serde_json::{Value, json};
use tinkex::ServiceClient;

pub use echo::{assert_echo, batch, create_trainer, datum};
pub use pass::{Form, SeenDatum, SeenPass, form_of, plain_body};
pub use polls::pass_message;
pub use server::{Failure, NotYet, Numbers, Optimizer, Results, Server, WeightsFiles};
pub use world::{Execution, World};

use super::{RecordedRequest, Reply, Service, connect};

/// What goes wrong with a request.
pub enum Fault {
    Nothing,
    /// This reply, and the request is not looked at.
    Instead(Reply),
    /// The request is run, and this is the reply.
    After(Reply),
    /// The request is run, and this is done to its reply.
    Changed(Box<dyn FnOnce(Reply) -> Reply>),
}

pub struct Double {
    pub service: Service,
    shared: Arc<Shared>,
}

struct Shared {
    server: Server,
    world: Mutex<World>,
    /// A sample has completed.
    completed: Condvar,
}

impl Double {
    pub fn start(server: Server) -> Self {
        Double::start_with_faults(server, |_| Fault::Nothing)
    }

    /// A double with which this goes wrong.
    pub fn start_with_faults(
        server: Server,
        fault: impl Fn(&RecordedRequest) -> Fault + Send + Sync + 'static,
    ) -> Self {
        Double::start_with_early_faults(server, |_| None, fault)
    }

    /// The same, where a request may also get a reply to its head, which then is reset.
    pub fn start_with_early_faults(
        server: Server,
        reply_to_head: impl Fn(&RecordedRequest) -> Option<Reply> + Send + Sync + 'static,
        fault: impl Fn(&RecordedRequest) -> Fault + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared { server, world: Mutex::default(), completed: Condvar::new() });
        let replying = Arc::clone(&shared);
        let service = Service::start_current_early(reply_to_head, move |request| match fault(request) {
            Fault::Nothing => replying.reply(request),
            Fault::Instead(reply) => reply,
            Fault::After(reply) => {
                replying.reply(request);
                reply
            }
            Fault::Changed(change) => change(replying.reply(request)),
        });
        Double { service, shared }
    }

    pub fn server(&self) -> &Server {
        &self.shared.server
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world.lock().unwrap()
    }

    pub fn connect(&self) -> ServiceClient {
        connect(self.service.config())
    }

    /// What was run, in order: paths with the model or sampling session and the sequence number.
    pub fn executions(&self) -> Vec<Execution> {
        self.world().executions.clone()
    }

    /// Asserts that no number ran twice, and no datum went through a backward pass twice.
    pub fn assert_nothing_ran_twice(&self) {
        let (world, name) = (self.world(), self.server().name);
        for (index, execution) in world.executions.iter().enumerate() {
            let same = |other: &&Execution| (&other.owner, other.number) == (&execution.owner, execution.number);
            assert!(!world.executions[..index].iter().any(|other| same(&other)), "{name}: {execution:?} ran twice");
        }
        let trained: Vec<_> = world.executions.iter().filter(|run| run.path == "forward_backward").collect();
        for (index, run) in trained.iter().enumerate() {
            for datum in &run.data {
                let again = trained[..index].iter().any(|other| other.owner == run.owner && other.data.contains(datum));
                assert!(!again, "{name}: {datum:?} was trained twice");
            }
        }
    }

    /// Asserts that the requests of each model that were run are numbered from 1 without holes.
    pub fn assert_numbers_have_no_holes(&self) {
        let world = self.world();
        for model in world.models.keys() {
            let mut numbers: Vec<_> =
                world.executions.iter().filter(|run| run.owner == *model).map(|run| run.number).collect();
            numbers.sort_unstable();
            assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{}: {numbers:?}", self.server().name);
        }
    }
}

impl Shared {
    fn reply(&self, request: &RecordedRequest) -> Reply {
        let body = &request.body;
        let path = request.path.split('?').next().unwrap_or_default();
        let has = |present: bool| if present { None } else { Some(not_found()) };
        let answer = |config: &Option<Value>| config.clone().map_or_else(not_found, Reply::ok);
        match path {
            "healthz" => Reply::ok(json!({"status": "ok"})),
            "client/config" => answer(&self.server.client_config),
            "client/dynamic_config" => answer(&self.server.dynamic_config),
            "create_session" => Reply::ok(json!({"session_id": self.world.lock().unwrap().new_session()})),
            "session_heartbeat" => Reply::ok(json!({"type": "session_heartbeat"})),
            "telemetry" => Reply::ok(json!({"status": "accepted"})),
            "get_server_capabilities" => Reply::ok(json!({"supported_models": [{"model_name": "base"}]})),
            "create_sampling_session" => self.create_sampling_session(body),
            "asample" => self.sample(body),
            "retrieve_future" => self.retrieve(request),
            "retrieve_futures" => has(self.server.retrieve_futures).unwrap_or_else(|| self.retrieve_many(body)),
            "cancel_future" => has(self.server.cancel_future).unwrap_or_else(|| Reply::ok(json!({}))),
            "create_model"
            | "get_info"
            | "forward"
            | "forward_backward"
            | "optim_step"
            | "save_weights"
            | "save_weights_for_sampler"
            | "save_weights_external"
            | "load_weights"
            | "unload_model" => self.train(request),
            path if path.starts_with("sessions/") && path.ends_with("/finish") => {
                has(self.server.finish).unwrap_or_else(Reply::no_content)
            }
            path => self.stored(request, path),
        }
    }
}

fn not_found() -> Reply {
    refusal(404, "Not Found")
}

fn refusal(status: u16, detail: &str) -> Reply {
    Reply::Json(status, json!({"detail": detail}))
}
