//! The protobuf form of passes over a batch, and of the results of passes and samples. **Outside semantic versioning.**
//!
//! The messages are generated from `tinker_public.proto`, for the crate [`prost`]. Their fields of type `bytes` share the
//! memory of the body that they are decoded from. A client writes a request with [`pass_request()`]; a server decodes it and
//! converts it into a [`PassRequest`]. A server converts a result into its message and encodes it; a client does the reverse.
//!
//! ```
//! use tinkex::types::wire::protobuf::{self, prost::Message};
//! use tinkex::types::ForwardBackwardOutput;
//!
//! let message = protobuf::ForwardBackwardRequest { model_id: "m-1".into(), seq_id: 1, ..Default::default() };
//! let body = message.encode_to_vec();
//! assert_eq!(protobuf::ForwardBackwardRequest::decode(&*body)?, message);
//!
//! let result: ForwardBackwardOutput =
//!     serde_json::from_str(r#"{"loss_fn_outputs":[{"logprobs":{"data":[-0.5],"dtype":"float32","shape":[1]}}],"metrics":{}}"#)?;
//! let message = protobuf::ForwardBackwardOutput::from(&result);
//! assert_eq!(message.loss_fn_outputs[0].num_datums, 1);
//! assert_eq!(ForwardBackwardOutput::try_from(message)?.loss_fn_outputs, result.loss_fn_outputs);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[allow(clippy::doc_markdown, clippy::enum_variant_names, reason = "generated")]
mod messages;
mod packed;
mod pass_reader;
mod pass_request;
mod pass_result;
mod sample_result;
mod tensors;
mod writer;

pub use messages::*;
#[cfg(feature = "local")]
pub(crate) use packed::{check_request, size_of_dtype};
pub use pass_reader::PassRequest;
pub use pass_request::pass_request;
pub(crate) use pass_request::{check_data, write_pass_request};
pub use prost;

/// The content type of these messages.
pub const CONTENT_TYPE: &str = "application/x-protobuf";
