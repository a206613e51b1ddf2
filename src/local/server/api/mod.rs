//! The endpoints of the service.
//!
//! One table of routes, and one file per group of endpoints. A handler decodes and checks the body, works on the tables
//! under their lock, and responds at once or with a promise.

mod archive_endpoints;
mod audit_endpoints;
mod auth_endpoints;
mod billing_endpoints;
mod body;
mod call;
mod checkpoint_endpoints;
mod decode;
mod future_endpoints;
mod listing_endpoints;
mod model_endpoints;
mod query;
mod routes;
mod sampling_endpoints;
mod search_endpoints;
mod session_endpoints;
mod signed_link;
mod tokens;
mod trace_endpoints;
mod training_endpoints;
mod unsupported;
mod weights_endpoints;

pub(crate) use self::call::{ApiContext, KeyCheck};
pub(crate) use self::routes::{PREFIX, endpoint_names, handle};
pub(crate) use self::signed_link::LinkSigner;
pub(crate) use self::tokens::TokenSigner;
