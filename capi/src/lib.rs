//! The C interface of tinkex. `include/tinkex.h` documents it; each function there is a function of the same name here.
//!
//! All unsafe code of the repository is in this package. [`border`] is what every function goes through: it checks pointers, and
//! turns errors and panics into a status. The other modules have one kind of handle each.

#![allow(clippy::missing_safety_doc, reason = "the header documents what each function requires")]

mod batch;
mod border;
mod config;
mod custom_loss;
mod error;
mod json;
mod logging;
mod outcome;
mod pending;
mod sampler;
mod service;
mod tokenizer;
mod trainer;
mod version;

#[cfg(test)]
mod tests;
