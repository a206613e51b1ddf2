//! What requests of OpenAI's API share.

use std::sync::Arc;

use super::models::Models;
use crate::local::server::answer_pool::AnswerPool;
use crate::local::server::time::unix_seconds;

/// The models, and the threads that answer.
pub(crate) struct OpenAi {
    pub(super) models: Arc<Models>,
    pub(super) pool: AnswerPool,
}

impl OpenAi {
    pub(crate) fn new() -> Self {
        OpenAi { models: Arc::new(Models::new(unix_seconds())), pool: AnswerPool::new() }
    }
}
