//! Turns passes over a batch into requests of limited size, and combines their results.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use log::warn;
use parking_lot::Mutex;

use super::TrainingClient;
use super::combine::combine;
use super::compression::compressed;
use super::queue::{Message, Requests};
use crate::error::{Error, Result};
use crate::http::{Http, write_json};
use crate::pending::{CallMode, Pending, Received, SubmittedCall};
use crate::rules::chunking::ChunkLimits;
use crate::rules::pass_result::{PassTargets, have_values};
pub(super) use crate::rules::wire_format::Pass;
use crate::rules::wire_format::{Choice, WireFormat};
use crate::types::wire::{ClientConfig, ForwardBackwardInput, ForwardBackwardRequest, ForwardRequest, protobuf};
use crate::types::{Batch, Datum, ForwardBackwardOutput, Loss, RequestKind};

impl TrainingClient {
    /// Queues a pass over a batch, in chunks that are small enough for one request.
    pub(super) fn queue_pass(
        &self,
        operation: &'static str,
        pass: Pass,
        batch: &Batch,
        loss: Loss,
        mode: CallMode,
    ) -> Result<SubmittedPass> {
        if batch.is_empty() {
            return Err(Error::invalid_input("the batch is empty")
                .with_operation(operation)
                .with_hint("pass at least one datum"));
        }
        batch
            .validate_for(&loss.function)
            .and_then(|()| loss.validate())
            .map_err(|error| error.with_operation(operation))?;
        let (batch, model_id) = (batch.clone(), Arc::clone(&self.core.model_id));
        let bytes = batch.iter().map(Datum::heap_bytes).sum();
        let kind = match pass {
            Pass::Forward => RequestKind::Forward,
            Pass::ForwardBackward => RequestKind::ForwardBackward,
        };
        let (targets, chunks) = (PassTargets::of(&batch, &loss), Chunks::default());
        let accepted = Arc::clone(&chunks);
        let requests =
            PassRequests { pass, batch, loss, model_id, accepted: 0, chunk: 0, fits_protobuf: false, chunks };
        let call = self.queue(operation, kind, Box::new(requests), bytes, mode)?;
        Ok(SubmittedPass { call, targets, chunks: accepted, seen: Arc::clone(&self.core.seen) })
    }
}

/// About as many bytes as a number and its comma take in JSON: a token has six digits at most, a float up to twelve characters.
const JSON_BYTES: usize = 10;

/// The datums of each request that the service has accepted.
type Chunks = Arc<Mutex<Vec<Range<usize>>>>;

/// What the results of a client's passes had.
#[derive(Default)]
pub(super) struct SeenOutputs {
    /// Some result had outputs for datums. A loss that was created on the server does not count: what it returns is its own affair.
    any: AtomicBool,
    /// The log says that a result had none.
    is_lack_logged: AtomicBool,
}

/// A pass that was queued, and what its results must have.
pub(super) struct SubmittedPass {
    call: SubmittedCall<ForwardBackwardOutput>,
    targets: PassTargets,
    chunks: Chunks,
    seen: Arc<SeenOutputs>,
}

impl SubmittedPass {
    /// Makes an output without log-probabilities an error.
    #[cfg(feature = "ndarray")]
    pub(super) fn requiring_logprobs(mut self) -> Self {
        self.targets.are_required = true;
        self
    }

    pub(super) fn pending(self) -> Pending<ForwardBackwardOutput> {
        self.pending_then(Ok)
    }

