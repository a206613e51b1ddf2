//! The tokenizers' files of the models, under the ids by which clients and programs for the hub ask for them.

use std::sync::Arc;

use serde_json::Value;

use crate::local::model::{Model, TextPackage};
use crate::rules::tokenizer_id::{BYTES, of_model};
use crate::types::{TokenizerPackage, sha256_hex};

const TEMPLATE: &str = "chat_template.jinja";
const CONFIG: &str = "tokenizer_config.json";

/// The packages of all models that have one.
#[derive(Debug, Default)]
pub(crate) struct TokenizerPackages(Vec<ServedPackage>);

/// A model's package.
#[derive(Debug)]
pub(crate) struct ServedPackage {
    model: Arc<dyn Model>,
    /// What clients are told.
    pub(crate) package: TokenizerPackage,
    /// The only revision that there is, beside the name `main`.
    pub(crate) revision: String,
}

impl TokenizerPackages {
    /// The packages of these models.
    pub(crate) fn new(models: &[Arc<dyn Model>]) -> Self {
        let packages = models.iter().filter_map(|model| {
            let text = model.text_package()?;
            let files = text.files().map(|(name, content)| (name.to_owned(), sha256_hex(content))).collect();
            let package =
                TokenizerPackage { id: tokenizer_id(&**model), files, has_chat_template: has_chat_template(text) };
            let revision = package.revision();
            Some(ServedPackage { model: model.clone(), package, revision }).filter(|it| !it.package.files.is_empty())
        });
        TokenizerPackages(packages.collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The package of a model.
    pub(crate) fn of_model(&self, name: &str) -> Option<&ServedPackage> {
        self.0.iter().find(|served| served.model.name() == name)
    }

    /// The packages with this id: the name of a model, or what clients make of one. Several models may share an id.
    pub(crate) fn with_id<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a ServedPackage> {
        let is_named = move |served: &&ServedPackage| served.model.name() == id;
        let is_derived = move |served: &&ServedPackage| served.model.name() != id && served.package.id == id;
        self.0.iter().filter(is_named).chain(self.0.iter().filter(is_derived))
    }
}

impl ServedPackage {
    pub(crate) fn file(&self, name: &str) -> Option<&[u8]> {
        self.model.text_package()?.get(name)
    }
}

/// The id by which clients load a model's tokenizer. That of a model with a package follows from the model's name, as the official
/// clients derive it, so that they find the package without being told.
pub(crate) fn tokenizer_id(model: &dyn Model) -> String {
    match model.text_package() {
        Some(text) if text.tokenizer().id() != BYTES => of_model(model.name()),
        _ => model.tokenizer().to_owned(),
    }
}

fn has_chat_template(text: &TextPackage) -> bool {
    let in_config = |config: &[u8]| {
        let config: Value = serde_json::from_slice(config).unwrap_or_default();
        !config["chat_template"].is_null()
    };
    text.get(TEMPLATE).is_some() || text.get(CONFIG).is_some_and(in_config)
}
