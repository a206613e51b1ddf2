use tinkex::chat::{ChatTemplate, Conversation, Renderer, TrainOn};
use tinkex::{Result, Tokenizer, types::Datum};

/// The examples of a conversation in a model's own format, of which only the assistant's messages are learned.
pub fn chat(template: ChatTemplate, tokenizer: Tokenizer, conversation: &Conversation) -> Result<Vec<Datum>> {
    let renderer = Renderer::new(template, tokenizer)?;
    renderer.examples(conversation, TrainOn::AllAssistantMessages)?.datums()
}

#[test]
fn only_the_assistants_words_have_weight() {
    use tinkex::chat::Message;

    let said = [Message::user("Hi"), Message::assistant("Yo"), Message::user("2"), Message::assistant("B")];
    let tokenizer = Tokenizer::bytes();
    let template = ChatTemplate::builtin("chatml").unwrap();
    let datums = chat(template, tokenizer.clone(), &Conversation::from(said)).unwrap();
    assert_eq!(datums.len(), 1);
    let targets = datums[0].loss_fn_inputs["target_tokens"].as_i64().unwrap();
    let weights = datums[0].loss_fn_inputs["weights"].as_f32().unwrap();
    let learned = targets.iter().zip(weights).filter(|(_, weight)| **weight == 1.0);
    let learned: Vec<u32> = learned.map(|(token, _)| u32::try_from(*token).unwrap()).collect();
    assert_eq!(tokenizer.decode(&learned).unwrap(), "Yo<|im_end|>B<|im_end|>");
}
