//! OpenAI's API in front of a Tinker service.
//!
//! | thread | number | job |
//! |---|---|---|
//! | `tinkex-proxy` | one | the event loop, as in the local server |
//! | `tinkex-asked` | one | reads requests, and hands them to those that answer |
//! | `tinkex-openai` | one per request, at most 64 | sample from the service, and send the answer |

mod builder;
mod served_model;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::{fmt, io, mem};

use crossbeam_channel::{Receiver, unbounded};
use mio::{Poll, Waker};

pub use self::builder::OpenAiProxyBuilder;
use self::builder::Settings;
use self::served_model::ServedModel;
use super::openai::{self, ApiError, Endpoint, Exchange, ModelEntry, Request as AnswerRequest};
use super::server::activity::ActivityTracker;
use super::server::answer_pool::AnswerPool;
use super::server::http1::{Request, Response, decode_content};
use super::server::net::{EventLoop, IncomingRequest, Mailbox, Message, Responder, WAKER, bind_and_listen};
use super::server::path_segment;
use super::server::spawn;
use super::server::time::unix_seconds;
use crate::process::Process;

/// OpenAI's API in front of a Tinker service, so that programs that know only that API can use a base model or a checkpoint.
/// [`openai`] says what it takes. Dropping it stops it, and gives up the samples under way.
///
/// The service gives whole samples: a stream has all of an answer's text in one event, once the service has sampled it.
///
/// It serves plain HTTP and by default accepts any API key, while the requests to the service have the key of the
/// [`SamplingClient`](crate::SamplingClient): do not expose it to an untrusted network.
///
/// ```
/// use tinkex::chat::{ChatTemplate, Renderer};
/// use tinkex::local::{LocalServer, OpenAiProxy};
/// use tinkex::{Config, ServiceClient, Tokenizer};
///
/// # fn main() -> tinkex::Result<()> {
/// let server = LocalServer::start()?;
/// let config = Config::builder().base_url(server.base_url()).api_key("tml-local").build()?;
/// let service = ServiceClient::connect(config)?;
/// let sampler = service.create_sampling_client("tinkex/bytes-tiny")?;
/// let renderer = Renderer::new(ChatTemplate::builtin("plain")?, Tokenizer::bytes())?;
///
/// let proxy = OpenAiProxy::builder().model("bytes", sampler, renderer).start()?;
/// println!("export OPENAI_BASE_URL={} OPENAI_API_KEY=any", proxy.base_url());
/// # Ok(())
/// # }
/// ```
pub struct OpenAiProxy {
    address: SocketAddr,
    mailbox: Arc<Mailbox>,
    threads: Vec<JoinHandle<()>>,
    process: Process,
}

impl OpenAiProxy {
    /// Configures a proxy.
    pub fn builder() -> OpenAiProxyBuilder {
        OpenAiProxyBuilder::default()
    }

    /// The value for `OPENAI_BASE_URL`, such as `http://127.0.0.1:40123/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The port that the proxy listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    fn start(address: SocketAddr, settings: Settings) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mailbox = Arc::new(Mailbox::new(Waker::new(poll.registry(), WAKER)?));
        let listener = bind_and_listen(address)?;
        let address = listener.local_addr()?;
        let (requests, request_queue) = unbounded();
        let (limits, connections) = (settings.limits.clone(), settings.max_connections);
        let activity = Arc::new(ActivityTracker::new(0));
        // If a thread fails to start below, dropping `proxy` stops those that did start: the event loop, which has the other end
        // of the queue, must drop first.
        let mut proxy = OpenAiProxy { address, mailbox, threads: Vec::new(), process: Process::current() };
        let mailbox = Arc::clone(&proxy.mailbox);
        let event_loop = EventLoop::new(poll, listener, connections, limits, mailbox, requests, activity)?;
        let handler = Handler { started: unix_seconds(), pool: AnswerPool::new(), settings };
        proxy.threads.push(spawn("tinkex-asked", move || handler.run(&request_queue))?);
        proxy.threads.push(spawn("tinkex-proxy", move || event_loop.run())?);
        Ok(proxy)
    }

    /// Stops the proxy, like dropping it.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for OpenAiProxy {
    fn drop(&mut self) {
        let threads = mem::take(&mut self.threads);
        if !self.process.is_current() {
            // They are those of the other process.
            mem::forget(threads);
            return;
        }
        self.mailbox.send(Message::Stop);
        for thread in threads {
            if thread.join().is_err() {
                log::error!("a thread of the proxy panicked");
            }
        }
    }
}

impl fmt::Debug for OpenAiProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAiProxy").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Reads requests, on one thread.
struct Handler {
    started: u64,
    settings: Settings,
    pool: AnswerPool,
}

impl Handler {
    /// Handles requests until the event loop ends.
    fn run(&self, requests: &Receiver<IncomingRequest>) {
        for IncomingRequest { mut request, responder } in requests {
            let Some(responder) = self.settings.origins.admit(&request, &responder) else { continue };
            let decoded = decode_content(&mut request, self.settings.limits.max_body);
            let decoded = decoded.map_err(|refusal| ApiError::new(refusal.status, refusal.detail()));
            match decoded.and_then(|()| self.handle(&request, &responder)) {
                Ok(Some(body)) => responder.respond(Response::new(200, body)),
                Ok(None) => {}
                Err(error) => responder.respond(Response::new(error.status, error.body())),
            }
        }
    }

    /// The body of the response; `None` if it comes later.
    fn handle(&self, request: &Request, responder: &Responder) -> Result<Option<Vec<u8>>, ApiError> {
        let key = request.header("authorization").and_then(openai::bearer_key).unwrap_or_default();
        if !(self.settings.key_check)(key) {
            return Err(ApiError::new(401, "unknown API key: use one that this proxy accepts"));
        }
        let asked = match Endpoint::of(&request.method, &request.path)? {
            Endpoint::Models => {
                let entries: Vec<_> = self.settings.models.iter().map(|model| self.entry(model)).collect();
                return Ok(Some(openai::list(&entries)));
            }
            Endpoint::Model(name) => {
                let name = path_segment::decode(&name).unwrap_or(name);
                return Ok(Some(self.entry(self.model(&name)?).to_json().to_string().into_bytes()));
            }
            Endpoint::Chat => AnswerRequest::chat(&request.body)?,
            Endpoint::Completion => AnswerRequest::completion(&request.body)?,
        };
        let model = Arc::clone(self.model(&asked.model)?);
        let answer = move |exchange: &Arc<dyn Exchange>| openai::answer(&*model, &asked, exchange, unix_seconds());
        self.pool.submit(responder, answer).map(|()| None)
    }

    fn model(&self, name: &str) -> Result<&Arc<ServedModel>, ApiError> {
        self.settings.models.iter().find(|model| model.name == name).ok_or_else(|| {
            let names: Vec<_> = self.settings.models.iter().map(|model| model.name.as_str()).collect();
            ApiError::model_not_found(format!("there is no model {name:?}: this proxy has {}", names.join(", ")))
        })
    }

    fn entry(&self, model: &ServedModel) -> ModelEntry {
        ModelEntry { name: model.name.clone(), created: self.started, base_model: None, context_length: None }
    }
}
