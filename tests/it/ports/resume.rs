use std::path::Path;

use tinkex::toolkit::{JsonLines, SavedCheckpoint};
use tinkex::types::{AdamParams, Batch, LoraConfig, LossFn};
use tinkex::{Config, Result, ServiceClient};

/// Trains up to this number of steps with a checkpoint every fifth one, from the last checkpoint on if there is one. Returns the
/// losses.
pub fn resume(config: Config, batch: &Batch, steps: u64, checkpoints: &Path) -> Result<Vec<f64>> {
    let service = ServiceClient::connect(config)?;
    let mut checkpoints = JsonLines::<SavedCheckpoint>::open(checkpoints)?;
    let (trainer, completed) = match checkpoints.last()? {
        Some(last) => (service.create_training_client_from_state_with_optimizer(last.path)?, last.step),
        None => (service.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::new().seed(1))?, 0),
    };
    let mut losses = Vec::new();
    for step in completed + 1..=steps {
        losses.push(trainer.forward_backward(batch, LossFn::CrossEntropy)?.metrics["loss:sum"]);
        trainer.optim_step(AdamParams::new().learning_rate(1e-2))?;
        if step % 5 == 0 {
            let saved = trainer.save_state(format!("{step:04}"))?;
            checkpoints.push(&SavedCheckpoint::new(step, saved.path))?;
        }
    }
    Ok(losses)
}

#[test]
fn a_resumed_run_equals_one_that_went_through() {
    let batch =
        Batch::from(tinkex::toolkit::WeightedTokens::new().context([97]).trained([98, 99, 100]).datum().unwrap());
    let (_server, config) = super::server();
    let directory = tempfile::tempdir().unwrap();
    let run = |name: &str, steps| resume(config.clone(), &batch, steps, &directory.path().join(name)).unwrap();
    let whole = run("whole.jsonl", 12);
    let (first, second) = (run("parts.jsonl", 7), run("parts.jsonl", 12));
    assert_eq!((first.len(), second.len()), (7, 7), "steps 6 and 7 are made again");
    assert_eq!(first, whole[..7]);
    assert_eq!(second, whole[5..]);
}
