use std::collections::VecDeque;

use tinkex::types::{AdamParams, Batch, LossFn};
use tinkex::{Result, TrainingClient};

/// Trains on the batches with three steps in flight, and returns the losses.
pub fn three_ahead(trainer: &TrainingClient, batches: &[Batch]) -> Result<Vec<f64>> {
    let (mut in_flight, mut losses) = (VecDeque::new(), Vec::new());
    let mut batches = batches.iter();
    loop {
        for batch in batches.by_ref().take(3 - in_flight.len()) {
            let pass = trainer.submit_forward_backward(batch, LossFn::CrossEntropy)?;
            in_flight.push_back((pass, trainer.submit_optim_step(AdamParams::new().learning_rate(1e-2))?));
        }
        let Some((pass, update)) = in_flight.pop_front() else { return Ok(losses) };
        losses.push(pass.wait()?.metrics["loss:sum"]);
        update.wait()?;
    }
}

#[test]
fn steps_ahead_change_no_loss() {
    use tinkex::ServiceClient;
    use tinkex::types::LoraConfig;
    let (_server, config) = super::server();
    let service = ServiceClient::connect(config).unwrap();
    let create = || service.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::new().seed(1)).unwrap();
    let text = |start: u32| tinkex::toolkit::WeightedTokens::new().context([start]).trained([start + 1, start + 2]);
    let batches: Vec<Batch> = (97..107).map(|start| Batch::from(text(start).datum().unwrap())).collect();
    let trainer = create();
    let one_by_one: Vec<f64> = batches
        .iter()
        .map(|batch| {
            let loss = trainer.forward_backward(batch, LossFn::CrossEntropy).unwrap().metrics["loss:sum"];
            trainer.optim_step(AdamParams::new().learning_rate(1e-2)).unwrap();
            loss
        })
        .collect();
    assert_eq!(three_ahead(&create(), &batches).unwrap(), one_by_one);
}
