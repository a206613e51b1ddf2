//! What to copy, and to where.

use std::fmt;
use std::time::Duration;

use ureq::http::{HeaderName, HeaderValue};

use crate::config::Secret;
use crate::error::{Error, Result};
use crate::rules::single_line;
use crate::rules::ttl::ttl_seconds;
use crate::types::check_path;
use crate::types::wire::CopyWeightsRequest;

/// Gives access to another user's weights.
const ACCESS_TOKEN: HeaderName = HeaderName::from_static("x-tinker-weights-access-token");

/// A header whose value is never logged.
type SecretHeader = (HeaderName, Option<HeaderValue>);

/// Which checkpoint to copy, and to where. [`RestClient::copy_weights`](crate::RestClient::copy_weights) has an example.
#[derive(Clone)]
#[must_use]
#[non_exhaustive]
pub struct CopyWeights {
    source_path: String,
    destination_project_id: Option<String>,
    ttl: Option<Duration>,
    weights_access_token: Option<Secret>,
}

impl CopyWeights {
    /// Copies the checkpoint with this path, of any form that the service gave.
    pub fn new(source_path: impl Into<String>) -> Self {
        CopyWeights {
            source_path: source_path.into(),
            destination_project_id: None,
            ttl: None,
            weights_access_token: None,
        }
    }

    /// The project to copy to. Defaults to the configuration's.
    pub fn destination_project_id(mut self, project_id: impl Into<String>) -> Self {
        self.destination_project_id = Some(project_id.into());
        self
    }

    /// How long the copy is kept, in whole seconds, from 1 hour to 10 years. By default it does not expire.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// A token that gives access to another user's weights. It is never logged. Defaults to none.
    pub fn weights_access_token(mut self, token: impl Into<String>) -> Self {
        self.weights_access_token = Some(Secret::new(token));
        self
    }

    /// The body of the request, and the headers that hold secrets.
    pub(super) fn request<'a>(
        &'a self,
        configured_project: Option<&'a str>,
    ) -> Result<(CopyWeightsRequest<'a>, Vec<SecretHeader>)> {
        check_path(&self.source_path)?;
        let project = self.destination_project_id.as_deref().or(configured_project).unwrap_or_default();
        if project.is_empty() {
            return Err(Error::invalid_input("the copy has no project to go to")
                .with_hint("set destination_project_id, or the project of the configuration"));
        }
        single_line::check("the id of the project", project)?;
        let token = self.weights_access_token.as_ref().map(|token| {
            HeaderValue::from_str(token.expose())
                .map_err(|_| Error::invalid_input("the weights access token has characters that HTTP does not allow"))
        });
        let body = CopyWeightsRequest {
            destination_project_id: project.into(),
            source_path: (&*self.source_path).into(),
            ttl_seconds: self.ttl.map(ttl_seconds).transpose()?,
        };
        Ok((body, token.transpose()?.map(|token| (ACCESS_TOKEN, Some(token))).into_iter().collect()))
    }
}

impl fmt::Debug for CopyWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyWeights")
            .field("source_path", &self.source_path)
            .field("destination_project_id", &self.destination_project_id)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}
