//! Where chat templates come from: files, packages of tokenizers, GGUF files.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::{Map, Value};

use super::ChatTemplate;
use super::package::{self, CONFIG, TEMPLATE};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::parent_of;
use crate::gguf::Metadata;
#[cfg(feature = "tokenizers")]
use crate::rules::tokenizer_id;
use crate::tokenizer::file_kind::FileKind;

/// How many bytes a file with a template may have: those with many added tokens have a few million.
const MAX_FILE: u64 = 64 << 20;

impl ChatTemplate {
    /// The template that this path has:
    ///
    /// - a file with the Jinja source; for a `chat_template.jinja`, with the special tokens of a `tokenizer_config.json` beside it,
    /// - a `tokenizer_config.json` with one template, or with named ones: `default`, and `tool_use` for conversations with tools,
    /// - a directory of a tokenizer, with either of these files (the Jinja source wins),
    /// - a GGUF file.
    ///
    /// For another file of a tokenizer, such as `tokenizer.json` or `tiktoken.model`, it is that of the directory.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) for a file that cannot be read, [`Decode`](ErrorKind::Decode) for one that is damaged,
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a path without a template, or with one that is not valid.
    ///
    /// # Examples
    ///
    /// ```
    /// use tinkex::chat::{ChatTemplate, Conversation, Message};
    ///
    /// let directory = std::env::temp_dir();
    /// let path = directory.join(format!("tinkex-doc-{}.jinja", std::process::id()));
    /// std::fs::write(&path, "{% for message in messages %}[{{ message.role }}] {{ message.content }}\n{% endfor %}")?;
    /// let template = ChatTemplate::from_path(&path)?;
    /// assert_eq!(template.render(&Conversation::from([Message::user("Hi")]), false)?, "[user] Hi\n");
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        of_path(path)?.ok_or_else(|| {
            Error::invalid_input(format!("{} has no chat template", path.display()))
                .with_hint(format!("a directory has it in {TEMPLATE} or {CONFIG}"))
        })
    }

    /// The template for a tokenizer, by what [`Tokenizer::id`](crate::Tokenizer::id) says: a hub ID, also with a revision
    /// (`organisation/name@revision`), or a path. What can be a hub ID is one, even if there is such a directory: its path is
    /// `./organisation/name`. In this order: `chat_template.jinja`, `tokenizer_config.json`, a built-in template for the ID
    /// ([`builtin_name_for`](ChatTemplate::builtin_name_for)); `None` if there is none, as for `bytes`. Blocks as
    /// [`TokenizerSource::load_file`](crate::TokenizerSource::load_file) does.
    ///
    /// # Errors
    ///
    /// Those of [`load_file`](crate::TokenizerSource::load_file), and those of [`from_path`](ChatTemplate::from_path) for a template
    /// that is there and cannot be used.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use tinkex::TokenizerSource;
    /// use tinkex::chat::{ChatTemplate, Conversation, Message};
    ///
    /// if let Some(template) = ChatTemplate::load("Qwen/Qwen3-8B", &TokenizerSource::from_env())? {
    ///     println!("{}", template.render(&Conversation::from([Message::user("Hi")]), true)?);
    /// }
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[cfg(feature = "tokenizers")]
    pub fn load(id: &str, source: &crate::tokenizer::TokenizerSource) -> Result<Option<Self>> {
        let path = Path::new(id);
        if path.exists() && tokenizer_id::parse(id).is_err() {
            return match of_path(path)? {
                Some(found) => Ok(Some(found)),
                None => ChatTemplate::of_package(id, None, None),
            };
        }
        let (template, config) = (source.load_file(id, TEMPLATE)?, source.load_file(id, CONFIG)?);
        ChatTemplate::of_package(id, template.as_deref(), config.as_deref())
    }

    /// The template of the package with this ID, by its `chat_template.jinja` and `tokenizer_config.json`: in this order, or a
    /// built-in one for the ID.
    #[cfg(feature = "tokenizers")]
    pub(crate) fn of_package(id: &str, template: Option<&[u8]>, config: Option<&[u8]>) -> Result<Option<Self>> {
        if let Some(found) = package::template(id, template, config)? {
            return Ok(Some(found));
        }
        let Some(name) = ChatTemplate::builtin_name_for(id.split('@').next().unwrap_or(id)) else { return Ok(None) };
        let mut template = ChatTemplate::builtin(name)?;
        if let Some(config) = config {
            template.special_tokens = package::special_tokens(&package::object(id, config)?);
        }
        Ok(Some(template))
    }
}

fn of_path(path: &Path) -> Result<Option<ChatTemplate>> {
    let shown = path.display().to_string();
    if path.is_dir() {
        return of_directory(path);
    }
    let parent = parent_of(path);
    match FileKind::of(path) {
        FileKind::Gguf => of_gguf(path),
        FileKind::Model => of_directory(parent),
        FileKind::Json => match package::template(&shown, None, Some(&read(path)?))? {
            Some(template) => Ok(Some(template)),
            None => of_directory(parent),
        },
        FileKind::Other => {
            let is_named = path.file_name().is_some_and(|name| name == TEMPLATE);
            let config = if is_named { read_if_there(&parent.join(CONFIG))? } else { None };
            package::template(&shown, Some(&read(path)?), config.as_deref())
        }
    }
}

fn of_directory(directory: &Path) -> Result<Option<ChatTemplate>> {
    let [template, config] = [TEMPLATE, CONFIG].map(|name| read_if_there(&directory.join(name)));
    package::template(&directory.display().to_string(), template?.as_deref(), config?.as_deref())
}

fn of_gguf(path: &Path) -> Result<Option<ChatTemplate>> {
    let metadata = Metadata::read(path, Metadata::is_for_templates)?;
    let special_tokens = metadata.special_tokens().map(|(name, token)| (name.to_owned(), Value::from(token)));
    let special_tokens = special_tokens.collect::<Map<_, _>>();
    package::of_sources(&path.display().to_string(), &metadata.chat_templates(), special_tokens)
}

/// The bytes of a file, unless it is too large for one that has a template.
fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    let length = read.map_err(|error| unreadable(path, error))?;
    if u64::try_from(length).map_or(true, |length| length > MAX_FILE) {
        let message = format!("{} has more than {MAX_FILE} bytes: it is no chat template", path.display());
        return Err(Error::invalid_input(message).with_hint("give the file of Jinja, or the tokenizer's directory"));
    }
    Ok(bytes)
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        _ => read(path).map(Some),
    }
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{} cannot be read: {error}", path.display())).with_source(error)
}
