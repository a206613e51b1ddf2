use tinkex::types::{ModelInput, SamplingParams};
use tinkex::{Config, Result, SampleOptions, ServiceClient};

/// The fraction of the prompts that the model completes as expected, 32 at a time.
pub fn evaluation(config: Config, model: &str, pairs: &[(String, String)]) -> Result<f64> {
    let sampler = ServiceClient::connect(config)?.create_sampling_client(model)?;
    let tokenizer = sampler.tokenizer()?;
    let params = SamplingParams::new().max_tokens(8).temperature(0.0).stop("\n");
    let prompts = pairs.iter().map(|(prompt, _)| ModelInput::from_text(&tokenizer, prompt));
    let prompts = prompts.collect::<Result<Vec<_>>>()?;
    let requests = prompts.iter().map(|prompt| SampleOptions::new(prompt).sampling_params(params.clone()));
    let mut right = 0;
    for (index, response) in sampler.sample_many(requests).max_in_flight(32) {
        let completion = tokenizer.decode(&response?.sequences[0].tokens)?;
        right += usize::from(completion.trim() == pairs[index].1);
    }
    Ok(right as f64 / pairs.len() as f64)
}

#[test]
fn each_response_meets_its_own_prompt() {
    let (_server, config) = super::server();
    let sampler = ServiceClient::connect(config.clone()).unwrap().create_sampling_client("tinkex/bytes-tiny").unwrap();
    let tokenizer = sampler.tokenizer().unwrap();
    let params = SamplingParams::new().max_tokens(8).temperature(0.0).stop("\n");
    let prompts: Vec<String> = (0..40).map(|number| format!("{number} is")).collect();
    let expected = |prompt: &String| {
        let response = sampler.sample(&ModelInput::from_text(&tokenizer, prompt).unwrap(), 1, &params).unwrap();
        tokenizer.decode(&response.sequences[0].tokens).unwrap().trim().to_owned()
    };
    let mut pairs: Vec<_> =
        prompts.into_iter().map(|prompt| (expected(&prompt), prompt)).map(|(e, p)| (p, e)).collect();
    assert_eq!(evaluation(config.clone(), "tinkex/bytes-tiny", &pairs).unwrap(), 1.0);
    pairs[..10].iter_mut().for_each(|(_, expected)| *expected = "something else".to_owned());
    assert_eq!(evaluation(config, "tinkex/bytes-tiny", &pairs).unwrap(), 0.75);
}
