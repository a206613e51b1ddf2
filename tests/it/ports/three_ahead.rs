use std::collections::VecDeque;

use tinkex::types::{AdamParams, Batch, LoraConfig, LossFn};
use tinkex::{Config, Result, ServiceClient};

/// Trains on the batches with three steps in flight, and returns the losses.
pub fn three_ahead(config: Config, batches: &[Batch]) -> Result<Vec<f64>> {
    let service = ServiceClient::connect(config)?;
    let trainer = service.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::new().seed(1))?;
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
    let (_server, config) = super::server();
    let service = ServiceClient::connect(config.clone()).unwrap();
    let trainer = service.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::new().seed(1)).unwrap();
    let text = |start: u32| tinkex::toolkit::WeightedTokens::new().context([start]).trained([start + 1, start + 2]);
    let batches: Vec<Batch> = (97..107).map(|start| Batch::from(text(start).datum().unwrap())).collect();
    let one_by_one: Vec<f64> = batches
        .iter()
        .map(|batch| {
            let loss = trainer.forward_backward(batch, LossFn::CrossEntropy).unwrap().metrics["loss:sum"];
            trainer.optim_step(AdamParams::new().learning_rate(1e-2)).unwrap();
            loss
        })
        .collect();
    assert_eq!(three_ahead(config, &batches).unwrap(), one_by_one);
}
