//! Panics of a model.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::local::server::state::TaskError;

/// Runs a task; a panic becomes the error of this task alone, and the worker continues.
pub(super) fn catch_panic<T>(task: impl FnOnce() -> Result<T, TaskError>) -> Result<T, TaskError> {
    catch_unwind(AssertUnwindSafe(task)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
        Err(TaskError::server(format!("the model panicked: {}", message.unwrap_or("no message"))))
    })
}
