//! Carries out what a [`ModelLoader`] was told.

use super::checkpoint::Checkpoint;
use super::download::{self, Located};
use super::stored::cancelled;
use super::{LoadProgress, ModelLoader, WeightPrecision, memory, parameters, text};
use crate::error::{Error, Result};
use crate::local::kernel::Threads;
use crate::local::transformer::Transformer;
use crate::tokenizer::TokenizerSource;

/// Loads the model.
pub(super) fn load(loader: &ModelLoader) -> Result<Transformer> {
    if loader.threads == Some(0) {
        return Err(
            Error::invalid_input("a model needs a thread, and `threads` is 0").with_hint("leave it out, or set 1")
        );
    }
    let wanted = || if loader.cancellation.is_cancelled() { Err(cancelled()) } else { Ok(()) };
    let progress = |progress| {
        if let Some(report) = &loader.progress {
            report(progress);
        }
    };
    let source = loader.source.clone().unwrap_or_else(TokenizerSource::from_env);
    let Located { path, name } = download::locate(&loader.model, &source, &loader.cancellation, &progress)?;
    let name = loader.name.clone().unwrap_or(name);
    let checkpoint = Checkpoint::open(&path)?;
    wanted()?;
    let text = text::package(&checkpoint, &name)?;
    let end_tokens = text::end_tokens(&checkpoint, &text)?;
    let precision = parameters::precision(&checkpoint, loader.weights);
    let weight_bytes = parameters::bytes(&checkpoint, precision);
    if let Some(free) = memory::available() {
        let as_half = parameters::bytes(&checkpoint, WeightPrecision::F16);
        let working = memory::working_bytes(&checkpoint.config);
        memory::check(&path.display().to_string(), precision, weight_bytes, as_half, working, free)?;
    }
    wanted()?;
    progress(LoadProgress::Planned { precision, weight_bytes });
    let parameters = parameters::read(&checkpoint, precision, &loader.cancellation, &progress)?;
    let mut config = checkpoint.config;
    config.end_tokens = end_tokens;
    Ok(Transformer::loaded(&name, config, parameters, Threads::new(loader.threads), Some(text)))
}
