//! Training, saving and loading.

use tinkex::types::{AdamParams, LossFn, ModelInput, SamplingParams};

use super::{assert_echo, batch, create_trainer, for_each_server};

#[test]
fn the_main_loop_works_everywhere() {
    for_each_server(|double| {
        let name = double.server().name;
        let service = double.connect();
        let trainer = create_trainer(&service);
        let mut pending = Vec::new();
        for number in 0..3 {
            let pass = trainer.submit_forward_backward(batch([number]), LossFn::CrossEntropy).unwrap();
            pending.push((number, pass, trainer.submit_optim_step(AdamParams::default()).unwrap()));
        }
        for (number, pass, step) in pending {
            assert_echo(&pass.wait().unwrap(), [number], name);
            assert_eq!(step.wait().unwrap().metrics.unwrap()["steps"], f64::from(number + 1), "{name}");
        }
        assert_echo(&trainer.forward(batch([7, 8]), LossFn::CrossEntropy).unwrap(), [7, 8], name);
        let state = trainer.save_state("state").unwrap().path;
        let weights = trainer.save_weights_for_sampler("weights").unwrap().path;
        for sampler in
            [service.create_sampling_client(&weights).unwrap(), trainer.save_weights_and_get_sampling_client().unwrap()]
        {
            let params = SamplingParams::default().max_tokens(3).stop("nothing like it");
            let response = sampler.sample(&ModelInput::from_tokens([5, 6, 7]), 2, &params).unwrap();
            assert_eq!(response.sequences.len(), 2, "{name}");
            assert_eq!(response.sequences[1].tokens, [3, 5, 6], "{name}: the steps, then the prompt");
            let logprobs = sampler.compute_logprobs(&ModelInput::from_tokens([1, 512])).unwrap();
            assert_eq!(logprobs, [None, Some(-0.5)], "{name}");
        }
        let again = service.create_training_client_from_state(&state).unwrap();
        assert_echo(&again.forward_backward(batch([1]), LossFn::CrossEntropy).unwrap(), [1], name);
        let world = double.world();
        let loaded = &world.models[again.model_id()].weights;
        assert_eq!((loaded.steps, loaded.optimizer_steps, loaded.rank), (3, 0, 8), "{name}");
    });
}

#[cfg(feature = "ndarray")]
#[test]
fn a_custom_loss_works_everywhere() {
    use crate::support::double::Form;

    for_each_server(|double| {
        let name = double.server().name;
        let trainer = create_trainer(&double.connect());
        let output = trainer.forward_backward_custom(batch([1, 2]), |data, logprobs| -> tinkex::Result<_> {
            assert_eq!(
                (data.len(), logprobs[0].as_slice()),
                (2, Some(&[-9.0 / 1024.0, -10.0 / 1024.0, -11.0 / 1024.0][..]))
            );
            Ok(tinkex::CustomLoss::new(7.0, logprobs.iter().map(|logprobs| logprobs.mapv(|_| 2.0)).collect()))
        });
        assert_eq!(output.unwrap().metrics["loss:sum"], 7.0, "{name}");
        trainer.optim_step(AdamParams::default()).unwrap();
        let runs = double.executions();
        let paths: Vec<_> = runs.iter().map(|run| run.path).collect();
        assert_eq!(paths, ["forward", "forward_backward", "optim_step"], "{name}");
        assert_eq!(runs[1].data[0].inputs["weights"], [-2.0, -2.0, -2.0], "{name}: the negative gradients");
        let form = if double.server().refuses_protobuf.is_some() { Form::Json } else { Form::Protobuf };
        assert_eq!(runs[1].form, form, "{name}");
    });
}

#[test]
fn a_format_chosen_by_the_user_holds() {
    use tinkex::Wire;

    for_each_server(|double| {
        let (name, server) = (double.server().name, double.server().clone());
        for (wire, is_taken) in [(Wire::Json, server.json_passes), (Wire::Protobuf, server.refuses_protobuf.is_none())]
        {
            // A server of 2025 answers protobuf with 500, which says nothing of the format and is repeated as any 500.
            if wire == Wire::Protobuf && server.refuses_protobuf == Some(500) {
                continue;
            }
            let trainer = create_trainer(&crate::support::connect(double.service.config().wire(wire)));
            let pass = trainer.forward_backward(batch([1]), LossFn::CrossEntropy);
            assert_eq!(pass.is_ok(), is_taken, "{name} {wire:?}: {pass:?}");
        }
    });
}

#[test]
fn settings_of_the_service_are_followed() {
    for_each_server(|double| {
        let (name, service) = (double.server().name, double.connect());
        create_trainer(&service).forward_backward(batch([1]), LossFn::CrossEntropy).unwrap();
        let sampler = service.create_sampling_client("base").unwrap();
        sampler.sample(&ModelInput::from_tokens([5]), 1, &SamplingParams::default().max_tokens(2)).unwrap();
        let is_set = |key: &str| double.server().client_config.as_ref().is_some_and(|config| config[key] == true);
        let polls = double.service.requests_to("retrieve_futures");
        assert_eq!(!polls.is_empty(), is_set("sample_use_retrieve_futures"), "{name}");
        let passes = double.service.requests_to("forward_backward");
        let encoding = passes.last().unwrap().header("content-encoding");
        let is_compressed = cfg!(feature = "zstd") && is_set("proto_compress_fwdbwd");
        assert_eq!(encoding, is_compressed.then_some("zstd"), "{name}");
    });
}
