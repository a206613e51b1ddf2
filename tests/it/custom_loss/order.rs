//! The place of a custom loss in the order of calls, which both passes share.

use std::convert::Infallible;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ndarray::Array1;
use tinkex::types::{AdamParams, Datum, LoraConfig, LossFn};
use tinkex::{CustomLoss, ErrorKind, ServiceClient};

use super::{flat, ones, passes, service, trainer};
use crate::support::{Service, batch};

/// The paths and numbers of the training requests so far.
fn sent(service: &Service) -> Vec<(String, u64)> {
    passes(service).into_iter().map(|request| (request.path.clone(), request.seq_id().unwrap())).collect()
}

/// These paths with ascending numbers.
fn numbered(paths: &[&str]) -> Vec<(String, u64)> {
    paths.iter().map(|path| (*path).to_owned()).zip(1..).collect()
}

#[test]
fn later_requests_follow_the_second_pass() {
    let service = service();
    let trainer = trainer(&service);
    let mut pending = Vec::new();
    for _ in 0..3 {
        let pass = trainer.submit_forward_backward_custom(batch(), flat).unwrap();
        pending.push((pass, trainer.submit_optim_step(AdamParams::default()).unwrap()));
    }
    for (pass, step) in pending {
        step.wait().unwrap();
        pass.wait().unwrap();
    }
    let sent: Vec<_> = passes(&service).into_iter().map(|request| request.path).collect();
    assert_eq!(sent, ["forward", "forward_backward", "optim_step"].repeat(3));
}

#[test]
fn the_function_may_submit_and_wait_itself() {
    let service = service();
    let trainer = trainer(&service);
    let inner = trainer.clone();
    let output = trainer.submit_forward_backward_custom(batch(), |_, logprobs| -> tinkex::Result<_> {
        let step = inner.submit_optim_step(AdamParams::default())?;
        assert_eq!(inner.forward(batch(), LossFn::CrossEntropy)?.loss_fn_outputs.len(), 1);
        step.wait()?;
        Ok(CustomLoss::new(0.0, ones(logprobs)))
    });
    output.unwrap().wait().unwrap();
    assert_eq!(sent(&service), numbered(&["forward", "optim_step", "forward", "forward_backward"]));
}

/// A failing function makes a training client of 0.38.0 unusable.
#[test]
fn a_failed_function_leaves_no_hole() {
    let service = service();
    let trainer = trainer(&service);
    trainer.forward_backward_custom(batch(), |_, _| Err("no reward")).unwrap_err();
    let panics = |_: &[Datum], _: &[Array1<f32>]| -> Result<CustomLoss, Infallible> { panic!("out of luck") };
    trainer.forward_backward_custom(batch(), panics).unwrap_err();
    trainer.forward_backward_custom(batch(), flat).unwrap();
    trainer.optim_step(AdamParams::default()).unwrap();
    let expected = ["forward", "forward", "forward", "forward_backward", "optim_step"];
    assert_eq!(sent(&service), numbered(&expected));
}

#[test]
fn calls_of_other_threads_follow_both_passes() {
    let service = service();
    let trainer = trainer(&service);
    let (ask, asked) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        let other = trainer.clone();
        let step = scope.spawn(move || {
            asked.recv().unwrap();
            let step = other.submit_optim_step(AdamParams::default()).unwrap();
            tell.send(()).unwrap();
            step.wait().unwrap();
        });
        let custom = trainer.forward_backward_custom(batch(), |_, logprobs| {
            ask.send(()).unwrap();
            told.recv().unwrap();
            Ok::<_, Infallible>(CustomLoss::new(0.0, ones(logprobs)))
        });
        custom.unwrap();
        step.join().unwrap();
    });
    assert_eq!(sent(&service), numbered(&["forward", "forward_backward", "optim_step"]));
}

#[test]
fn a_failed_function_lets_waiting_calls_go() {
    let service = service();
    let trainer = trainer(&service);
    let other = trainer.clone();
    let mut step = None;
    let failed = trainer.forward_backward_custom(batch(), |_, _| -> Result<CustomLoss, &str> {
        let submitted = thread::scope(|scope| {
            scope.spawn(|| other.submit_optim_step(AdamParams::default()).unwrap()).join().unwrap()
        });
        assert!(submitted.wait_timeout(Duration::ZERO).is_none());
        step = Some(submitted);
        Err("no reward")
    });
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Callback);
    step.unwrap().wait().unwrap();
    assert_eq!(sent(&service), numbered(&["forward", "optim_step"]));
}

#[test]
fn custom_losses_of_two_threads_do_not_mix() {
    let service = service();
    let trainer = trainer(&service);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| trainer.forward_backward_custom(batch(), flat).unwrap());
        }
    });
    assert_eq!(sent(&service), numbered(&["forward", "forward_backward"].repeat(2)));
}

#[test]
fn a_custom_loss_may_contain_another() {
    let service = service();
    let trainer = trainer(&service);
    let inner = trainer.clone();
    let outer = trainer.forward_backward_custom(batch(), |_, logprobs| -> tinkex::Result<_> {
        inner.forward_backward_custom(batch(), flat)?;
        inner.optim_step(AdamParams::default())?;
        Ok(CustomLoss::new(0.0, ones(logprobs)))
    });
    outer.unwrap();
    let expected = ["forward", "forward", "forward_backward", "optim_step", "forward_backward"];
    assert_eq!(sent(&service), numbered(&expected));
}

/// What waits behind the place may fill the queue, but the call itself has its space.
#[test]
fn a_full_queue_spares_the_second_pass() {
    let service = service();
    let client = ServiceClient::connect(service.config().max_queued(2).build_with(|_| None).unwrap()).unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let other = trainer.clone();
    let mut behind = Vec::new();
    let output = trainer.forward_backward_custom(batch(), |_, logprobs| -> tinkex::Result<_> {
        thread::scope(|scope| {
            let filling = scope.spawn(|| {
                let step = other.submit_optim_step(AdamParams::default()).unwrap();
                (step, other.submit_optim_step(AdamParams::default()).unwrap_err().kind())
            });
            let (step, refused) = filling.join().unwrap();
            assert_eq!(refused, ErrorKind::QueueFull);
            behind.push(step);
        });
        other.forward(batch(), LossFn::CrossEntropy)?;
        Ok(CustomLoss::new(0.0, ones(logprobs)))
    });
    output.unwrap();
    behind.pop().unwrap().wait().unwrap();
    assert_eq!(sent(&service), numbered(&["forward", "forward", "forward_backward", "optim_step"]));
}

#[test]
fn a_close_within_the_function_ends_the_call() {
    let service = service();
    let client = ServiceClient::connect(service.config().build_with(|_| None).unwrap()).unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let error = trainer.forward_backward_custom(batch(), |_, logprobs: &[Array1<f32>]| {
        client.close(Duration::from_secs(30));
        Ok::<_, Infallible>(CustomLoss::new(0.0, ones(logprobs)))
    });
    let error = error.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Closed, Some("forward_backward_custom")));
    assert_eq!(sent(&service), numbered(&["forward"]));
}
