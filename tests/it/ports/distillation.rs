use tinkex::losses::on_policy_distillation;
use tinkex::rl::{PolicyExample, Turn, compute_logprobs};
use tinkex::types::{AdamParams, LoraConfig, LossFn, ModelInput, SamplingParams};
use tinkex::{Config, Result, ServiceClient};

/// Distills a teacher into a student on the student's own samples, and returns the reverse KL divergence of each step per token.
pub fn distillation(config: Config, teacher: &str, prompt: &str) -> Result<Vec<f64>> {
    let service = ServiceClient::connect(config)?;
    let teacher = service.create_sampling_client(teacher)?;
    let trainer = service.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::new().seed(1))?;
    let prompt = ModelInput::from_text(&trainer.tokenizer()?, prompt)?;
    let step = |seed| {
        let student = trainer.save_weights_and_get_sampling_client()?;
        let sequences = student.sample(&prompt, 32, &SamplingParams::new().max_tokens(8).seed(seed))?.sequences;
        let mut examples = Vec::new();
        for sequence in sequences {
            examples.extend(Turn::new(&prompt, sequence).scored(0.0).examples(0.0)?);
        }
        let scores = compute_logprobs(&teacher, &examples)?;
        let divergence = on_policy_distillation(&mut examples, scores, 1.0, 0.0)?;
        let data: Vec<_> = examples.iter().map(PolicyExample::datum).collect::<Result<_>>()?;
        trainer.forward_backward(data, LossFn::ImportanceSampling)?;
        trainer.optim_step(AdamParams::new().learning_rate(1e-2))?;
        Ok(divergence)
    };
    (0..10).map(step).collect()
}

#[test]
fn the_student_comes_closer_to_the_teacher() {
    let (_server, config) = super::server();
    let service = ServiceClient::connect(config.clone()).unwrap();
    let trainer = service.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::new().seed(2)).unwrap();
    let example = tinkex::toolkit::WeightedTokens::new().context([97, 98]);
    let batch = [example.trained([97, 98, 97, 98, 97, 98, 97, 98]).datum().unwrap()];
    for _ in 0..5 {
        trainer.forward_backward(batch.clone(), LossFn::CrossEntropy).unwrap();
        trainer.optim_step(AdamParams::new().learning_rate(1e-2)).unwrap();
    }
    let teacher = trainer.save_weights_for_sampler("teacher").unwrap();
    let divergences = distillation(config, &teacher.path, "ab").unwrap();
    assert!(divergences[0] > 0.1 && divergences[9] < 0.5 * divergences[0], "{divergences:?}");
}
