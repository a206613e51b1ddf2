//! `tinkex auth`.

use std::env;
use std::io::{self, IsTerminal, Read};

use clap::{Args, Subcommand};
use console::Term;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tinkex::api::Api;
use tinkex::credential_store::{CredentialStore, StoredKey};
use tinkex::{Config, CredentialSource, Error};

use crate::app::{App, RETRIES};
use crate::failure::Failure;
use crate::output::Table;

/// The request about the key itself.
const SELF: &str = "/api/v1/auth/apikey/me";

/// The longest key that is read from stdin, in bytes.
const MAX_KEY: u64 = 64 * 1024;

/// Store an API key for later, and show which one is used.
#[derive(Debug, Subcommand)]
pub(crate) enum AuthCommand {
    Login(Login),
    /// Remove the stored API key.
    ///
    /// A key that a login of `tinker` made is also revoked.
    Logout,
    /// Show which API key is used, and where it comes from; never the key itself.
    Status,
    /// Show the user and organization that the service takes you for.
    ///
    /// Needs a service that gives tokens in exchange for keys: nothing else says who a key belongs to.
    Whoami,
}

/// Store an API key, for this program and for `tinker`.
///
/// Asks for the key without showing it, checks it with the service, and stores it in ~/.tinker/credentials.json, which only you
/// can read. A service that cannot check keys is taken at its word. TINKER_API_KEY and TINKER_CREDENTIAL_CMD take precedence
/// over a stored key.
#[derive(Args, Debug)]
pub(crate) struct Login {
    /// Read the key from stdin rather than ask for it.
    #[arg(long)]
    key_stdin: bool,
}

/// What the service says about a key.
#[derive(Debug, Default, Deserialize)]
struct SelfKey {
    key_id: Option<Value>,
    name: Option<String>,
    note: Option<String>,
    details: Option<Value>,
}

pub(crate) fn run(app: &App, command: &AuthCommand) -> Result<(), Failure> {
    match command {
        AuthCommand::Login(options) => login(app, options),
        AuthCommand::Logout => logout(app),
        AuthCommand::Status => status(app),
        AuthCommand::Whoami => whoami(app),
    }
}

fn login(app: &App, Login { key_stdin }: &Login) -> Result<(), Failure> {
    let store = store()?;
    let key = if *key_stdin { read_key()? } else { ask_for_key()? };
    let key = key.trim();
    if key.is_empty() {
        return Err(Failure::usage("no key was given; nothing was stored"));
    }
    let api = api(app, key)?;
    let (checked, known) = match api.get(SELF).max_retries(RETRIES).send() {
        Ok(response) => (true, serde_json::from_slice(response.bytes()).unwrap_or_default()),
        // The service has no such request.
        Err(error) if matches!(error.status(), Some(404 | 405)) => (false, SelfKey::default()),
        Err(error) => return Err(refused(error)),
    };
    let mut stored = StoredKey::default();
    stored.id =
        known.key_id.as_ref().map_or_else(|| "manual".to_owned(), |id| id.to_string().trim_matches('"').to_owned());
    stored.key = key.to_owned();
    stored.name = known.name.unwrap_or_default();
    stored.note = known.note;
    stored.details = known.details;
    store.store(&stored)?;
    let mut table = owner("The key is stored", &stored);
    table.row(["Checked", if checked { "yes" } else { "no: the service cannot check keys" }]);
    table.row(["File", &store.file().display().to_string()]);
    app.output.report(&table, &document(&stored, json!({"checked": checked, "file": store.file()})))?;
    let source = app.config()?.credential_source();
    if source != CredentialSource::Stored {
        app.output.note(format!("note: {source} takes precedence over the stored key"));
    }
    Ok(())
}

fn logout(app: &App) -> Result<(), Failure> {
    let store = store()?;
    let Some(stored) = store.default_key()? else {
        return Err(Failure::failed("no key is stored").hint("`tinkex auth status` shows which key is used"));
    };
    let revoked = stored.is_generated && revoke(app, &stored.key)?;
    store.remove(&stored.id)?;
    let done = match (revoked, stored.is_generated) {
        (true, _) => "The key is revoked and removed",
        (false, true) => "The key is removed; this service did not know it, so it is not revoked",
        (false, false) => "The key is removed",
    };
    let more = json!({"revoked": revoked, "file": store.file()});
    app.output.report(&owner(done, &stored), &document(&stored, more))
}

