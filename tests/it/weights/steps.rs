//! Optimizer steps: bad settings, and servers that know only AdamW.

use tinkex::ErrorKind;
use tinkex::types::{AdamParams, DimuonParams, OptimParams};

use super::trainer;
use crate::support::{Service, healthy_service};

#[test]
fn bad_settings_are_refused_before_any_request() {
    let service = Service::start(healthy_service);
    let trainer = trainer(&service);
    let adam = AdamParams::new;
    let bad: [OptimParams; 6] = [
        adam().learning_rate(f64::NAN).into(),
        adam().beta2(1.0).into(),
        adam().grad_clip_norm(-1.0).into(),
        DimuonParams::new(-0.1).into(),
        DimuonParams::new(0.1).beta1(1.0).into(),
        DimuonParams::new(0.1).grad_clip_norm(f64::INFINITY).into(),
    ];
    for params in bad {
        let error = trainer.submit_optim_step(params).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidInput, Some("optim_step")), "{error}");
    }
    trainer.optim_step(DimuonParams::new(0.0)).unwrap();
    let steps = service.requests_to("optim_step");
    assert_eq!((steps.len(), steps[0].seq_id()), (1, Some(1)), "a refused step takes no number");
    assert!(steps[0].body.get("adam_params").is_none());
}

#[cfg(feature = "local")]
#[test]
fn the_local_server_refuses_other_optimizers() {
    use tinkex::types::DimuonOptimizerConfig;
    use tinkex::{Config, ServiceClient, TrainingOptions};
    let server = tinkex::local::LocalServer::start().unwrap();
    let config = Config::builder().base_url(server.base_url()).api_key("tml-local").build_with(|_| None).unwrap();
    let service = ServiceClient::connect(config).unwrap();
    let base = "tinkex/bytes-tiny";
    let dimuon = TrainingOptions::new().optimizer_config(DimuonOptimizerConfig::new());
    let trainer = service.create_lora_training_client(base, TrainingOptions::new()).unwrap();
    let state = trainer.save_state("a").unwrap().path;
    let from_state = service.training_client().from_state(state);
    let errors = [
        service.create_lora_training_client(base, dimuon).unwrap_err(),
        trainer.optim_step(DimuonParams::new(0.1)).unwrap_err(),
        from_state.optimizer_config(DimuonOptimizerConfig::new()).create().unwrap_err(),
    ];
    for error in errors {
        assert!(error.status() == Some(400) && error.is_user_error(), "{error}");
    }
    trainer.optim_step(AdamParams::new()).unwrap();
    assert_eq!(trainer.get_info().unwrap().optimizer_config.name(), "adamw");
}
