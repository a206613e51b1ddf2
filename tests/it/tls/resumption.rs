//! Only the first connection of a client makes a full handshake: its agents share their sessions.

use std::sync::Mutex;

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};

use super::*;

#[test]
fn later_connections_resume_the_session() {
    for version in [&TLS12, &TLS13] {
        let service = Service::start(healthy_service);
        let kinds = Arc::<Mutex<Vec<_>>>::default();
        let seen = Arc::clone(&kinds);
        let opened = move |connection: &ServerConnection| seen.lock().unwrap().extend(connection.handshake_kind());
        let (port, _) = terminated(server_config(SERVER, &[version]), &service, false, opened);
        let config = Config::builder().base_url(format!("https://localhost:{port}")).proxy(Proxy::Off);
        let client = connect(config.root_certificate(ROOT)).unwrap();
        // Its requests and the polls of their results have connections of their own.
        client.create_lora_training_client("base", LoraConfig::default()).unwrap();
        let kinds = kinds.lock().unwrap();
        assert!(kinds.len() >= 3, "{version:?}: {kinds:?}");
        assert_eq!(kinds[0], HandshakeKind::Full, "{version:?}");
        assert!(kinds[1..].iter().all(|kind| *kind == HandshakeKind::Resumed), "{version:?}: {kinds:?}");
    }
}
