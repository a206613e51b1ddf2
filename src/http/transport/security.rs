//! TLS over a route, by the library of this build. All agents of a client share one.

#[cfg(feature = "rustls")]
pub(super) use super::rustls_connector::RustlsConnector as Security;
#[cfg(not(feature = "rustls"))]
pub(super) use without_rustls::Security;

#[cfg(not(feature = "rustls"))]
mod without_rustls {
    use ureq::Error;
    use ureq::unversioned::transport::{ConnectionDetails, Connector, Transport};

    use crate::config::Config;

    /// ureq's connector for the TLS library of the system.
    #[cfg(feature = "native-tls")]
    #[derive(Clone, Debug)]
    pub(in crate::http::transport) struct Security(std::sync::Arc<ureq::unversioned::transport::NativeTlsConnector>);

    /// No TLS: https URLs are refused before.
    #[cfg(not(feature = "native-tls"))]
    #[derive(Clone, Debug)]
    pub(in crate::http::transport) struct Security;

    impl Security {
        pub(in crate::http::transport) fn new(_: &Config) -> Self {
            #[cfg(feature = "native-tls")]
            let security = Security(std::sync::Arc::default());
            #[cfg(not(feature = "native-tls"))]
            let security = Security;
            security
        }
    }

    #[cfg(feature = "native-tls")]
    impl<T: Transport> Connector<T> for Security {
        type Out = <ureq::unversioned::transport::NativeTlsConnector as Connector<T>>::Out;

        fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<T>) -> Result<Option<Self::Out>, Error> {
            self.0.connect(details, chained)
        }
    }

    #[cfg(not(feature = "native-tls"))]
    impl<T: Transport> Connector<T> for Security {
        type Out = T;

        fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<T>) -> Result<Option<T>, Error> {
            Ok(chained)
        }
    }
}
