//! Whose training runs and sessions a client reads.

open_enum! {
    /// Whose training runs and sessions [`RestClient`](crate::RestClient) reads.
    ///
    /// ```
    /// use tinkex::types::AccessScope;
    ///
    /// assert_eq!(AccessScope::Accessible.as_str(), "accessible");
    /// ```
    pub enum AccessScope {
        /// The user's own.
        Owned = "owned",
        /// Also those of others that the user may read, such as a team's.
        Accessible = "accessible",
    }
}
