//! What lies below a request: agents, connections, name resolution, and the secrets in the bytes that leave.

mod agent;
mod apart;
mod connect_error;
mod connections;
mod connector;
mod current;
mod early_response;
mod pooling;
mod redact;
mod resolver;
#[cfg(feature = "rustls")]
mod rustls_connector;
mod security;
mod veil;

pub(super) use agent::{Agents, proxy_for};
pub(super) use connect_error::ConnectError;
pub(crate) use connections::Tending;
pub(super) use current::CurrentRequest;
pub(crate) use redact::Hidden;
pub(super) use redact::{SecretLines, mask, without_query};
pub(super) use veil::Body;
