//! Carries out what an [`AdapterExport`] was told.

use std::fs;
use std::path::{Path, PathBuf};

use super::adapter::{LoraAdapter, refused};
use super::merge::Plan;
use super::{AdapterExport, ExportProgress, Exported, base_files, peft};
use crate::error::{Error, ErrorKind, Result};
use crate::local::checkpoint_files::CONFIG;
use crate::local::pretrained::checkpoint::Checkpoint;
use crate::local::pretrained::{LoadProgress, locate};
use crate::rest::{DownloadOptions, StagingDir, io_error, unpack};
use crate::tokenizer::TokenizerSource;

/// Exports into a new directory.
pub(super) fn export(export: &AdapterExport, to: &Path) -> Result<Exported> {
    if export.base.is_none() && export.precision.is_some() {
        return Err(Error::invalid_input("the precision of an export is that of a merged model, and none is merged")
            .with_hint("name the base model, or leave the precision out; an adapter alone keeps its own"));
    }
    assemble(export, to).map_err(|error| match error.kind() {
        ErrorKind::Cancelled => Error::new(ErrorKind::Cancelled, "the export was cancelled; no files were left"),
        _ => error,
    })
}

fn assemble(export: &AdapterExport, to: &Path) -> Result<Exported> {
    let cancellation = &export.cancellation;
    keep_clear(to, &export.checkpoint)?;
    let staging = StagingDir::create(to, export.overwrite)?;
    let directory = checkpoint_directory(export, &staging)?;
    let adapter = LoraAdapter::read(&directory, &export.checkpoint, cancellation)?;
    let content = staging.content();
    let created = |error| io_error("created", &content, error);
    let unties = match &export.base {
        None => {
            fs::create_dir(&content).map_err(created)?;
            peft::write(&adapter, &content)?;
            false
        }
        Some(base) => {
            let base = open_base(export, base)?;
            keep_clear(to, &base.path)?;
            let plan = Plan::new(&base, &adapter, export.precision)?;
            fs::create_dir(&content).map_err(created)?;
            base_files::write(&base, &plan, export.precision, &content)?;
            let total = plan.bytes();
            let report = |bytes| export.report(ExportProgress::Writing { bytes, total });
            report(0);
            plan.write(&content, cancellation, &report)?;
            plan.unties
        }
    };
    let (files, bytes) = size(&content)?;
    wanted(export)?;
    staging.install(&content)?;
    Ok(Exported { path: to.to_owned(), files, bytes, matrices: adapter.modules.len(), untied: unties })
}

impl AdapterExport {
    fn report(&self, progress: ExportProgress) {
        if let Some(report) = &self.progress {
            report(progress);
        }
    }
}

/// Refuses a destination that is one of the sources, or holds it: to overwrite it would delete that.
fn keep_clear(to: &Path, source: &Path) -> Result<()> {
    let (Ok(destination), Ok(real)) = (fs::canonicalize(to), fs::canonicalize(source)) else { return Ok(()) };
    if !real.starts_with(&destination) {
        return Ok(());
    }
    let message = format!("the destination {} would replace {}, which is read", to.display(), source.display());
    Err(Error::invalid_input(message).with_hint("choose another destination"))
}

/// Fails once the export was cancelled.
fn wanted(export: &AdapterExport) -> Result<()> {
    match export.cancellation.is_cancelled() {
        true => Err(Error::new(ErrorKind::Cancelled, "the export was cancelled")),
        false => Ok(()),
    }
}

/// The directory with the adapter: the checkpoint itself, or its archive, unpacked.
fn checkpoint_directory(export: &AdapterExport, staging: &StagingDir) -> Result<PathBuf> {
    let checkpoint = &export.checkpoint;
    if checkpoint.is_dir() {
        return Ok(checkpoint.clone());
    }
    fs::metadata(checkpoint).map_err(|error| {
        Error::new(ErrorKind::Io, format!("the checkpoint {} cannot be read: {error}", checkpoint.display()))
            .with_hint(
                "name a directory with an adapter, or its archive; a checkpoint of a service is downloaded first",
            )
            .with_source(error)
    })?;
    let unpacked = staging.archive();
    unpack(checkpoint, &unpacked, DownloadOptions::new("").unpack_limits(), &|| wanted(export))?;
    if unpacked.join(CONFIG).is_file() {
        return Ok(unpacked);
    }
    // Made of a folder, and not of its files.
    let entries = fs::read_dir(&unpacked).map(|entries| entries.flatten().map(|entry| entry.path()));
    let mut folders: Vec<PathBuf> = entries.into_iter().flatten().filter(|path| path.join(CONFIG).is_file()).collect();
    match folders.len() {
        1 => Ok(folders.remove(0)),
        0 => Err(refused(checkpoint, &format!("it has no {CONFIG}"))),
        count => Err(refused(checkpoint, &format!("it has {count} folders with an {CONFIG}"))
            .with_hint("unpack the archive, and export one of its folders")),
    }
}

fn open_base(export: &AdapterExport, base: &str) -> Result<Checkpoint> {
    let source = export.source.clone().unwrap_or_else(TokenizerSource::from_env);
    let progress = |progress| {
        if let LoadProgress::Downloading { file, bytes, total } = progress {
            export.report(ExportProgress::Downloading { file, bytes, total });
        }
    };
    let path = locate(base, &source, &export.cancellation, &progress)?;
    Checkpoint::open(&path, &export.cancellation)
}

/// The number of files in a directory, and their bytes.
fn size(directory: &Path) -> Result<(u64, u64)> {
    let sizes = fs::read_dir(directory).and_then(|entries| {
        entries.map(|entry| entry.and_then(|entry| entry.metadata()).map(|metadata| metadata.len())).collect()
    });
    let sizes: Vec<u64> = sizes.map_err(|error| io_error("read", directory, error))?;
    Ok((sizes.len() as u64, sizes.iter().sum()))
}
