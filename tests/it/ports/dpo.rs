use tinkex::ndarray::Array1;
use tinkex::toolkit::WeightedTokens;
use tinkex::types::{AdamParams, Batch, LoraConfig, LossFn};
use tinkex::{Config, Result, ServiceClient, losses};

/// Trains to prefer the first completion of each prompt to the second, and returns the loss of each step.
pub fn dpo(config: Config, triples: &[[&str; 3]]) -> Result<Vec<f64>> {
    let service = ServiceClient::connect(config)?;
    let trainer = service.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::new().seed(1))?;
    let tokenizer = trainer.tokenizer()?;
    let pairs = triples.iter().flat_map(|[prompt, chosen, rejected]| [(prompt, chosen), (prompt, rejected)]);
    let datum = |(prompt, completion): (&&str, &&str)| {
        let tokens = WeightedTokens::new().context(tokenizer.encode(prompt)?);
        tokens.trained(tokenizer.encode_continuation(completion)?).datum()
    };
    let batch: Batch = pairs.map(datum).collect::<Result<Vec<_>>>()?.into();
    let before = trainer.forward(&batch, LossFn::CrossEntropy)?.loss_fn_outputs;
    let reference: Vec<_> = before.into_iter().filter_map(|output| output.into_logprobs()).map(Array1::from).collect();
    let step = |_| {
        let output = trainer.forward_backward_custom(&batch, losses::dpo(&reference, 0.1))?;
        trainer.optim_step(AdamParams::new().learning_rate(1e-2)).map(|_| output.metrics["dpo_loss"])
    };
    (0..10).map(step).collect()
}

#[test]
fn the_loss_falls_from_log_two() {
    let (_server, config) = super::server();
    let losses = dpo(config, &[["2+2=", "4\n", "5\n"], ["cat ->", " atcay\n", " catay\n"]]).unwrap();
    assert!((losses[0] - 2.0_f64.ln()).abs() < 1e-6 && losses[9] < 0.5 * losses[0], "{losses:?}");
}
