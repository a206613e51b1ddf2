//! `--model` and its companions: which models the server has.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use clap::{Args, ValueEnum};
use tinkex::local::model::{Cancellation, Model};
use tinkex::local::pretrained::{LoadProgress, ModelLoader, WeightPrecision};
use tinkex::local::transformer::Transformer;
use tinkex::{ErrorKind, TokenizerSource};

use crate::app::App;
use crate::failure::Failure;
use crate::human;
use crate::number::within;
use crate::screen::{self, Status, Unit};

/// The names of the models of bytes begin so.
const BYTES: &str = "tinkex/bytes";

#[derive(Args, Debug)]
pub(super) struct ModelOptions {
    /// Model to serve: the path of a directory or GGUF file, an ID on the hub such as organization/name, or one of
    /// tinkex/bytes-tiny, tinkex/bytes-small and tinkex/bytes-medium; with =ALIAS under that name; can be repeated. The models of
    /// bytes are always there, unless one of them is named [default: the models of bytes].
    #[arg(long = "model", value_name = "PATH|ID|NAME[=ALIAS]", value_parser = parse)]
    models: Vec<Named>,
    /// How the weights of real models are kept in memory: 2 bytes each (f16), 4 bytes (f32), or as the file has them, which is f16
    /// for types of 16 bits.
    #[arg(long, value_name = "PRECISION", value_enum, default_value_t, requires = "models")]
    weights: Precision,
    /// Threads that compute, for each real model [default: one for each processor].
    #[arg(long, value_name = "N", requires = "models", value_parser = within(1..=1024_usize))]
    threads: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, ValueEnum)]
enum Precision {
    #[default]
    Auto,
    F16,
    F32,
}

/// A value of `--model`.
#[derive(Clone, Debug, PartialEq)]
enum Named {
    Bytes(String),
    Real { model: String, alias: Option<String> },
}

fn of_bytes() -> [Transformer; 3] {
    [Transformer::bytes_tiny(), Transformer::bytes_small(), Transformer::bytes_medium()]
}

fn parse(text: &str) -> Result<Named, String> {
    // A path may have an equals sign in it.
    let (model, alias) = match text.rsplit_once('=').filter(|_| !Path::new(text).exists()) {
        Some((model, alias)) => (model, Some(alias)),
        None => (text, None),
    };
    let has_name = |alias: &str| !alias.is_empty() && !alias.chars().any(|c| c.is_whitespace() || c.is_control());
    match alias {
        _ if model.is_empty() => Err("expected a path, an ID or a name".to_owned()),
        None if model.starts_with(BYTES) => {
            let names = of_bytes().map(|model| model.name().to_owned());
            let is_known = names.iter().any(|name| name == model);
            is_known
                .then(|| Named::Bytes(model.to_owned()))
                .ok_or_else(|| format!("expected one of {}", names.join(", ")))
        }
        Some(_) if model.starts_with(BYTES) => Err("a model of bytes keeps its name".to_owned()),
        Some(alias) if !has_name(alias) => Err("expected a name without spaces after =".to_owned()),
        Some(alias) if alias.starts_with(BYTES) => {
            Err(format!("names that begin with {BYTES} are for models of bytes"))
        }
        alias => Ok(Named::Real { model: model.to_owned(), alias: alias.map(str::to_owned) }),
    }
}

/// The models of bytes, those named or else all, and then the real ones, which are loaded in turn.
pub(super) fn load(app: &App, options: ModelOptions) -> Result<Vec<Arc<dyn Model>>, Failure> {
    let cancellation = Cancellation::new();
    let cancelled = cancellation.clone();
    app.interrupt.catch_and_call(move || cancelled.cancel())?;
    let named = |model: &Transformer| options.models.contains(&Named::Bytes(model.name().to_owned()));
    let (chosen, others): (Vec<_>, Vec<_>) = of_bytes().into_iter().partition(named);
    let is_real = |model: &&Named| matches!(model, Named::Real { .. });
    if (options.weights != Precision::Auto || options.threads.is_some())
        && !options.models.iter().any(|model| is_real(&model))
    {
        return Err(Failure::usage("--weights and --threads are for real models, and none is named")
            .hint("name one with --model, or leave them out"));
    }
    let bytes = if chosen.is_empty() { others } else { chosen };
    let mut models: Vec<Arc<dyn Model>> = bytes.into_iter().map(|model| Arc::new(model) as Arc<dyn Model>).collect();
    let mut loaders: Vec<(String, ModelLoader)> = Vec::new();
    for named in &options.models {
        let Named::Real { model, alias } = named else { continue };
        let loader = loader(app, model, &options)?.cancellation(&cancellation);
        let loader = alias.iter().fold(loader, ModelLoader::name);
        let name = loader.served_name()?;
        if loaders.iter().any(|(taken, _)| *taken == name) || models.iter().any(|model| model.name() == name) {
            return Err(Failure::usage(format!("two models have the name {name:?}"))
                .hint("give one of them another name, as in --model PATH=NAME"));
        }
        loaders.push((name, loader));
    }
    for (_, loader) in loaders {
        models.push(Arc::new(loaded(app, loader)?));
    }
    Ok(models)
}

