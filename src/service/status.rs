//! What the service says about itself.

use serde::de::DeserializeOwned;

use super::ServiceClient;
use crate::error::Result;
use crate::http::{Limits, Purpose, Request};
use crate::types::{GetServerCapabilitiesResponse, HealthResponse};

impl ServiceClient {
    /// The models that the service offers. Blocks for one request.
    ///
    /// # Errors
    ///
    /// Any error of the request.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(service: tinkex::ServiceClient) -> tinkex::Result<()> {
    /// for model in service.get_server_capabilities()?.supported_models {
    ///     println!("{:?}, {:?} tokens", model.model_name, model.max_context_length);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_server_capabilities(&self) -> Result<GetServerCapabilitiesResponse> {
        self.get("get_server_capabilities", "get_server_capabilities")
    }

    /// Checks the service's health endpoint. Blocks for one request.
    ///
    /// # Errors
    ///
    /// Any error of the request.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(service: tinkex::ServiceClient) -> tinkex::Result<()> {
    /// println!("{}", service.health()?.status);
    /// # Ok(())
    /// # }
    /// ```
    pub fn health(&self) -> Result<HealthResponse> {
        self.get("health", "healthz")
    }

    fn get<T: DeserializeOwned>(&self, operation: &'static str, path: &'static str) -> Result<T> {
        let http = self.session.http();
        let limits = Limits { deadline: self.blocking().deadline(), ..http.limits(operation, Purpose::Session) };
        http.send(&Request::get(path), &limits)?.json(operation)
    }
}
