use std::iter::zip;

use tinkex::toolkit::token_policy_datum;
use tinkex::types::{AdamParams, LoraConfig, LossFn, ModelInput, SamplingParams};
use tinkex::{Config, Result, ServiceClient, wait_all};

/// Distills a teacher into a student on the student's own samples, and returns the reverse KL divergence of each step per token.
pub fn distillation(config: Config, teacher: &str, prompt: &str) -> Result<Vec<f32>> {
    let service = ServiceClient::connect(config)?;
    let teacher = service.create_sampling_client(teacher)?;
    let trainer = service.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::new().seed(1))?;
    let prompt = ModelInput::from_text(&trainer.tokenizer()?, prompt)?;
    let step = |seed| {
        let student = trainer.save_weights_and_get_sampling_client()?;
        let sequences = student.sample(&prompt, 32, &SamplingParams::new().max_tokens(8).seed(seed))?.sequences;
        let texts = sequences.iter().map(|sequence| prompt.clone().append(&sequence.tokens));
        let scores: Result<Vec<_>> = texts.map(|text| teacher.submit_compute_logprobs(&text)).collect();
        let (mut data, mut all) = (Vec::new(), Vec::new());
        for (sequence, scores) in zip(&sequences, wait_all(scores?)?) {
            let pairs = zip(scores[prompt.len()..].iter().flatten(), sequence.logprobs.iter().flatten());
            let advantages: Vec<f32> = pairs.map(|(teacher, student)| teacher - student).collect();
            data.push(token_policy_datum(&prompt, sequence, &advantages)?);
            all.extend(advantages);
        }
        trainer.forward_backward(data, LossFn::ImportanceSampling)?;
        trainer.optim_step(AdamParams::new().learning_rate(1e-2))?;
        Ok(-all.iter().sum::<f32>() / all.len() as f32)
    };
    (0..20).map(step).collect()
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
    assert!(divergences[0] > 0.1 && divergences[19] < 0.5 * divergences[0], "{divergences:?}");
}