fn loader(app: &App, model: &str, options: &ModelOptions) -> Result<ModelLoader, Failure> {
    let loader = ModelLoader::new(model).weights(match options.weights {
        Precision::Auto => WeightPrecision::Auto,
        Precision::F16 => WeightPrecision::F16,
        Precision::F32 => WeightPrecision::F32,
    });
    let loader = options.threads.into_iter().fold(loader, ModelLoader::threads);
    // Only a download needs the configuration.
    if Path::new(model).exists() {
        return Ok(loader);
    }
    Ok(loader.source(&TokenizerSource::from_env().config(&app.config_for_checks(false)?)))
}

/// Loads a model, with progress, and says what it takes.
fn loaded(app: &App, loader: ModelLoader) -> Result<Transformer, Failure> {
    let planned = Arc::new(Mutex::new(String::new()));
    let plan = Arc::clone(&planned);
    let progress =
        screen::start(Status { unit: Unit::Bytes, note: "opening the model".to_owned(), ..Status::default() });
    let loader = loader.progress(move |at| {
        if let LoadProgress::Planned { precision, weight_bytes } = &at {
            *plan.lock().unwrap_or_else(PoisonError::into_inner) = memory(*precision, *weight_bytes);
        }
        let (mut is_new, status) = (false, shown(&at));
        let note = status.note.clone();
        progress.update(|now| {
            is_new = now.note != note;
            *now = Status { waits: std::mem::take(&mut now.waits), ..status };
        });
        // Without a terminal there is no line of progress; a download may take long.
        if is_new && matches!(at, LoadProgress::Downloading { .. }) && !screen::is_terminal() {
            screen::line(note);
        }
    });
    let model = loader.load().map_err(|error| match error.kind() {
        ErrorKind::Cancelled if app.interrupt.is_requested() => {
            Failure::interrupted("loading was interrupted; what was downloaded is kept")
        }
        _ => error.into(),
    })?;
    let planned = planned.lock().unwrap_or_else(PoisonError::into_inner);
    screen::line(format_args!("{}: {planned}", model.name()));
    Ok(model)
}

/// How the weights are kept, and the memory that they take.
fn memory(precision: WeightPrecision, bytes: u64) -> String {
    let kept = match precision {
        WeightPrecision::F16 => "f16",
        _ => "f32",
    };
    format!("weights in {kept}, {}", human::size(Some(bytes)))
}

/// What the line of progress shows.
fn shown(at: &LoadProgress) -> Status {
    let status = |note: String, done, total| Status { unit: Unit::Bytes, note, done, total, ..Status::default() };
    match at {
        LoadProgress::Downloading { file, bytes, total } => status(format!("downloading {file}"), Some(*bytes), *total),
        LoadProgress::Reading { bytes, total } => status("reading the weights".to_owned(), Some(*bytes), Some(*total)),
        _ => status("reading the weights".to_owned(), None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_may_have_an_alias() {
        let real = |model: &str, alias: Option<&str>| {
            Ok(Named::Real { model: model.to_owned(), alias: alias.map(str::to_owned) })
        };
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("a=b");
        std::fs::create_dir(&odd).unwrap();
        let odd = odd.to_str().unwrap();
        for (text, expected) in [
            ("tinkex/bytes-tiny", Ok(Named::Bytes("tinkex/bytes-tiny".to_owned()))),
            ("acme/small", real("acme/small", None)),
            ("acme/small:a.gguf=small", real("acme/small:a.gguf", Some("small"))),
            ("./a.gguf=acme/small", real("./a.gguf", Some("acme/small"))),
            (odd, real(odd, None)),
            (&format!("{odd}=c"), real(odd, Some("c"))),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        for text in
            ["", "=a", "a.gguf=", "a.gguf=b c", "a.gguf=tinkex/bytes-tiny", "tinkex/bytes-huge", "tinkex/bytes-tiny=a"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn progress_says_what_is_done() {
        let line = |at| {
            let status = shown(&at);
            (status.note, status.done, status.total)
        };
        let downloading = LoadProgress::Downloading { file: "a.gguf".to_owned(), bytes: 1, total: None };
        assert_eq!(line(downloading), ("downloading a.gguf".to_owned(), Some(1), None));
        assert_eq!(line(LoadProgress::Reading { bytes: 1, total: 2 }).1, Some(1));
        assert_eq!(memory(WeightPrecision::F16, 3 << 20), "weights in f16, 3.0 MB");
        assert_eq!(memory(WeightPrecision::F32, 1023), "weights in f32, 1023 B");
    }
}
