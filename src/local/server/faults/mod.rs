//! Injected faults: which requests fail, and how.

mod fault;
mod injector;
mod rule_parser;

pub use self::fault::Fault;
pub(crate) use self::injector::FaultInjector;
pub use self::rule_parser::{Faults, ParseFaultsError};
