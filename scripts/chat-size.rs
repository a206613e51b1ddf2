//! What scripts/sizes measures of the feature `chat`: with it, this program makes a prompt and examples and reads a reply; without
//! it, it encodes its text.

use tinkex::Tokenizer;
use tinkex::types::SamplingParams;

fn main() -> Result<(), tinkex::Error> {
    let service = tinkex::ServiceClient::connect(tinkex::Config::constrained().build()?)?;
    let sampler = service.create_sampling_client("tinkex/bytes-tiny")?;
    let text = std::env::args().nth(1).unwrap_or_default();
    let tokenizer = Tokenizer::bytes();
    let params = SamplingParams::new().max_tokens(8);

    #[cfg(not(feature = "chat"))]
    {
        let response = sampler.sample(&tinkex::types::ModelInput::from_text(&tokenizer, &text)?, 1, &params)?;
        println!("{}", tokenizer.decode(&response.sequences[0].tokens)?);
    }
    #[cfg(feature = "chat")]
    {
        use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer, TrainOn};

        let template = std::env::args().nth(2).map_or(ChatTemplate::builtin("plain"), ChatTemplate::from_path)?;
        let renderer = Renderer::new(template, tokenizer)?;
        let mut conversation = Conversation::from([Message::user(text)]);
        let prompt = renderer.prompt(&conversation)?;
        let response = sampler.sample(&prompt.input, 1, &params.stop(renderer.stop()))?;
        let reply = renderer.parse_reply(&prompt, &response.sequences[0].tokens);
        println!("{:?} {:?}", reply.end, reply.message);
        conversation.messages.push(reply.message);
        println!("{}", renderer.examples(&conversation, TrainOn::default())?.examples.len());
    }
    Ok(())
}
