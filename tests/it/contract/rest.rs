//! Stored runs, checkpoints and sessions.

use tinkex::types::Checkpoint;

use super::Check;
use super::scene::{Scene, ensure};

pub const CHECKS: &[Check] = &[
    ("list of training runs", |scene| {
        ensure(!scene.rest().list_training_runs(5, 0)?.training_runs.is_empty(), "no run is listed")
    }),
    ("training run", |scene| {
        let id = scene.trainer()?.model_id();
        ensure(scene.rest().get_training_run(id)?.training_run_id == id, "another run")
    }),
    ("checkpoints of a run", |scene| {
        let path = scene.state()?.0;
        ensure(checkpoints(scene)?.iter().any(|c| c.tinker_path == path), "the saved weights are not listed")
    }),
    ("checkpoints of the user", |scene| {
        let listed = scene.rest().list_user_checkpoints(100, 0)?.checkpoints;
        let path = scene.state()?.0;
        ensure(listed.iter().any(|c| c.tinker_path == path), "the saved weights are not listed")
    }),
    ("information about saved weights", |scene| {
        let info = scene.rest().get_weights_info_by_tinker_path(scene.state()?.0)?;
        ensure(info.base_model == scene.model, format!("another base model, {:?}", info.base_model))
    }),
    ("publish and unpublish", |scene| {
        let path = scene.state()?.0;
        scene.rest().publish_checkpoint_from_tinker_path(path)?;
        Ok(scene.rest().unpublish_checkpoint_from_tinker_path(path)?)
    }),
    ("archive of sampler weights", |scene| {
        Ok(scene.rest().get_checkpoint_archive_url_from_tinker_path(scene.sampler_weights()?).map(drop)?)
    }),
    ("list of sessions", |scene| {
        ensure(!scene.rest().list_sessions(5, 0)?.sessions.is_empty(), "no session is listed")
    }),
    ("session", |scene| {
        let runs = scene.rest().get_session(scene.service.session_id())?.training_run_ids;
        ensure(runs.iter().any(|run| scene.trainer().is_ok_and(|t| t.model_id() == run)), "its run is not listed")
    }),
    ("delete a checkpoint", |scene| {
        scene.rest().delete_checkpoint_from_tinker_path(scene.sampler_weights()?)?;
        let path = scene.sampler_weights()?;
        ensure(checkpoints(scene)?.iter().all(|c| c.tinker_path != path), "the checkpoint is still listed")
    }),
];

pub fn checkpoints(scene: &Scene) -> Result<Vec<Checkpoint>, Box<dyn std::error::Error>> {
    Ok(scene.rest().list_checkpoints(scene.trainer()?.model_id())?.checkpoints)
}
