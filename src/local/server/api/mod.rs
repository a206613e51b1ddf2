//! The endpoints of the service.
//!
//! A request is routed to a handler in [`endpoints`], which decodes and checks the body, works on the tables under their lock,
//! and responds at once or with a promise.

mod authentication;
mod body;
mod call;
mod decode;
mod endpoints;
mod hub;
#[cfg(feature = "pretrained")]
mod openai;
mod query;
mod routes;
mod signed_link;
mod tokens;
mod unsupported;

pub(crate) use self::call::{ApiContext, KeyCheck};
#[cfg(feature = "pretrained")]
pub(crate) use self::openai::shared::OpenAi;
pub(crate) use self::routes::{PREFIX, endpoint_names, handle};
pub(crate) use self::signed_link::LinkSigner;
pub(crate) use self::tokens::TokenSigner;
