//! Where the credential comes from: the program, the environment, or the keys that were stored by a login.

use std::fmt;

use super::{Secret, validate};
use crate::credential_store::CredentialStore;
use crate::error::{Error, Result};

/// Where a client takes its credential from, in the order of precedence.
///
/// ```
/// use tinkex::{Config, CredentialSource};
///
/// let environment = |name: &str| (name == "TINKER_API_KEY").then(|| "tml-example".to_owned());
/// let config = Config::builder().base_url("http://127.0.0.1:8000").build_with(environment)?;
/// assert_eq!(config.credential_source(), CredentialSource::Variable);
/// assert_eq!(config.credential_source().to_string(), "TINKER_API_KEY");
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CredentialSource {
    /// [`ConfigBuilder::api_key`](crate::ConfigBuilder::api_key).
    Argument,
    /// The variable `TINKER_API_KEY`.
    Variable,
    /// The command in the variable `TINKER_CREDENTIAL_CMD`, which prints a key or token. A client runs it with its first
    /// request, and again when a token that it printed ends.
    Command,
    /// The key that `tinkex auth login` or `tinker auth login` stored, in `~/.tinker/credentials.json`.
    Stored,
}

impl fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CredentialSource::Argument => "api_key",
            CredentialSource::Variable => "TINKER_API_KEY",
            CredentialSource::Command => "TINKER_CREDENTIAL_CMD",
            CredentialSource::Stored => "~/.tinker/credentials.json",
        })
    }
}

/// What a client authenticates with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A key or a token.
    Key(Secret),
    /// A command that prints one. Its text may hold a secret.
    Command(Secret),
}

impl Credential {
    /// Whether a command prints it, which may print another one later.
    pub(crate) fn is_command(&self) -> bool {
        matches!(self, Credential::Command(_))
    }

    /// Tells credentials apart.
    pub(crate) fn identity(&self) -> &Secret {
        match self {
            Credential::Key(secret) | Credential::Command(secret) => secret,
        }
    }
}

/// A key or token that can be sent, without the white space around it. `what` names it in the error.
pub(crate) fn checked_key(text: &str, what: &str) -> Result<Secret> {
    let text = text.trim();
    validate::header("x-api-key", text, what)?;
    Ok(Secret::new(text))
}

/// The first credential in the order of precedence.
pub(super) fn resolve(
    argument: Option<Secret>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<(Credential, CredentialSource)> {
    let set = |name: &str| environment(name).filter(|text| !text.trim().is_empty());
    let key = |text: &str, what| checked_key(text, what).map(Credential::Key);
    if let Some(argument) = argument {
        if argument.expose().trim().is_empty() {
            let hint = "set TINKER_API_KEY, or pass one to api_key";
            return Err(Error::config("the API key is empty").with_hint(hint));
        }
        return Ok((key(argument.expose(), "the API key")?, CredentialSource::Argument));
    }
    if let Some(text) = set("TINKER_API_KEY") {
        return Ok((key(&text, "the API key")?, CredentialSource::Variable));
    }
    if let Some(command) = set("TINKER_CREDENTIAL_CMD") {
        return Ok((Credential::Command(Secret::new(command)), CredentialSource::Command));
    }
    let stored = CredentialStore::of_user(&environment).map(|store| store.default_key()).transpose()?.flatten();
    match stored {
        Some(stored) => Ok((key(&stored.key, "the stored API key")?, CredentialSource::Stored)),
        None => {
            let hint = "set TINKER_API_KEY, call api_key on the builder, or run `tinkex auth login`";
            Err(Error::config("no API key").with_hint(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential_store::StoredKey;

    #[test]
    fn the_first_credential_counts() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().to_str().unwrap();
        let store = CredentialStore::of_user(|_| Some(home.to_owned())).unwrap();
        let key = StoredKey {
            id: "1".to_owned(),
            key: "tml-stored".to_owned(),
            is_generated: false,
            name: String::new(),
            note: None,
            details: None,
        };
        store.store(&key).unwrap();
        let sources = [("TINKER_API_KEY", "tml-env\n"), ("TINKER_CREDENTIAL_CMD", "print-key")];
        for (set, expected, source) in [
            (&sources[..], Credential::Key(Secret::new("tml-env")), CredentialSource::Variable),
            (&sources[1..], Credential::Command(Secret::new("print-key")), CredentialSource::Command),
            (&[], Credential::Key(Secret::new("tml-stored")), CredentialSource::Stored),
            (&[("TINKER_API_KEY", " ")], Credential::Key(Secret::new("tml-stored")), CredentialSource::Stored),
        ] {
            let environment = |name: &str| match set.iter().find(|(variable, _)| *variable == name) {
                Some((_, value)) => Some((*value).to_owned()),
                None => (name == "HOME" || name == "USERPROFILE").then(|| home.to_owned()),
            };
            assert_eq!(resolve(None, environment).unwrap(), (expected, source));
            let (argument, source) = resolve(Some(Secret::new(" tml-a ")), environment).unwrap();
            assert_eq!((argument, source), (Credential::Key(Secret::new("tml-a")), CredentialSource::Argument));
        }
        assert!(resolve(None, |_| None).unwrap_err().to_string().contains("auth login"));
    }
}
