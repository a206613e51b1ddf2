//! Who the client is to the service.

use serde::{Deserialize, Serialize};

/// Whom the service takes the client for: [`RestClient::whoami`](crate::RestClient::whoami).
///
/// ```
/// use tinkex::types::Whoami;
///
/// let whoami: Whoami = serde_json::from_str(r#"{"user_urn":"tml:organization_user:u-1","email":"me@example.com"}"#)?;
/// assert_eq!((whoami.email.as_deref(), whoami.org_urn), (Some("me@example.com"), None));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Whoami {
    /// The user.
    pub user_urn: Option<String>,
    /// The organization.
    pub org_urn: Option<String>,
    /// The user's address.
    pub email: Option<String>,
}
