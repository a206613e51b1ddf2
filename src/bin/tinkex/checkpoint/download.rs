//! `tinkex checkpoint download`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use tinkex::rest::DownloadOptions;
use tinkex::types::CheckpointPath;
use tinkex::{ErrorKind, RestClient};

use super::path;
use crate::app::App;
use crate::errors::Failure;
use crate::human::size;
use crate::progress;

/// Download a checkpoint.
///
/// It is unpacked into a new directory, which comes into being once it is whole. A cut connection is taken up where it ended, and
/// an archive that is still being made is waited for. Ctrl-C ends the download and leaves nothing behind.
#[derive(Args, Debug)]
pub(crate) struct Download {
    /// Such as tinker://RUN_ID/weights/0001.
    #[arg(value_parser = path)]
    path: CheckpointPath,
    /// The directory to make; else RUN_ID_weights_NAME here.
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Replace what is there, once the download is whole.
    #[arg(long)]
    overwrite: bool,
    /// Keep the archive as it is, a tar file with or without gzip, instead of unpacking it.
    #[arg(long)]
    archive: bool,
}

#[derive(Serialize)]
struct Outcome<'a> {
    tinker_path: &'a str,
    path: String,
    archive_bytes: u64,
    files: Option<u64>,
}

pub(crate) fn run(app: &App, Download { path, output, overwrite, archive }: &Download) -> Result<(), Failure> {
    let config = app.config()?;
    app.reach(&config)?;
    let rest = RestClient::new(config)?;
    let output = output.clone().unwrap_or_else(|| default_output(path, *archive));
    let bar = progress::bytes();
    let watched = bar.clone();
    let options = DownloadOptions::new(&output).overwrite(*overwrite).extract(!archive).progress(move |at| {
        if let Some(total) = at.total {
            watched.set_length(total);
        }
        watched.set_position(at.bytes);
    });
    let canceller = options.canceller();
    app.interrupt.take_calling(move || canceller.cancel())?;
    let downloaded = rest.download_checkpoint_archive_from_tinker_path(path.as_str(), options);
    bar.finish_and_clear();
    let downloaded = downloaded.map_err(|error| match error.kind() {
        ErrorKind::Cancelled if app.interrupt.is_requested() => {
            Failure::interrupted("the download was interrupted; nothing of it is left")
        }
        ErrorKind::InvalidInput if output.exists() => {
            Failure::from(error).hint("choose another --output, or give --overwrite")
        }
        _ => error.into(),
    })?;
    let outcome = Outcome {
        tinker_path: path.as_str(),
        path: downloaded.path.display().to_string(),
        archive_bytes: downloaded.archive_bytes,
        files: downloaded.files,
    };
    let what = match outcome.files {
        Some(1) => "1 file, ".to_owned(),
        Some(files) => format!("{files} files, "),
        None => String::new(),
    };
    let text = format!(
        "downloaded {path} to {} ({what}{})",
        outcome.path,
        size(Some(outcome.archive_bytes)),
        path = path.as_str()
    );
    app.output.report(&text, &outcome)
}

/// What the path names, as one name in the working directory that every file system takes.
fn default_output(path: &CheckpointPath, archive: bool) -> PathBuf {
    let name = format!("{}_{}", path.training_run_id(), path.checkpoint_id());
    let plain = |letter: char| if letter.is_alphanumeric() || "-_.".contains(letter) { letter } else { '_' };
    let name: String = name.chars().map(plain).collect();
    PathBuf::from(if archive { name + ".tar" } else { name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_output_is_one_name_that_every_file_system_takes() {
        let path = CheckpointPath::parse("tinker://a:train:0/sampler_weights/x y").unwrap();
        assert_eq!(default_output(&path, false), PathBuf::from("a_train_0_sampler_weights_x_y"));
        assert_eq!(default_output(&path, true), PathBuf::from("a_train_0_sampler_weights_x_y.tar"));
    }
}
