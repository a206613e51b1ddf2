//! The keys that `auth login` keeps for later, in the file that the Python client's command line uses, too.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::error::{Error, ErrorKind, Result, system};
use crate::fs::write_private;

/// The version of the file's format.
const VERSION: u64 = 1;

/// `~/.tinker/credentials.json`: only its owner may read it. Whatever else is in it stays.
#[derive(Clone, Debug)]
pub struct CredentialStore {
    file: PathBuf,
}

/// A key in the store.
#[derive(Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct StoredKey {
    /// Its name in the store.
    pub id: String,
    /// The key itself.
    pub key: String,
    /// Whether a login made the key, so that a logout revokes it. Otherwise the user had it before.
    pub is_generated: bool,
    /// The name of the key on the service.
    pub name: String,
    /// The note to the key on the service.
    pub note: Option<String>,
    /// Whom it belongs to, as the service says: `{"org_details": {"name"}, "user_details": {"email"}}`.
    pub details: Option<Value>,
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredKey").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

impl CredentialStore {
    /// The store of the user whose environment this is; `None` without a home directory.
    pub fn of_user(environment: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let home = environment(if cfg!(windows) { "USERPROFILE" } else { "HOME" }).filter(|home| !home.is_empty())?;
        Some(CredentialStore::at(Path::new(&home).join(".tinker").join("credentials.json")))
    }

    /// The store in this file.
    pub fn at(file: impl Into<PathBuf>) -> Self {
        CredentialStore { file: file.into() }
    }

    /// Where the store is.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The key that is used if nothing else gives one; `None` if there is none.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not such a store.
    pub fn default_key(&self) -> Result<Option<StoredKey>> {
        let content = self.read()?;
        let Some(id) = content.get("default").and_then(Value::as_str) else { return Ok(None) };
        let Some(entry) = content.get("keys").and_then(|keys| keys.get(id)) else { return Ok(None) };
        let text = |name: &str| entry.get(name).and_then(Value::as_str).map(str::to_owned);
        let Some(key) = text("key").filter(|key| !key.trim().is_empty()) else {
            return Err(self.unusable("has no key in its default entry"));
        };
        Ok(Some(StoredKey {
            id: id.to_owned(),
            key,
            is_generated: text("type").as_deref() == Some("generated"),
            name: text("name").unwrap_or_default(),
            note: text("note"),
            details: entry.get("details").filter(|details| !details.is_null()).cloned(),
        }))
    }

    /// Stores a key, which becomes the default one. An entry of the same id is replaced.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written.
    pub fn store(&self, stored: &StoredKey) -> Result<()> {
        let mut content = self.read()?;
        let kind = if stored.is_generated { "generated" } else { "manual" };
        let mut entry = json!({"type": kind, "key": stored.key, "name": stored.name});
        for (name, value) in [("note", stored.note.clone().map(Value::from)), ("details", stored.details.clone())] {
            if let Some(value) = value {
                entry[name] = value;
            }
        }
        let keys = content.entry("keys").or_insert_with(|| json!({}));
        let Some(keys) = keys.as_object_mut() else { return Err(self.unusable("has no object of keys")) };
        keys.insert(stored.id.clone(), entry);
        content.insert("default".to_owned(), stored.id.clone().into());
        self.write(content)
    }

    /// Removes the key with this id. If it was the default one, there is none afterwards.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written.
    pub fn remove(&self, id: &str) -> Result<()> {
        let mut content = self.read()?;
        if let Some(keys) = content.get_mut("keys").and_then(Value::as_object_mut) {
            keys.remove(id);
        }
        if content.get("default").and_then(Value::as_str) == Some(id) {
            content.insert("default".to_owned(), Value::Null);
        }
        self.write(content)
    }