/// Revokes a key. Returns false if the service does not know the key, or cannot revoke keys: it may be of another service.
fn revoke(app: &App, key: &str) -> Result<bool, Failure> {
    match api(app, key)?.delete(SELF).max_retries(RETRIES).send() {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.status(), Some(401 | 404 | 405)) => Ok(false),
        Err(error) => Err(Failure::from(error).add_hint("the key is still stored")),
    }
}

fn status(app: &App) -> Result<(), Failure> {
    let config = app.config()?;
    let source = config.credential_source();
    let stored = if source == CredentialSource::Stored { store()?.default_key()? } else { None };
    let mut table = stored.as_ref().map_or_else(|| Table::properties("API key"), |stored| owner("API key", stored));
    table.row(["Source", &source.to_string()]);
    table.row(["Service", config.base_url()]);
    let more = json!({"source": source.to_string(), "base_url": config.base_url()});
    app.output.report(&table, &document(&stored.unwrap_or_default(), more))
}

fn whoami(app: &App) -> Result<(), Failure> {
    let whoami = app.rest()?.whoami()?;
    let mut table = Table::properties("You");
    for (name, value) in [("User", &whoami.user_urn), ("Organization", &whoami.org_urn), ("Email", &whoami.email)] {
        if let Some(value) = value {
            table.row([name, value]);
        }
    }
    app.output.report(&table, &whoami)
}

fn store() -> Result<CredentialStore, Failure> {
    CredentialStore::of_user(|name| env::var(name).ok())
        .ok_or_else(|| Failure::failed("there is no home directory to store a key in").hint("set HOME"))
}

/// Access to the service with this key.
fn api(app: &App, key: &str) -> Result<Api, Failure> {
    Ok(Api::new(app.settings(Config::builder().api_key(key)).build()?)?)
}

fn read_key() -> Result<String, Failure> {
    let mut key = String::new();
    let read = io::stdin().lock().take(MAX_KEY).read_to_string(&mut key);
    read.map_err(|error| Failure::failed(format!("the key cannot be read from stdin: {error}")))?;
    Ok(key)
}

fn ask_for_key() -> Result<String, Failure> {
    let terminal = Term::stderr();
    if !terminal.is_term() || !io::stdin().is_terminal() {
        return Err(Failure::usage("cannot ask for the key: stdin is not a terminal")
            .hint("pass --key-stdin, and the key on stdin"));
    }
    let asked = terminal.write_str("API key (it is not shown): ").and_then(|()| terminal.read_secure_line());
    asked.map_err(|error| Failure::failed(format!("cannot ask for the key: {error}")))
}

fn refused(error: Error) -> Failure {
    let is_refused = matches!(error.status(), Some(401 | 403));
    let failure = Failure::from(error);
    if is_refused { failure.hint("check the key and the URL of the service; nothing was stored") } else { failure }
}

/// A table of what is known of a key.
fn owner(title: &str, stored: &StoredKey) -> Table {
    let mut table = Table::properties(title);
    let mut row = |name, value: &str| {
        if !value.is_empty() {
            table.row([name, value]);
        }
    };
    row("Name", &stored.name);
    row("Note", stored.note.as_deref().unwrap_or_default());
    row("Organization", detail(stored, "/org_details/name").unwrap_or_default());
    row("User", detail(stored, "/user_details/email").unwrap_or_default());
    table
}

fn detail<'a>(stored: &'a StoredKey, pointer: &str) -> Option<&'a str> {
    stored.details.as_ref()?.pointer(pointer)?.as_str()
}

#[derive(Serialize)]
struct Document<'a> {
    name: Option<&'a str>,
    note: Option<&'a str>,
    organization: Option<&'a str>,
    user: Option<&'a str>,
    #[serde(flatten)]
    more: Value,
}

fn document(stored: &StoredKey, more: Value) -> Document<'_> {
    Document {
        name: Some(&*stored.name).filter(|name| !name.is_empty()),
        note: stored.note.as_deref(),
        organization: detail(stored, "/org_details/name"),
        user: detail(stored, "/user_details/email"),
        more,
    }
}
