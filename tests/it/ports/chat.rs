use tinkex::{Result, Tokenizer, toolkit::WeightedTokens, types::Datum};

/// A conversation, of which only the assistant's messages are learned.
pub fn chat(tokenizer: &Tokenizer, messages: &[(&str, &str)]) -> Result<Datum> {
    let mut example = WeightedTokens::new();
    for (role, text) in messages {
        let learned = f32::from(*role == "assistant");
        example = example.context(tokenizer.encode_continuation(&format!("{role}: "))?);
        example = example.weighted(tokenizer.encode_continuation(&format!("{text}\n"))?, learned);
    }
    example.datum()
}

#[test]
fn only_the_assistants_words_have_weight() {
    let tokenizer = Tokenizer::bytes();
    let datum = chat(&tokenizer, &[("user", "Hi"), ("assistant", "Yo"), ("user", "2"), ("assistant", "B")]).unwrap();
    let targets = datum.loss_fn_inputs["target_tokens"].as_i64().unwrap();
    let weights = datum.loss_fn_inputs["weights"].as_f32().unwrap();
    let learned = targets.iter().zip(weights).filter(|(_, weight)| **weight == 1.0);
    let learned: Vec<u32> = learned.map(|(token, _)| u32::try_from(*token).unwrap()).collect();
    assert_eq!(tokenizer.decode(&learned).unwrap(), "Yo\nB\n");
}
