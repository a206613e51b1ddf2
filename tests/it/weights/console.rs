//! Pages of the web console: only the official service has one.

use super::{client, trainer};
use crate::support::{Service, healthy_service};

#[test]
fn other_services_have_no_console() {
    let service = Service::start(healthy_service);
    assert_eq!(client(&service).get_console_url(), None);
    assert_eq!(trainer(&service).get_console_url(), None);
}
