//! What lies below a request: agents, connections, name resolution, and the secrets in the bytes that leave.

mod agent;
mod connector;
mod current;
mod early_response;
mod redact;
mod resolver;

pub(super) use agent::Agents;
pub(super) use current::CurrentRequest;
pub(super) use redact::{SecretLines, mask, mask_in};
