//! Sessions, training, saving and loading.

use std::time::Duration;

use serde_json::json;
use tinkex::types::{AdamParams, LossFn, SaveOptions};

use super::rest::checkpoints;
use super::scene::{Scene, batch, ensure, loss_of, nats};
use super::{Check, Found};

const HOUR: Duration = Duration::from_secs(3600);

pub const REQUIRED: &[Check] = &[
    ("training client", |scene| {
        scene.trainer = Some(scene.create_trainer()?);
        Ok(())
    }),
    ("passes and steps lower the loss", lowers_the_loss),
    ("save training weights", |scene| {
        let saved = scene.trainer()?.save_state(&scene.name)?.path;
        let loss = loss_of(&scene.trainer()?.forward_backward(batch(), LossFn::CrossEntropy)?)?;
        scene.state = Some((saved, loss));
        Ok(())
    }),
    ("save sampler weights", |scene| {
        scene.sampler_weights = Some(scene.trainer()?.save_weights_for_sampler(&scene.name)?.path);
        Ok(())
    }),
];

pub const OPTIONAL: &[Check] = &[
    ("health", |scene| Ok(scene.service.health().map(drop)?)),
    ("client configuration", |scene| {
        let request = scene.service.api().post("/api/v1/client/config").json(&json!({"sdk_version": "0.38.0"}));
        Ok(request.send().map(drop)?)
    }),
    ("list of models", |scene| {
        ensure(!scene.service.get_server_capabilities()?.supported_models.is_empty(), "no model is listed")
    }),
    ("information about the model", |scene| {
        let (trainer, info) = (scene.trainer()?, scene.trainer()?.get_info()?);
        ensure(info.model_id == trainer.model_id(), "another model's information")
    }),
    ("logprobs of a pass", |scene| nats(&scene.trainer()?.forward_backward(batch(), LossFn::CrossEntropy)?).map(drop)),
    ("pass without gradients", |scene| scene.loss().map(drop)),
    ("weights that expire", |scene| {
        let name = format!("{}-expires", scene.name);
        let path = scene.trainer()?.save_state(SaveOptions::new(name).ttl(HOUR))?.path;
        let saved = checkpoints(scene)?.into_iter().find(|saved| saved.tinker_path == path);
        ensure(saved.ok_or("they are not listed")?.expires_at.is_some(), "they are listed without an end")
    }),
    ("weights for other programs", |scene| {
        let name = format!("{}-external", scene.name);
        Ok(scene.trainer()?.save_weights_external(name).map(drop)?)
    }),
    ("load training weights", |scene| {
        let (path, loss) = scene.state()?;
        scene.trainer()?.load_state(path)?;
        is_close(scene.loss()?, loss)
    }),
    ("load with the optimizer's state", |scene| {
        let (path, loss) = scene.state()?;
        scene.trainer()?.load_state_with_optimizer(path)?;
        is_close(scene.loss()?, loss)
    }),
    ("training client from saved weights", |scene| {
        let (path, loss) = scene.state()?;
        let trainer = scene.service.create_training_client_from_state(path)?;
        is_close(loss_of(&trainer.forward(batch(), LossFn::CrossEntropy)?)?, loss)
    }),
    #[cfg(feature = "ndarray")]
    ("custom loss", |scene| {
        let loss = |_: &[_], logprobs: &[ndarray::Array1<f32>]| -> tinkex::Result<_> {
            let gradients = logprobs.iter().map(|logprobs| logprobs.mapv(|_| -1.0)).collect();
            Ok(tinkex::CustomLoss::new(1.0, gradients))
        };
        Ok(scene.trainer()?.forward_backward_custom(batch(), loss).map(drop)?)
    }),
    ("unload a model", |scene| {
        let trainer = scene.create_trainer()?;
        Ok(trainer.unload_model().map(drop)?)
    }),
];

fn lowers_the_loss(scene: &mut Scene) -> Found {
    let trainer = scene.trainer()?;
    let adam = || AdamParams::new().learning_rate(1e-3);
    let first = loss_of(&trainer.forward_backward(batch(), LossFn::CrossEntropy)?)?;
    trainer.optim_step(adam())?;
    let mut pending = Vec::new();
    for _ in 0..5 {
        let pass = trainer.submit_forward_backward(batch(), LossFn::CrossEntropy)?;
        pending.push((pass, trainer.submit_optim_step(adam())?));
    }
    let mut last = first;
    for (pass, step) in pending {
        last = loss_of(&pass.wait()?)?;
        step.wait()?;
    }
    ensure(last < first, format!("six steps did not lower the loss: {first} -> {last}"))
}

fn is_close(loss: f32, expected: f32) -> Found {
    let close = (loss - expected).abs() < 0.05 * expected.max(1.0);
    ensure(close, format!("the loaded weights have the loss {loss} instead of {expected}"))
}
