//! Images in prompts and examples.

use serde_json::json;
use tinkex::chat::{ChatTemplate, Content, Conversation, Message, Part, Renderer, TrainOn};
use tinkex::types::{ImageChunk, ImageFormat, ModelInputChunk};

use super::byte_level::byte_level;
use super::fixtures::fixture;
use super::templates::template;

fn renderer(family: &str) -> Renderer {
    Renderer::new(template(&fixture(&format!("templates/{family}"))), byte_level(family)).unwrap()
}

fn image(tokens: u32) -> ImageChunk {
    ImageChunk::from_parts(vec![u8::try_from(tokens).unwrap()], ImageFormat::Png, 2, 2, tokens)
}

fn part(image: ImageChunk) -> Part {
    Part::Image(Some(Box::new(image)))
}

fn user(parts: impl Into<Vec<Part>>) -> Message {
    Message::user(Content::from(parts.into()))
}

#[test]
fn images_are_at_their_places() {
    let renderer = renderer("qwen3_5");
    let conversation = Conversation::from([
        user([Part::Text("<|image_pad|> a ".to_owned()), part(image(3)), Part::Text(" b".to_owned()), part(image(4))]),
        Message::assistant("c"),
        user([part(image(5))]),
    ]);
    let prompt = renderer.prompt(&conversation).unwrap();
    let start = renderer.tokenizer().token_to_id("<|vision_start|>").unwrap();
    let end = renderer.tokenizer().token_to_id("<|vision_end|>").unwrap();
    let pad = renderer.tokenizer().token_to_id("<|image_pad|>").unwrap();
    let mut images = Vec::new();
    for window in prompt.input.chunks.windows(3) {
        if let [
            ModelInputChunk::EncodedText(before),
            ModelInputChunk::Image(image),
            ModelInputChunk::EncodedText(after),
        ] = window
        {
            assert_eq!((before.tokens.last(), after.tokens.first()), (Some(&start), Some(&end)));
            assert!(!before.tokens.contains(&pad));
            images.push(image.tokens.unwrap());
        }
    }
    assert_eq!(images, [3, 4, 5]);
    assert!(prompt.text.contains("<|image_pad|> a <|vision_start|><|image_pad|><|vision_end|> b"), "{}", prompt.text);
}

#[test]
fn examples_read_images() {
    let conversation = Conversation::from([
        user([part(image(3)), Part::Text("What is it?".to_owned())]),
        Message::assistant("A cat."),
    ]);
    for train_on in [TrainOn::AllAssistantMessages, TrainOn::AllMessages] {
        let examples = renderer("qwen3_5").examples(&conversation, train_on).unwrap().examples;
        let datum = examples[0].datum().unwrap();
        assert_eq!(datum.model_input.chunks.len(), 3);
        assert_eq!(datum.model_input.len() + 1, examples[0].weighted_tokens().len());
        datum.validate().unwrap();
        let at = datum.model_input.chunks[0].len();
        let weights = datum.loss_fn_inputs["weights"].as_f32().unwrap();
        // The target of the token before the image, and those inside of it.
        assert_eq!(&weights[at - 1..at + 2], [0.0; 3]);
    }
}

#[test]
fn images_without_places_or_sizes_are_refused() {
    let conversation = |image: ImageChunk| Conversation::from([user([part(image)]), Message::assistant("A cat.")]);
    let source = "{% for message in messages %}{{ message.role }}{% endfor %}";
    let blind = Renderer::new(ChatTemplate::new(source).unwrap(), byte_level("qwen3_5")).unwrap();
    let error = blind.prompt(&conversation(image(3))).unwrap_err().to_string();
    assert!(error.contains("no place for 1 of the images"), "{error}");
    let unknown = ImageChunk::from_parts(vec![1], ImageFormat::Png, None, None, None);
    let error = renderer("qwen3_5").examples(&conversation(unknown), TrainOn::default()).unwrap_err().to_string();
    assert!(error.contains("how many tokens"), "{error}");
}

#[test]
fn a_named_image_keeps_its_place() {
    let line = json!({"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Hi"}]}]});
    let conversation: Conversation = serde_json::from_value(line).unwrap();
    let renderer = renderer("qwen3_5");
    let prompt = renderer.prompt(&conversation).unwrap();
    let pad = renderer.tokenizer().token_to_id("<|image_pad|>").unwrap();
    assert!(prompt.input.to_tokens().unwrap().contains(&pad));
}

#[test]
fn an_image_may_be_in_its_address() {
    let line = |url: &str| -> Conversation {
        let parts = json!([{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "Hi"}]);
        serde_json::from_value(json!({"messages": [{"role": "user", "content": parts}]})).unwrap()
    };
    let png = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAoAAAAHg";
    let prompt = renderer("qwen3_5").prompt(&line(png)).unwrap();
    let images = prompt.input.chunks.iter().filter_map(|chunk| match chunk {
        ModelInputChunk::Image(image) => Some((image.width, image.height)),
        _ => None,
    });
    assert_eq!(images.collect::<Vec<_>>(), [(Some(640), Some(480))]);
    for url in ["https://example.com/cat.png", "data:image/png;base64,%", "data:image/png;base64,aGk="] {
        let error = renderer("qwen3_5").prompt(&line(url)).unwrap_err().to_string();
        assert!(error.contains("messages[0]"), "{error}");
    }
}
