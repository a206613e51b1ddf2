//! `tinkex checkpoint download`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use tinkex::rest::DownloadOptions;
use tinkex::types::CheckpointPath;
use tinkex::{ErrorKind, RestClient};

use super::path;
use crate::app::App;
use crate::bars;
use crate::failure::Failure;
use crate::human::size;

/// Download a checkpoint.
///
/// The checkpoint is unpacked into a new directory, which appears only when the download is complete. The download resumes after
/// a lost connection, and waits for an archive that the service is still preparing. Ctrl-C stops it and leaves no files.
#[derive(Args, Debug)]
pub(crate) struct Download {
    /// Path of the checkpoint, such as tinker://RUN_ID/weights/0001.
    #[arg(value_parser = path)]
    path: CheckpointPath,
    /// Directory to create [default: RUN_ID_weights_NAME in the current directory].
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Replace an existing directory or file, once the download is complete.
    #[arg(long)]
    overwrite: bool,
    /// Save the tar archive without unpacking it; it may be compressed with gzip.
    #[arg(long)]
    archive: bool,
}

#[derive(Serialize)]
struct DownloadReport<'a> {
    tinker_path: &'a str,
    path: String,
    archive_bytes: u64,
    files: Option<u64>,
}

pub(crate) fn run(app: &App, Download { path, output, overwrite, archive }: &Download) -> Result<(), Failure> {
    let config = app.config()?;
    app.require_service(&config)?;
    let rest = RestClient::new(config)?;
    let output = output.clone().unwrap_or_else(|| default_output(path, *archive));
    let bar = bars::bytes();
    let shown_bar = bar.clone();
    let options = DownloadOptions::new(&output).overwrite(*overwrite).extract(!archive).progress(move |progress| {
        if let Some(total) = progress.total {
            shown_bar.set_length(total);
        }
        shown_bar.set_position(progress.bytes);
    });
    let canceller = options.canceller();
    app.interrupt.catch_and_call(move || canceller.cancel())?;
    let downloaded = rest.download_checkpoint_archive_from_tinker_path(path.as_str(), options);
    bar.finish_and_clear();
    let downloaded = downloaded.map_err(|error| match error.kind() {
        ErrorKind::Cancelled if app.interrupt.is_requested() => {
            Failure::interrupted("download interrupted; no files were left")
        }
        ErrorKind::InvalidInput if output.exists() => {
            Failure::from(error).hint("choose another --output, or pass --overwrite")
        }
        _ => error.into(),
    })?;
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

/// The name of the checkpoint as one file name that is valid on every file system.
fn default_output(path: &CheckpointPath, archive: bool) -> PathBuf {
    let name = format!("{}_{}", path.training_run_id(), path.checkpoint_id());
    let portable = |letter: char| if letter.is_alphanumeric() || "-_.".contains(letter) { letter } else { '_' };
    let name: String = name.chars().map(portable).collect();
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
