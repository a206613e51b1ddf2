//! Threads that answer requests of OpenAI's API, and the connections that they answer to.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::http1::Response;
use super::net::{Responder, StreamResponder};
use crate::clock::Clock;
use crate::local::openai::{ApiError, Exchange};
use crate::threads::{Pool, ThreadOptions};

/// A request has a thread while it is answered; models sample all of them together.
const MAX_THREADS: usize = 64;
/// More requests than this do not wait: their memory would grow without end.
const MAX_REQUESTS: usize = 1000;

/// Answers requests on threads that are started when they are needed.
pub(in crate::local) struct AnswerPool {
    pool: Pool<Job>,
    requests: Arc<AtomicUsize>,
}

type Work = Box<dyn FnOnce(&Arc<dyn Exchange>) + Send>;

/// A request and the work that answers it. Dropped without an answer, it says so to the client.
struct Job {
    work: Option<Work>,
    is_done: bool,
    exchange: Arc<dyn Exchange>,
    requests: Arc<AtomicUsize>,
}

impl AnswerPool {
    pub(in crate::local) fn new() -> Self {
        let options =
            ThreadOptions { clock: Clock::system(), stack_size: 2 << 20, idle_retention: Duration::from_secs(15) };
        let run = |mut job: Job| {
            if let Some(work) = job.work.take() {
                work(&job.exchange);
            }
            job.is_done = true;
        };
        AnswerPool { pool: Pool::new(&options, "openai", MAX_THREADS, run), requests: Arc::default() }
    }

    /// Answers a request; 429 if too many wait, 503 if the server is stopping.
    pub(in crate::local) fn submit(
        &self,
        responder: &Responder,
        work: impl FnOnce(&Arc<dyn Exchange>) + Send + 'static,
    ) -> Result<(), ApiError> {
        let waiting = self.requests.fetch_add(1, Ordering::Relaxed);
        let exchange = Arc::new(HttpExchange { responder: responder.clone(), stream: OnceLock::new() });
        let mut job =
            Job { work: Some(Box::new(work)), is_done: false, exchange, requests: Arc::clone(&self.requests) };
        if waiting >= MAX_REQUESTS {
            job.is_done = true;
            return Err(ApiError::new(429, format!("{waiting} requests are waiting, the maximum: try again later")));
        }
        self.pool.submit(job).map_err(|(mut refused, error)| {
            refused.is_done = true;
            ApiError::from(&error)
        })
    }
}

impl Drop for AnswerPool {
    fn drop(&mut self) {
        self.pool.close();
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
        if !self.is_done {
            let error = match self.work {
                Some(_) => ApiError::new(503, "the server is stopping"),
                None => ApiError::new(500, "internal server error"),
            };
            self.exchange.respond(error.status, error.body());
        }
    }
}

/// The connection of a request.
struct HttpExchange {
    responder: Responder,
    /// Present once a stream has begun.
    stream: OnceLock<StreamResponder>,
}

impl Exchange for HttpExchange {
    fn respond(&self, status: u16, body: Vec<u8>) {
        self.responder.respond(Response::new(status, body));
    }

    fn send_event(&self, event: Vec<u8>) {
        let begin = || {
            let head = Response::new(200, "").header("content-type", "text/event-stream; charset=utf-8");
            self.responder.begin(head.header("cache-control", "no-cache"))
        };
        self.stream.get_or_init(begin).send(event);
    }

    fn end(&self) {
        if let Some(stream) = self.stream.get() {
            stream.end();
        }
    }

    fn has_room(&self) -> bool {
        self.stream.get().is_none_or(StreamResponder::has_room)
    }

    fn when_unwanted(&self, hook: Box<dyn FnOnce() + Send>) {
        self.responder.when_unwanted(hook);
    }
}
