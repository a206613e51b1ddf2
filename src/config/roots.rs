//! The certificate authorities that the client trusts.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use log::warn;

use super::{Config, ConfigBuilder};
use crate::error::{Error, Result};

/// The variables that name certificate files, and what they hold once it was read.
#[derive(Debug, Default)]
pub(super) struct RootVariables {
    file: Option<String>,
    directories: Option<String>,
    read: OnceLock<Roots>,
}

/// Certificate authorities, each as DER.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roots {
    /// Whether the public authorities that are built in are trusted too.
    pub(crate) with_bundled: bool,
    pub(crate) certificates: BTreeSet<Vec<u8>>,
}

impl RootVariables {
    pub(super) fn read(environment: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| environment(name).filter(|value| !value.trim().is_empty());
        RootVariables { file: set(FILE), directories: set(DIRECTORIES), read: OnceLock::new() }
    }
}

const FILE: &str = "SSL_CERT_FILE";
const DIRECTORIES: &str = "SSL_CERT_DIR";

impl Config {
    /// The certificate authorities to trust. Reads the files that variables name on the first call.
    pub(crate) fn roots(&self) -> Result<&Roots> {
        roots(&self.0.builder, &self.0.root_variables)
    }
}

/// Checks the certificates that the program passed, and those of the variables too if the service needs TLS. Without it, they
/// are read with the first download that does.
pub(super) fn check(builder: &ConfigBuilder, variables: &RootVariables, base_url: &str) -> Result<()> {
    if base_url.starts_with("https://") {
        return roots(builder, variables).map(drop);
    }
    for (pem, setting) in passed(builder) {
        certificates(pem, setting)?;
    }
    Ok(())
}

fn passed(builder: &ConfigBuilder) -> impl Iterator<Item = (&[u8], &'static str)> {
    let replacing = builder.root_certificates.iter().map(|pem| (pem.as_slice(), "root_certificate"));
    replacing.chain(builder.added_roots.iter().map(|pem| (pem.as_slice(), "add_root_certificate")))
}

fn roots<'v>(builder: &ConfigBuilder, variables: &'v RootVariables) -> Result<&'v Roots> {
    if let Some(roots) = variables.read.get() {
        return Ok(roots);
    }
    let with_bundled = builder.root_certificates.is_empty();
    let mut roots = Roots { with_bundled, certificates: BTreeSet::new() };
    for (pem, setting) in passed(builder) {
        roots.certificates.extend(certificates(pem, setting)?);
    }
    if with_bundled {
        if let Some(file) = &variables.file {
            roots.certificates.extend(of_file(Path::new(file))?);
        }
        if let Some(directories) = &variables.directories {
            roots.certificates.extend(of_directories(directories)?);
        }
    }
    Ok(variables.read.get_or_init(|| roots))
}

/// The certificates of a PEM text, of which there must be one.
fn certificates(pem: &[u8], setting: &str) -> Result<Vec<Vec<u8>>> {
    let certificates = parse(pem).map_err(|error| {
        Error::config(format!("{setting}: the root certificate is not valid PEM"))
            .with_source(error)
            .with_hint(PEM_HINT)
    })?;
    if certificates.is_empty() {
        return Err(Error::config(format!("{setting} contains no certificate")).with_hint(PEM_HINT));
    }
    Ok(certificates)
}

const PEM_HINT: &str = "use a PEM file, with `BEGIN CERTIFICATE`";

fn parse(pem: &[u8]) -> Result<Vec<Vec<u8>>, ureq::Error> {
    use ureq::tls::{PemItem, parse_pem};
    let mut certificates = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item? {
            certificates.push(certificate.der().to_vec());
        }
    }
    Ok(certificates)
}

fn of_file(path: &Path) -> Result<Vec<Vec<u8>>> {
    let pem = fs::read(path).map_err(|error| unreadable(FILE, path, error))?;
    certificates(&pem, &format!("{FILE} ({})", path.display()))
}

fn unreadable(setting: &str, path: &Path, error: std::io::Error) -> Error {
    Error::config(format!("{setting}: {} cannot be read: {error}", path.display()))
        .with_source(error)
        .with_hint(format!("correct {setting}, or unset it"))
}

/// The certificates in all files of these directories, which are separated as in `PATH`. Files without one are skipped, and links
/// that lead nowhere, as after the removal of a package.
fn of_directories(directories: &str) -> Result<BTreeSet<Vec<u8>>> {
    let mut found = BTreeSet::new();
    for directory in std::env::split_paths(directories).filter(|path| !path.as_os_str().is_empty()) {
        let files: Vec<PathBuf> = fs::read_dir(&directory)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
            .map_err(|error| unreadable(DIRECTORIES, &directory, error))?;
        for path in files.iter().filter(|path| path.is_file()) {
            match fs::read(path).map(|pem| parse(&pem)) {
                Ok(Ok(certificates)) => found.extend(certificates),
                Ok(Err(error)) => warn!("{DIRECTORIES}: {} is not valid PEM, and is left out: {error}", path.display()),
                Err(error) => warn!("{DIRECTORIES}: {} cannot be read, and is left out: {error}", path.display()),
            }
        }
    }
    if found.is_empty() {
        return Err(Error::config(format!("{DIRECTORIES} ({directories}) contains no certificate")).with_hint(PEM_HINT));
    }
    Ok(found)
}
