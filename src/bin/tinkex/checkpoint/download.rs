//! `tinkex checkpoint download`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tinkex::rest::{Canceller, DownloadOptions, Downloaded};
use tinkex::types::{CheckpointPath, CheckpointType};
use tinkex::{Config, RestClient};

use super::path;
use crate::app::App;
use crate::confirm::confirm;
use crate::download_bar::{DownloadBar, explain};
use crate::failure::Failure;
use crate::human::size;
use crate::text::portable;

/// Download a checkpoint of any type.
///
/// The files appear in a new directory when the download is complete. The download resumes after a lost connection, and waits for
/// an archive that the service is still preparing. Ctrl-C stops it and leaves no files.
///
/// A service may have no archives any more. Then a training checkpoint is exported first, by a training client that is created from
/// it: the service may charge for that, and the command asks first. If stdin is not a terminal, --yes is required.
#[derive(Args, Debug)]
pub(crate) struct Download {
    /// Path of the checkpoint, such as tinker://RUN_ID/weights/0001.
    #[arg(value_parser = path)]
    path: CheckpointPath,
    /// Directory to create [default: RUN_ID_weights_NAME in the current directory].
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Replace an existing directory or file, once the download is complete.
    #[arg(long, visible_alias = "force")]
    overwrite: bool,
    /// Save the tar archive without unpacking it; it may be compressed with gzip.
    #[arg(long)]
    archive: bool,
    /// Export a training checkpoint without asking, if the service has no archive of it.
    #[arg(short, long)]
    yes: bool,
}

#[derive(Serialize)]
struct DownloadReport<'a> {
    tinker_path: &'a str,
    path: String,
    archive_bytes: u64,
    files: Option<u64>,
}

pub(crate) fn run(app: &App, options: &Download) -> Result<(), Failure> {
    let Download { path, output, archive, .. } = options;
    let config = app.config()?;
    app.require_service(&config)?;
    let output = output.clone().unwrap_or_else(|| default_output(path, *archive));
    let rest = RestClient::new(config.clone())?;
    let cancellers = Cancellers::catch(app)?;
    let downloaded = match fetch(options, &output, &cancellers, |path, download| {
        rest.download_checkpoint_archive_from_tinker_path(path, download)
    }) {
        Err(error) if is_exportable(&rest, options, &error)? => {
            if !options.yes {
                confirm(&question(path), "Export it now?", "nothing was downloaded")?;
            }
            export(app, options, &output, &cancellers, config)?
        }
        other => other.map_err(|error| explain(app, &output, error))?,
    };
    let report = DownloadReport {
        tinker_path: path.as_str(),
        path: downloaded.path.display().to_string(),
        archive_bytes: downloaded.archive_bytes,
        files: downloaded.files,
    };
    let files = match report.files {
        Some(1) => "1 file, ".to_owned(),
        Some(files) => format!("{files} files, "),
        None => String::new(),
    };
    let text = format!(
        "downloaded {path} to {} ({files}{})",
        report.path,
        size(Some(report.archive_bytes)),
        path = path.as_str()
    );
    app.output.report(&text, &report)
}

/// Cancels whichever download runs when the user presses Ctrl-C.
struct Cancellers(crossbeam_channel::Sender<Canceller>);

impl Cancellers {
    fn catch(app: &App) -> Result<Self, Failure> {
        let (sender, cancellers) = crossbeam_channel::unbounded::<Canceller>();
        // Those of downloads that begin later, too.
        app.interrupt.catch_and_call(move || cancellers.iter().for_each(|canceller| canceller.cancel()))?;
        Ok(Cancellers(sender))
    }
}

/// Downloads with a progress bar.
fn fetch(
    options: &Download,
    output: &Path,
    cancellers: &Cancellers,
    download: impl FnOnce(&str, DownloadOptions<'_>) -> tinkex::Result<Downloaded>,
) -> tinkex::Result<Downloaded> {
    let bar = DownloadBar::start();
    let to = DownloadOptions::new(output).overwrite(options.overwrite).extract(!options.archive);
    let to = to.progress(|at| bar.show(at));
    // Without a thread that waits for signals, there is nothing to cancel.
    cancellers.0.send(to.canceller()).unwrap_or_default();
    let downloaded = download(options.path.as_str(), to);
    bar.end();
    downloaded
}

/// Whether the error says that there is no archive, although there is such a training checkpoint.
fn is_exportable(rest: &RestClient, options: &Download, error: &tinkex::Error) -> Result<bool, Failure> {
    let path = &options.path;
    let has_no_archive = matches!(error.status(), Some(404 | 405 | 410));
    if !has_no_archive || options.archive || path.checkpoint_type() != CheckpointType::Training {
        return Ok(false);
    }
    // The run may be unknown as well: then the first error says so.
    let checkpoints = rest.list_checkpoints(path.training_run_id()).map(|list| list.checkpoints).unwrap_or_default();
    Ok(checkpoints.iter().any(|checkpoint| checkpoint.tinker_path == path.as_str()))
}

fn question(path: &CheckpointPath) -> Vec<String> {
    vec![
        format!("The service has no archive of {}.", path.as_str()),
        "It can be exported: a training client is created from it, and the export is downloaded and deleted again."
            .to_owned(),
        "The service may charge for the training client.".to_owned(),
    ]
}

fn export(
    app: &App,
    options: &Download,
    output: &Path,
    cancellers: &Cancellers,
    config: Config,
) -> Result<Downloaded, Failure> {
    app.output.note("exporting the checkpoint; this may take minutes");
    App::in_session(config, |service| {
        fetch(options, output, cancellers, |path, download| service.export_and_download_checkpoint(path, download))
            .map_err(|error| explain(app, output, error))
    })
}

/// The name of the checkpoint as one file name.
fn default_output(path: &CheckpointPath, archive: bool) -> PathBuf {
    let name = portable(&format!("{}_{}", path.training_run_id(), path.checkpoint_id()));
    PathBuf::from(if archive { name + ".tar" } else { name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_output_is_a_portable_file_name() {
        let path = "tinker://a:train:0/sampler_weights/x y".parse::<CheckpointPath>().unwrap();
        assert_eq!(default_output(&path, false), PathBuf::from("a_train_0_sampler_weights_x_y"));
        assert_eq!(default_output(&path, true), PathBuf::from("a_train_0_sampler_weights_x_y.tar"));
    }
}