    /// A pending result, made by `then` of that of the batch.
    pub(super) fn pending_then<T>(
        self,
        then: impl FnOnce(ForwardBackwardOutput) -> Result<T> + Send + 'static,
    ) -> Pending<T> {
        let SubmittedPass { call, mut targets, chunks, seen } = self;
        call.pending(move |results| {
            let chunks = std::mem::take(&mut *chunks.lock());
            if targets.is_known && seen.any.load(Ordering::Acquire) {
                targets.expect_outputs();
            }
            let check = |(received, datums): (Received<ForwardBackwardOutput>, Range<usize>)| {
                let count = datums.len();
                received.check(|output| targets.check(datums, output)).map(|output| (output, count))
            };
            let output = combine(results.into_iter().zip(chunks).map(check).collect::<Result<_>>()?);
            if output.loss_fn_outputs.is_empty() && !seen.is_lack_logged.swap(true, Ordering::AcqRel) {
                warn!("the service gives no outputs for datums: loss_fn_outputs is empty");
            }
            if targets.is_known && have_values(&output.loss_fn_outputs) {
                seen.any.store(true, Ordering::Release);
            }
            then(output)
        })
    }
}

/// The requests of a pass over a batch. How many there are depends on the format, which may be known only once the service has
/// refused one.
struct PassRequests {
    pass: Pass,
    batch: Batch,
    loss: Loss,
    model_id: Arc<str>,
    /// How many datums the service has accepted.
    accepted: usize,
    /// How many datums the last written request has, after those.
    chunk: usize,
    /// The datums after those that were accepted have a form in protobuf.
    fits_protobuf: bool,
    chunks: Chunks,
}

impl Requests for PassRequests {
    fn pass(&self) -> Option<Pass> {
        Some(self.pass)
    }

    fn write(&mut self, http: &Http, choice: Choice, seq_id: u64, buffer: &mut Vec<u8>) -> Result<Message> {
        let rest = &self.batch[self.accepted..];
        let path = self.pass.path(choice.format);
        self.chunk = chunk(rest, choice, &http.client_config());
        match choice.format {
            WireFormat::Json => {
                let input = ForwardBackwardInput::new(&rest[..self.chunk], &self.loss);
                let (model_id, seq_id) = ((&*self.model_id).into(), Some(seq_id));
                let mut body = std::mem::take(buffer);
                body.clear();
                body.reserve(rest[..self.chunk].iter().map(Datum::size).sum::<usize>() * JSON_BYTES);
                match self.pass {
                    Pass::Forward => {
                        write_json(path, &ForwardRequest { forward_input: input, model_id, seq_id }, &mut body)?;
                    }
                    Pass::ForwardBackward => {
                        let request = ForwardBackwardRequest { forward_backward_input: input, model_id, seq_id };
                        write_json(path, &request, &mut body)?;
                    }
                }
                Ok(Message::json(path, body))
            }
            WireFormat::Protobuf => {
                if !self.fits_protobuf {
                    // Before any part of the batch is sent in it.
                    protobuf::check_data(rest)?;
                    self.fits_protobuf = true;
                }
                let (chunk, forward_only) = (&rest[..self.chunk], self.pass == Pass::Forward);
                let (buffer, model_id) = (std::mem::take(buffer), &self.model_id);
                let body = protobuf::write_pass_request(buffer, chunk, &self.loss, model_id, seq_id, forward_only)?;
                let (body, content_encoding) = match http.client_config().proto_compress_fwdbwd {
                    true => compressed(body)?,
                    false => (body, None),
                };
                Ok(Message { path, content_type: protobuf::CONTENT_TYPE, content_encoding, body })
            }
        }
    }

    fn advance(&mut self) -> bool {
        let first = self.accepted;
        self.accepted += self.chunk;
        self.chunks.lock().push(first..self.accepted);
        self.accepted < self.batch.len()
    }
}

/// How many datums go into the next request.
fn chunk(rest: &[Datum], choice: Choice, config: &ClientConfig) -> usize {
    let json = || ChunkLimits::JSON.first_chunk(rest.iter().map(Datum::size));
    let limits = ChunkLimits { datums: config.fwdbwd_max_chunk_len, size: config.fwdbwd_max_chunk_bytes_count };
    let protobuf = || limits.first_chunk(rest.iter().map(Datum::heap_bytes));
    match choice.format {
        _ if choice.fits_both => json().min(protobuf()),
        WireFormat::Json => json(),
        WireFormat::Protobuf => protobuf(),
    }
}
