//! Carries out what a [`ModelLoader`] was told.

use super::checkpoint::Checkpoint;
use super::download;
use super::parameters::Unread;
use super::stored::cancelled;
use super::{LoadProgress, ModelLoader, WeightPrecision, memory, parameters, text};
use crate::error::{Error, Result};
use crate::local::kernel::Threads;
use crate::local::transformer::Transformer;
use crate::tokenizer::TokenizerSource;

/// More would not start everywhere, and no machine computes faster with them.
const MAX_THREADS: usize = 1024;

/// Loads the model.
pub(super) fn load(loader: &ModelLoader) -> Result<Transformer> {
    if let Some(threads) = loader.threads.filter(|threads| !(1..=MAX_THREADS).contains(threads)) {
        return Err(Error::invalid_input(format!(
            "a model has 1 to {MAX_THREADS} threads, and `threads` is {threads}"
        ))
        .with_hint("leave it out for one thread for each processor"));
    }
    let wanted = || if loader.cancellation.is_cancelled() { Err(cancelled()) } else { Ok(()) };
    let progress = |progress| {
        if let Some(report) = &loader.progress {
            report(progress);
        }
    };
    let source = loader.source.clone().unwrap_or_else(TokenizerSource::from_env);
    let name = loader.served_name()?;
    let path = download::locate(&loader.model, &source, &loader.cancellation, &progress)?;
    let checkpoint = Checkpoint::open(&path, &loader.cancellation)?;
    wanted()?;
    let text = text::package(&checkpoint, &name)?;
    let end_tokens = text::end_tokens(&checkpoint, &text)?;
    let read = |precision, as_half: Option<u64>| {
        let weight_bytes = parameters::bytes(&checkpoint, precision);
        if let Some(free) = memory::available() {
            let working = memory::working_bytes(&checkpoint.config);
            memory::check(&path.display().to_string(), precision, weight_bytes, as_half, working, free)?;
        }
        wanted()?;
        progress(LoadProgress::Planned { precision, weight_bytes });
        parameters::read(&checkpoint, precision, &loader.cancellation, &progress)
    };
    let as_half = parameters::bytes(&checkpoint, WeightPrecision::F16);
    let parameters = match read(parameters::precision(&checkpoint, loader.weights), Some(as_half)) {
        Err(Unread::BeyondHalf(_)) if loader.weights == WeightPrecision::Auto => read(WeightPrecision::F32, None),
        read => read,
    }?;
    let mut config = checkpoint.config;
    config.end_tokens = end_tokens;
    Ok(Transformer::loaded(&name, config, parameters, Threads::new(loader.threads), Some(text)))
}
