//! Certificate authorities besides the built-in ones: from the program, a file and directories.

use std::path::Path;

use tempfile::tempdir;

use super::*;

fn build(url: &str, set: &[(&str, &str)]) -> tinkex::Result<Config> {
    Config::builder()
        .api_key("tml-k")
        .base_url(url)
        .max_retries(0)
        .build_with(|name| set.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned()))
}

#[test]
fn an_added_root_certificate_is_trusted() {
    let service = Service::start(healthy_service);
    let (port, _) = tls_in_front_of(&service, false);
    let config = Config::builder().base_url(format!("https://localhost:{port}")).proxy(Proxy::Off);
    connect(config.clone().add_root_certificate(include_str!("expired_root.pem")).add_root_certificate(ROOT)).unwrap();
    // What replaces the built-in ones leaves those of the program.
    connect(config.root_certificate(include_str!("expired_root.pem")).add_root_certificate(ROOT)).unwrap();
}

#[test]
fn files_of_variables_are_trusted() {
    let service = Service::start(healthy_service);
    let (port, _) = tls_in_front_of(&service, false);
    let url = format!("https://localhost:{port}");
    let directory = tempdir().unwrap();
    let file = directory.path().join("company.pem");
    std::fs::write(&file, ROOT).unwrap();
    std::fs::write(directory.path().join("README"), "not a certificate").unwrap();
    let (file, directory) = (file.to_str().unwrap(), directory.path().to_str().unwrap());
    let other = tempdir().unwrap();
    let both = std::env::join_paths([other.path(), Path::new(directory)]).unwrap().into_string().unwrap();
    for set in [("SSL_CERT_FILE", file), ("SSL_CERT_DIR", directory), ("SSL_CERT_DIR", &both)] {
        ServiceClient::connect(build(&url, &[set]).unwrap()).unwrap();
    }
    // A root that the program passes in place of all others replaces these, too.
    let config = Config::builder().api_key("tml-k").base_url(url).max_retries(0);
    let config = config.root_certificate(include_str!("expired_root.pem"));
    let config = config.build_with(|name| (name == "SSL_CERT_FILE").then(|| file.to_owned())).unwrap();
    assert_eq!(ServiceClient::connect(config).unwrap_err().kind(), ErrorKind::Connect);
}

#[test]
fn unusable_files_are_refused_by_name() {
    let directory = tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let (empty, none) = (empty.to_str().unwrap(), directory.path().join("none"));
    for (set, words) in [
        (("SSL_CERT_FILE", none.to_str().unwrap()), "cannot be read: No such file"),
        (("SSL_CERT_FILE", empty), "contains no certificate"),
        (("SSL_CERT_DIR", none.to_str().unwrap()), "cannot be read: No such file"),
        (("SSL_CERT_DIR", directory.path().to_str().unwrap()), "contains no certificate"),
    ] {
        let error = build("https://localhost:1", &[set]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().starts_with(set.0) && error.message().contains(words), "{error}");
        assert!(error.message().contains(set.1), "{error}");
        // A service without TLS needs none of them.
        build("http://localhost:1", &[set]).unwrap();
    }
}