    /// The content; empty if there is no file.
    fn read(&self) -> Result<Map<String, Value>> {
        let text = match std::fs::read(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
            Err(error) => return Err(self.failed("read", error)),
        };
        // The error of the parser could quote a part of the file.
        let Ok(content) = serde_json::from_slice::<Map<String, Value>>(&text) else {
            return Err(self.unusable("is not a JSON object"));
        };
        match content.get("version") {
            None => Ok(content),
            Some(version) if version.as_u64() == Some(VERSION) => Ok(content),
            Some(_) => Err(self.unusable("has another version")),
        }
    }

    fn write(&self, mut content: Map<String, Value>) -> Result<()> {
        content.insert("version".to_owned(), VERSION.into());
        let text = format!("{:#}\n", Value::Object(content));
        write_private(&self.file, text.as_bytes()).map_err(|error| self.failed("written", error))
    }

    fn failed(&self, done: &str, error: io::Error) -> Error {
        let hint = system::hint(&error);
        Error::new(ErrorKind::Io, format!("the stored keys in {} cannot be {done}: {error}", self.file.display()))
            .with_hint(hint.unwrap_or("check the permissions of the file and its directory, or set TINKER_API_KEY"))
    }

    fn unusable(&self, why: &str) -> Error {
        Error::config(format!("the file of stored keys, {}, {why}", self.file.display()))
            .with_hint("correct or delete it and log in again, or set TINKER_API_KEY")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, CredentialStore) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().to_str().unwrap().to_owned();
        let store = CredentialStore::of_user(move |_| Some(path.clone())).unwrap();
        (home, store)
    }

    fn key(id: &str) -> StoredKey {
        StoredKey {
            id: id.to_owned(),
            key: format!("tml-hidden-{id}"),
            is_generated: false,
            name: "laptop".to_owned(),
            note: None,
            details: Some(json!({"org_details": {"name": "o"}})),
        }
    }

    #[test]
    fn a_stored_key_is_read_back() {
        let (_home, store) = store();
        assert_eq!(store.default_key().unwrap(), None);
        store.store(&key("1")).unwrap();
        let second = StoredKey { is_generated: true, note: Some("n".to_owned()), details: None, ..key("2") };
        store.store(&second).unwrap();
        assert_eq!(store.default_key().unwrap().unwrap(), second);
        store.remove("1").unwrap();
        assert_eq!(store.default_key().unwrap().unwrap(), second);
        store.remove("2").unwrap();
        assert_eq!(store.default_key().unwrap(), None);
        assert!(!format!("{second:?} {second:#?} {store:?}").contains("hidden"));
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_home, store) = store();
        store.store(&key("1")).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(store.file()), mode(store.file().parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn what_others_wrote_stays() {
        let (_home, store) = store();
        std::fs::create_dir_all(store.file().parent().unwrap()).unwrap();
        let before = r#"{"version":1,"default":"a","later":[1],"keys":{"a":{"type":"manual","key":"tml-a","name":"x","extra":1}}}"#;
        std::fs::write(store.file(), before).unwrap();
        assert_eq!(store.default_key().unwrap().unwrap().key, "tml-a");
        store.store(&key("b")).unwrap();
        let after: Value = serde_json::from_slice(&std::fs::read(store.file()).unwrap()).unwrap();
        assert_eq!(after["keys"]["a"], json!({"type": "manual", "key": "tml-a", "name": "x", "extra": 1}));
        assert_eq!((&after["later"], &after["default"]), (&json!([1]), &json!("b")));
        assert_eq!(after["keys"]["b"]["type"], "manual");
    }

    #[test]
    fn a_broken_store_shows_no_key() {
        let (_home, store) = store();
        std::fs::create_dir_all(store.file().parent().unwrap()).unwrap();
        for broken in [
            "tml-hidden",
            "[]",
            r#"{"version": 2, "default": "a", "keys": {"a": {"key": "tml-hidden"}}}"#,
            r#"{"version": 1, "default": "a", "keys": {"a": {"type": "manual"}}}"#,
        ] {
            std::fs::write(store.file(), broken).unwrap();
            let error = store.default_key().unwrap_err();
            assert!(error.to_string().contains("credentials.json"), "{error}");
            assert!(!format!("{error} {error:?}").contains("hidden"), "{error}");
        }
    }
}
