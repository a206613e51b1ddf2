//! Whom the service takes the client for.

use super::client::RestClient;
use crate::error::{Error, ErrorKind, Result};
use crate::types::Whoami;

impl RestClient {
    /// The user and the organization, from the token (JWT) that the service gives the client in exchange for its key, or that is
    /// used in place of one. Blocks until there is a token; that takes no request if the client has one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if the service gives no tokens: nothing else says who a key belongs to.
    /// Otherwise as for every method.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// println!("{:?}", rest.whoami()?.email);
    /// # Ok(())
    /// # }
    /// ```
    pub fn whoami(&self) -> Result<Whoami> {
        let limits = self.limits("whoami");
        let Some(claims) = self.http().token_claims(&limits)? else {
            return Err(Error::new(ErrorKind::Config, "the service gives no token that says who the key belongs to")
                .with_operation(limits.operation)
                .with_hint("ask the service's operators whose key it is"));
        };
        let org_urn = claims.organization.map(|organization| format!("tml:organization:{organization}"));
        Ok(Whoami { user_urn: claims.subject, org_urn, email: claims.email })
    }
}
