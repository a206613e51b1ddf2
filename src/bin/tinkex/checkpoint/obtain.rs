//! Fetches a checkpoint from the service: its archive or external weights, or else an export of them.

use std::path::Path;

use tinkex::rest::{Canceller, DownloadOptions, Downloaded};
use tinkex::types::{CheckpointPath, CheckpointType};
use tinkex::{Config, RestClient};

use crate::app::App;
use crate::confirm::confirm;
use crate::download_bar::{DownloadBar, explain};
use crate::failure::Failure;

/// A checkpoint, and where it is put.
pub(crate) struct Wanted<'a> {
    pub(crate) path: &'a CheckpointPath,
    pub(crate) output: &'a Path,
    /// Replace what is there.
    pub(crate) overwrite: bool,
    /// Leave the archive as it is.
    pub(crate) archive: bool,
    /// Export without a question what the service has no archive of.
    pub(crate) yes: bool,
}

/// Downloads it, with progress; Ctrl-C ends that.
pub(crate) fn obtain(app: &App, wanted: &Wanted<'_>) -> Result<Downloaded, Failure> {
    let config = app.config()?;
    app.require_service(&config)?;
    let rest = RestClient::new(config.clone())?;
    let cancellers = Cancellers::catch(app)?;
    match fetch(wanted, &cancellers, |path, download| rest.download_checkpoint_archive_from_tinker_path(path, download))
    {
        Err(error) if is_exportable(&rest, wanted, &error)? => {
            if !wanted.yes {
                confirm(&question(wanted.path), "Export it now?", "nothing was downloaded")?;
            }
            export(app, wanted, &cancellers, config)
        }
        other => other.map_err(|error| explain(app, wanted.output, error)),
    }
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
    wanted: &Wanted<'_>,
    cancellers: &Cancellers,
    download: impl FnOnce(&str, DownloadOptions<'_>) -> tinkex::Result<Downloaded>,
) -> tinkex::Result<Downloaded> {
    let bar = DownloadBar::start();
    let to = DownloadOptions::new(wanted.output).overwrite(wanted.overwrite).extract(!wanted.archive);
    let to = to.progress(|at| bar.show(at));
    // Without a thread that waits for signals, there is nothing to cancel.
    cancellers.0.send(to.canceller()).unwrap_or_default();
    let downloaded = download(wanted.path.as_str(), to);
    bar.end();
    downloaded
}

/// Whether the error says that there is no archive, although there is such a training checkpoint.
fn is_exportable(rest: &RestClient, wanted: &Wanted<'_>, error: &tinkex::Error) -> Result<bool, Failure> {
    let path = wanted.path;
    let has_no_archive = matches!(error.status(), Some(404 | 405 | 410));
    if !has_no_archive || wanted.archive || path.checkpoint_type() != CheckpointType::Training {
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

fn export(app: &App, wanted: &Wanted<'_>, cancellers: &Cancellers, config: Config) -> Result<Downloaded, Failure> {
    app.output.note("exporting the checkpoint; this may take minutes");
    App::in_session(config, |service| {
        fetch(wanted, cancellers, |path, download| service.export_and_download_checkpoint(path, download))
            .map_err(|error| explain(app, wanted.output, error))
    })
}
