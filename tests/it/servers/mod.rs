//! The clients against a double of each server of this protocol, of both generations: `support/double`.

mod faults;
mod stored;
mod training;

use crate::support::double::{Double, Server};
pub use crate::support::double::{assert_echo, batch, create_trainer, datum};

/// Each server, and the official one with settings that are off by default.
fn servers() -> impl Iterator<Item = Server> {
    let settings = ["sample_use_retrieve_futures", "proto_compress_fwdbwd"];
    Server::all().into_iter().chain(settings.map(|key| Server::official_2026().with_config(key, true)))
}

/// Runs a test against a double of each server.
fn for_each_server(test: impl Fn(&Double)) {
    for server in servers() {
        let double = Double::start(server);
        test(&double);
        double.assert_nothing_ran_twice();
        double.assert_numbers_have_no_holes();
    }
}
