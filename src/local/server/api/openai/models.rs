//! The models that can be asked: base models, and checkpoints by their paths.

use std::collections::{HashMap, VecDeque};
use std::slice::from_ref;
use std::sync::Arc;

use parking_lot::Mutex;

use super::local_model::LocalModel;
use super::refusal::refused;
use crate::chat::{ChatTemplate, Renderer};
use crate::local::model::{KvNamespace, Model};
use crate::local::openai::{ApiError, ModelEntry, TextFormat};
use crate::local::server::state::{
    AdapterCache, CheckpointRecord, Owner, SamplingSessionRecord, ServerState, Tables, Weights, timestamp,
};
use crate::tokenizer::Tokenizer;
use crate::types::{CheckpointPath, CheckpointType, Timestamp};

/// How many checkpoints stay open, those that were asked last.
const MAX_CHECKPOINTS: usize = 64;

/// What begins the name of a checkpoint.
const CHECKPOINT: &str = "tinker://";

/// The models of a server, with what was found out about them.
pub(super) struct Models {
    started: u64,
    formats: Mutex<HashMap<String, Arc<TextFormat>>>,
    /// The one asked last is at the end.
    checkpoints: Mutex<VecDeque<OpenCheckpoint>>,
}

/// A checkpoint, and what is kept of its prompts.
#[derive(Clone)]
struct OpenCheckpoint {
    path: String,
    /// When it was saved: another time means other weights.
    time: Timestamp,
    adapter: Arc<AdapterCache>,
    namespace: KvNamespace,
}

impl Models {
    pub(super) fn new(started: u64) -> Self {
        Models { started, formats: Mutex::default(), checkpoints: Mutex::default() }
    }

    /// The base models, and the owner's checkpoints.
    pub(super) fn list(&self, state: &ServerState, owner: &Owner) -> Vec<ModelEntry> {
        let mut models: Vec<ModelEntry> = state.models.iter().map(|model| self.base_entry(&**model)).collect();
        let now = timestamp();
        let tables = state.lock();
        let own = tables.checkpoints.iter().filter(|(_, record)| &record.owner == owner && !record.is_expired(&now));
        let answers = |path: &str| {
            path.parse::<CheckpointPath>().is_ok_and(|path| path.checkpoint_type() != CheckpointType::External)
        };
        let own = own.filter(|(path, _)| answers(path));
        models.extend(own.map(|(path, record)| checkpoint_entry(state, path, record)));
        models
    }

    /// One model, which may be a published checkpoint of another key.
    pub(super) fn entry(&self, state: &ServerState, owner: &Owner, name: &str) -> Result<ModelEntry, ApiError> {
        if name.starts_with(CHECKPOINT) {
            let tables = state.lock();
            return Ok(checkpoint_entry(state, name, readable(&tables, owner, name)?));
        }
        let model = state.model(name).map_err(|refusal| ApiError::model_not_found(refusal.detail()))?;
        Ok(self.base_entry(&*model))
    }

    /// Opens the model with this name.
    pub(super) fn open(&self, state: &Arc<ServerState>, owner: &Owner, name: &str) -> Result<LocalModel, ApiError> {
        let (base_model, weights, time) = if name.starts_with(CHECKPOINT) {
            let tables = state.lock();
            let record = readable(&tables, owner, name)?;
            (record.base_model.clone(), Weights::Checkpoint(name.to_owned()), Some(record.time.clone()))
        } else {
            (name.to_owned(), Weights::Base, None)
        };
        let model = state.model(&base_model).map_err(|refusal| ApiError::model_not_found(refusal.detail()))?;
        let (adapter, namespace) = match time {
            Some(time) => self.checkpoint(name, time),
            None => (Arc::default(), KvNamespace::new()),
        };
        Ok(LocalModel {
            format: self.format(&*model)?,
            state: Arc::clone(state),
            model,
            record: SamplingSessionRecord { owner: owner.clone(), session_id: String::new(), base_model, weights },
            adapter,
            namespace,
        })
    }

    fn checkpoint(&self, path: &str, time: Timestamp) -> (Arc<AdapterCache>, KvNamespace) {
        let mut checkpoints = self.checkpoints.lock();
        let found = checkpoints.iter().position(|open| open.path == path && open.time == time);
        let open = found.and_then(|index| checkpoints.remove(index)).unwrap_or_else(|| OpenCheckpoint {
            path: path.to_owned(),
            time,
            adapter: Arc::default(),
            namespace: KvNamespace::new(),
        });
        // Earlier weights of the path are of no use.
        checkpoints.retain(|other| other.path != path);
        if checkpoints.len() >= MAX_CHECKPOINTS {
            checkpoints.pop_front();
        }
        checkpoints.push_back(open.clone());
        (open.adapter, open.namespace)
    }

    /// How the model reads and writes text. Found out once: the template is rendered several times for that.
    fn format(&self, model: &dyn Model) -> Result<Arc<TextFormat>, ApiError> {
        if let Some(format) = self.formats.lock().get(model.name()) {
            return Ok(Arc::clone(format));
        }
        let (tokenizer, template) = match model.text_package() {
            Some(package) => {
                let file = |name| package.get(name);
                let template =
                    ChatTemplate::of_package(model.name(), file("chat_template.jinja"), file("tokenizer_config.json"));
                (package.tokenizer().clone(), template.map_err(|error| ApiError::from(&error))?)
            }
            None if model.tokenizer() == Tokenizer::bytes().id() => (Tokenizer::bytes(), None),
            None => {
                let problem = "has no tokenizer on this server: use Tinker's API, which takes tokens";
                return Err(ApiError::new(400, format!("the model {} {problem}", model.name())));
            }
        };
        // Without a template, the format that the program uses.
        let template = template.map_or_else(|| ChatTemplate::builtin("plain"), Ok);
        let renderer = template.and_then(|template| Renderer::new(template, tokenizer));
        let renderer = renderer.map_err(|error| ApiError::from(&error))?;
        let format = Arc::new(TextFormat::new(renderer, model.end_tokens()));
        self.formats.lock().insert(model.name().to_owned(), Arc::clone(&format));
        Ok(format)
    }

    fn base_entry(&self, model: &dyn Model) -> ModelEntry {
        ModelEntry {
            name: model.name().to_owned(),
            created: self.started,
            base_model: None,
            context_length: Some(model.context_length()),
        }
    }
}

/// The checkpoint with this path, which the owner may read.
fn readable<'a>(tables: &'a Tables, owner: &Owner, path: &str) -> Result<&'a CheckpointRecord, ApiError> {
    tables.readable_checkpoint(path, from_ref(owner)).map_err(|refusal| match refusal.status {
        404 => ApiError::model_not_found(refusal.detail()),
        _ => refused(&refusal),
    })
}

fn checkpoint_entry(state: &ServerState, path: &str, record: &CheckpointRecord) -> ModelEntry {
    ModelEntry {
        name: path.to_owned(),
        created: u64::try_from(record.time.unix_seconds()).unwrap_or_default(),
        base_model: Some(record.base_model.clone()),
        context_length: state.model(&record.base_model).ok().map(|model| model.context_length()),
    }
}
