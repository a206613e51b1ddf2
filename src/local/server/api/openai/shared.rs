//! What requests of OpenAI's API share.

use std::sync::Arc;

use super::models::Models;
use crate::local::server::answer_pool::AnswerPool;
use crate::local::server::origins::AllowedOrigins;
use crate::local::server::time::unix_seconds;

/// The models, the threads that answer, and the pages that may ask.
pub(crate) struct OpenAi {
    pub(super) models: Arc<Models>,
    pub(super) pool: AnswerPool,
    pub(super) origins: AllowedOrigins,
}

impl OpenAi {
    pub(crate) fn new(origins: AllowedOrigins) -> Self {
        OpenAi { models: Arc::new(Models::new(unix_seconds())), pool: AnswerPool::new(), origins }
    }
}
