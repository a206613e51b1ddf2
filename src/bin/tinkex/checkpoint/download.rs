//! `tinkex checkpoint download`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use tinkex::types::CheckpointPath;

use super::obtain::{Wanted, obtain};
use super::path;
use crate::app::App;
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
    let Download { path, output, archive, overwrite, yes } = options;
    let output = output.clone().unwrap_or_else(|| default_output(path, *archive));
    let wanted = Wanted { path, output: &output, overwrite: *overwrite, archive: *archive, yes: *yes };
    let downloaded = obtain(app, &wanted)?;
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
