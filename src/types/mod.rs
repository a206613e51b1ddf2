//! The wire types: what travels between this crate and a Tinker server.

mod category;

pub use category::RequestErrorCategory;
