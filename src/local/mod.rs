//! A Tinker service in this process, for tests, demonstrations and devices without a network.

mod server;
