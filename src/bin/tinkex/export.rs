//! `tinkex export`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use clap::{Args, ValueEnum};
use serde::Serialize;
use tinkex::local::export::{AdapterExport, ExportPrecision, ExportProgress, Exported};
use tinkex::local::model::Cancellation;
use tinkex::types::CheckpointPath;
use tinkex::{ErrorKind, TokenizerSource};

use crate::app::App;
use crate::checkpoint::obtain::{Wanted, obtain};
use crate::failure::Failure;
use crate::human::{counted, size};
use crate::screen::{self, Status, Unit};

/// Export the adapter of a checkpoint for other programs, or merge it into its base model.
///
/// Without --merge, the new directory has the adapter in PEFT's format, as PEFT and vLLM read it. With --merge, it has the whole model in
/// Hugging Face's format, which `tinkex serve --model` and other programs serve. It appears when everything is written; after an error
/// or Ctrl-C nothing is left.
///
/// Models of the Llama, Mistral, Qwen2 and Qwen3 families are known. A checkpoint of a service is downloaded first: if the service
/// has no archives any more, the command asks before it has a training checkpoint exported, as `checkpoint download` does.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Path of the checkpoint, such as tinker://RUN_ID/sampler_weights/0001, or a directory or archive that was downloaded.
    #[arg(value_name = "CHECKPOINT", value_parser = Source::parse)]
    checkpoint: Source,
    /// Directory to create.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Merge the adapter into this model: a directory in Hugging Face's format, a GGUF file, or an ID on the hub.
    #[arg(long, value_name = "BASE")]
    merge: Option<String>,
    /// Type of the merged model's numbers [default: as each tensor of the base has them; f32 for quantised ones].
    #[arg(long, value_name = "TYPE", requires = "merge")]
    dtype: Option<DType>,
    /// Replace an existing directory, once everything is written.
    #[arg(long, visible_alias = "force")]
    overwrite: bool,
    /// Have a training checkpoint exported without asking, if the service has no archive of it.
    #[arg(short, long)]
    yes: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DType {
    F32,
    F16,
    Bf16,
}

/// Where the checkpoint is.
#[derive(Clone, Debug)]
enum Source {
    Service(CheckpointPath),
    Disk(PathBuf),
}

impl Source {
    fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("tinker://") {
            return text.parse().map(Source::Service).map_err(|error: tinkex::Error| error.to_string());
        }
        Ok(Source::Disk(PathBuf::from(text)))
    }

    fn name(&self) -> String {
        match self {
            Source::Service(path) => path.as_str().to_owned(),
            Source::Disk(path) => path.display().to_string(),
        }
    }
}

#[derive(Serialize)]
struct ExportReport<'a> {
    checkpoint: &'a str,
    base: Option<&'a str>,
    path: String,
    files: u64,
    bytes: u64,
    matrices: usize,
    untied: bool,
}

pub(crate) fn run(app: &App, options: &Options) -> Result<(), Failure> {
    let Options { checkpoint, to, merge, .. } = options;
    // Before a download, which may take long.
    if !options.overwrite && to.symlink_metadata().is_ok() {
        let exists = Failure::usage(format!("{} already exists", to.display()));
        return Err(exists.hint("choose another --to, or pass --overwrite"));
    }
    let exported = match checkpoint {
        Source::Disk(path) => export(app, options, path)?,
        Source::Service(path) => {
            let folder = Folder::beside(to);
            let wanted = Wanted { path, output: &folder.0, overwrite: true, archive: false, yes: options.yes };
            obtain(app, &wanted)?;
            export(app, options, &folder.0)?
        }
    };
    let name = checkpoint.name();
    let Exported { files, bytes, matrices, untied, .. } = exported;
    let report = ExportReport {
        checkpoint: &name,
        base: merge.as_deref(),
        path: exported.path.display().to_string(),
        files,
        bytes,
        matrices,
        untied,
    };
    let into = merge.as_ref().map_or(String::new(), |base| format!(", merged into {base},"));
    let written = format!("{}, {}", counted(files, "file"), size(Some(bytes)));
    let mut text = format!("exported {name}{into} to {} ({written})", report.path);
    if untied {
        text.push_str("\nthe model has a head of its own now, since the adapter changes it apart from the embedding");
    }
    app.output.report(&text, &report)
}

/// Exports the checkpoint at this path, with progress.
fn export(app: &App, options: &Options, checkpoint: &Path) -> Result<Exported, Failure> {
    let cancellation = Cancellation::new();
    let cancelled = cancellation.clone();
    app.interrupt.catch_and_call(move || cancelled.cancel())?;
    let progress = screen::start(Status { unit: Unit::Bytes, ..Status::default() });
    let export = AdapterExport::new(checkpoint).overwrite(options.overwrite).cancellation(&cancellation);
    let mut export = export.progress(move |at| progress.update(|status| show(status, at)));
    if let Some(base) = &options.merge {
        export = export.merge_into(base);
        // Only a download needs the configuration.
        if !Path::new(base).exists() {
            export = export.source(&TokenizerSource::from_env().config(&app.config_for_checks(false)?));
        }
    }
    if let Some(dtype) = options.dtype {
        export = export.precision(match dtype {
            DType::F32 => ExportPrecision::F32,
            DType::F16 => ExportPrecision::F16,
            DType::Bf16 => ExportPrecision::Bf16,
        });
    }
    export.write(&options.to).map_err(|error| match error.kind() {
        ErrorKind::Cancelled if app.interrupt.is_requested() => {
            Failure::interrupted("export interrupted; no files were left")
        }
        _ => error.into(),
    })
}

fn show(status: &mut Status, at: ExportProgress) {
    let (note, done, total) = match at {
        ExportProgress::Downloading { file, bytes, total } => (format!("downloading {file}"), bytes, total),
        ExportProgress::Writing { bytes, total } => ("writing the model".to_owned(), bytes, Some(total)),
        _ => return,
    };
    (status.note, status.done, status.total) = (note, Some(done), total);
}

/// A directory for the checkpoint, until the export is done.
struct Folder(PathBuf);

impl Folder {
    /// On the disk of the destination, which has room for the export, too.
    fn beside(to: &Path) -> Self {
        let mut name = OsString::from(".");
        name.push(to.file_name().unwrap_or_default());
        name.push(format!(".checkpoint-{}", process::id()));
        Folder(to.with_file_name(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing is there if the download failed.
        fs::remove_dir_all(&self.0).ok();
    }
}
