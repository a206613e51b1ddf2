//! How a client reaches the service: headers, query parameters, the proxy, and whom it trusts.

use super::ConfigBuilder;
use crate::config::{Proxy, Secret};
use crate::types::QueryValue;

impl ConfigBuilder {
    /// The id and secret of a Cloudflare Access service token. Defaults to `CLOUDFLARE_ACCESS_CLIENT_ID` and
    /// `CLOUDFLARE_ACCESS_CLIENT_SECRET`.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").cloudflare_access("id", "secret").build()?;
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn cloudflare_access(mut self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.cloudflare = Some((Secret::new(id), Secret::new(secret)));
        self
    }

    /// Adds a header to every request. It overrides the library's own header of that name.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").header("x-experiment", "7").build()?;
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), Secret::new(value)));
        self
    }

    /// Adds a query parameter to every request.
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").query("experiment", 7_u64).build()?;
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn query(mut self, name: impl Into<String>, value: impl Into<QueryValue>) -> Self {
        self.query = self.query.field(name, value);
        self
    }

    /// The proxy. Defaults to [`Proxy::Environment`].
    ///
    /// # Examples
    ///
    /// ```
    /// let config = tinkex::Config::builder().api_key("tml-example").base_url("http://127.0.0.1:8000").proxy(tinkex::Proxy::Off).build()?;
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = proxy;
        self
    }

    /// Trusts this certificate authority instead of the built-in ones, for the service, for an `https` proxy and for the servers
    /// from which archives are downloaded. Use it to trust nothing else; `SSL_CERT_FILE` and `SSL_CERT_DIR` are then not read.
    /// Pass the content of a PEM file with one or more certificates. Each call adds to the earlier ones.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let pem = std::fs::read("/etc/ssl/company.pem")?;
    /// let config = tinkex::Config::builder().root_certificate(pem).build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates.push(pem.into());
        self
    }

    /// Trusts this certificate authority besides the built-in ones. Use it for a gateway, proxy or service with a private
    /// certificate: other servers, from which archives are downloaded, then work as before. Pass the content of a PEM file with
    /// one or more certificates. Each call adds to the earlier ones, and to those of `SSL_CERT_FILE` (a PEM file) and
    /// `SSL_CERT_DIR` (directories with PEM files), which are added in the same way. Those files are read by `build` if the base
    /// URL is https, otherwise with the first connection that uses TLS.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let pem = std::fs::read("/etc/ssl/company.pem")?;
    /// let config = tinkex::Config::builder().add_root_certificate(pem).build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn add_root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.added_roots.push(pem.into());
        self
    }
}
