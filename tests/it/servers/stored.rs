//! Saved weights: what a server has of loading them into a new model and downloading them.

use std::fs;

use tinkex::ErrorKind;
use tinkex::types::{AdamParams, LossFn};

use super::{batch, create_trainer, for_each_server};
use crate::support::double::WeightsFiles;

#[test]
fn the_optimizer_is_loaded_only_on_request() {
    for_each_server(|double| {
        let name = double.server().name;
        let service = double.connect();
        let trainer = create_trainer(&service);
        trainer.forward_backward(batch([1]), LossFn::CrossEntropy).unwrap();
        trainer.optim_step(AdamParams::default()).unwrap();
        let state = trainer.save_state("state").unwrap().path;
        let without = service.create_training_client_from_state(&state).unwrap();
        let with = service.create_training_client_from_state_with_optimizer(&state).unwrap();
        let world = double.world();
        let steps = |id: &str| (world.models[id].weights.steps, world.models[id].weights.optimizer_steps);
        assert_eq!((steps(without.model_id()), steps(with.model_id())), ((1, 0), (1, 1)), "{name}");
    });
}

#[test]
fn loading_into_a_trained_model_may_fail() {
    for_each_server(|double| {
        let trainer = create_trainer(&double.connect());
        trainer.forward_backward(batch([1]), LossFn::CrossEntropy).unwrap();
        let state = trainer.save_state("state").unwrap().path;
        let loaded = trainer.load_state(state.as_str());
        assert_eq!(loaded.is_ok(), double.server().loads_into_trained, "{}: {loaded:?}", double.server().name);
        // Either way the client goes on.
        trainer.forward_backward(batch([2]), LossFn::CrossEntropy).unwrap();
    });
}

#[test]
fn weights_are_downloaded_where_they_can_be() {
    for_each_server(|double| {
        let (name, server) = (double.server().name, double.server().clone());
        let service = double.connect();
        let trainer = create_trainer(&service);
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("weights");
        let rest = service.create_rest_client();
        let download = |path: &str| rest.download_checkpoint_archive_from_tinker_path(path, &*into);
        let path = match server.weights_files {
            WeightsFiles::External => trainer.save_weights_external("weights").unwrap().path,
            _ => trainer.save_weights_for_sampler("weights").unwrap().path,
        };
        let downloaded = if server.short_sampler_paths {
            // Such a path does not say which kind of weights it names.
            assert_eq!(download(&path).unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
            download(&trainer.save_state("state").unwrap().path)
        } else {
            download(&path)
        };
        if server.weights_files == WeightsFiles::None {
            assert_eq!(downloaded.unwrap_err().status(), Some(404), "{name}");
        } else {
            downloaded.unwrap();
            let config = fs::read_to_string(into.join("adapter_config.json")).unwrap();
            assert_eq!(config, "{\"r\": 8}", "{name}");
        }
    });
}
