//! The prompts of the official renderers, of all families and variants, in `renderers`. With a family's own tokenizer also their ids, and
//! those of the examples.

use serde_json::{Value, json};
use tinkex::Tokenizer;
use tinkex::chat::{ChatTemplate, Conversation, Renderer, TrainOn};

use crate::builtin::{VARIANTS, conversations, until};
use crate::byte_level::byte_level;
use crate::fixtures::fixture;
use crate::masks::{expected_spans, expected_tokens, spans};
use crate::templates::template;

const TWO_USERS: &str = "the official renderer makes one message of two users' messages";
const TWO_PARTS: &str = "the official renderer makes two messages of two parts";
const TRIMMED: &str = "the official renderer trims each part, the template trims the whole";
const NO_TOOLS: &str = "the official renderer has no tools for this model, the template has calls";
const REFUSED: &str = "the template refuses the conversation";
const KEPT: &str = "the official renderer leaves out reasoning after the last message of the user too";
const EMPTY_LINE: &str = "the template has an empty line between text and calls";
const NFC: &str = "the official text is decoded from tokens, which Qwen's tokenizer normalizes to NFC";

/// Texts that differ on purpose: family, template (a built-in, or the family's own), conversation, reason.
const DIFFERENCES: [(&str, &str, &str, &str); 27] = [
    ("deepseek_r1", "deepseek_r1", "parts", TWO_PARTS),
    ("deepseek_v3", "own", "parts", TWO_PARTS),
    ("deepseek_v3", "own", "tools_prompt", NO_TOOLS),
    ("deepseek_v3", "own", "tool_call", NO_TOOLS),
    ("deepseek_v3", "own", "tool_parallel_thinking", NO_TOOLS),
    ("deepseek_v4", "deepseek_v4", "two_users", TWO_USERS),
    ("deepseek_v4_1", "deepseek_v4_1", "two_users", TWO_USERS),
    ("glm_5_2", "glm_5_2", "two_users", TWO_USERS),
    ("glm_5_3", "glm_5_3", "two_users", TWO_USERS),
    ("gpt_oss", "own", "tool_parallel_thinking", REFUSED),
    ("gpt_oss", "own", "two_users", TWO_USERS),
    ("kimi_k2", "kimi_k2", "two_users", TWO_USERS),
    ("kimi_k2_5", "kimi_k2_5", "two_users", TWO_USERS),
    ("qwen3", "own", "tool_parallel_thinking", KEPT),
    ("qwen3", "own", "two_users", TWO_USERS),
    ("qwen3", "own", "unicode", NFC),
    ("qwen3", "qwen3_instruct", "two_users", TWO_USERS),
    ("qwen3", "qwen3_instruct", "unicode", NFC),
    ("qwen3_5", "own", "assistant_first", REFUSED),
    ("qwen3_5", "own", "parts", TRIMMED),
    ("qwen3_5", "own", "tool_parallel_thinking", EMPTY_LINE),
    ("qwen3_5", "own", "two_users", TWO_USERS),
    ("qwen3_5", "own", "unicode", NFC),
    ("qwen3_8", "qwen3_8", "parts", TRIMMED),
    ("qwen3_8", "qwen3_8", "tool_parallel_thinking", EMPTY_LINE),
    ("qwen3_8", "qwen3_8", "two_users", TWO_USERS),
    ("qwen3_8", "qwen3_8", "unicode", NFC),
];

const APART: &str = "the official renderer encodes header and content apart; the ids are those of the template's text";
const TAGS: &str = "the official renderer writes the tags of reasoning as text for a model that does not think";

/// Ids that differ on purpose where texts do not: family, template, conversation, reason.
const OTHER_IDS: [(&str, &str, &str, &str); 5] = [
    ("qwen3", "own", "whitespace", APART),
    ("qwen3", "qwen3_instruct", "whitespace", APART),
    ("qwen3", "qwen3_instruct", "thinking", TAGS),
    ("qwen3", "qwen3_instruct", "thinking_multi", TAGS),
    ("qwen3", "qwen3_instruct", "tool_parallel_thinking", TAGS),
];

/// What differs between our prompts and those of a case: in texts, and in ids.
fn prompts(renderer: &Renderer, conversation: &Conversation, case: &Value, ids: bool) -> [Vec<String>; 2] {
    let mut found = [Vec::new(), Vec::new()];
    for prompt in case["prompts"].as_array().unwrap() {
        let before = usize::try_from(prompt["before"].as_u64().unwrap()).unwrap();
        let ours = renderer.prompt(&until(conversation, before));
        let text = ours.as_ref().ok().map(|prompt| prompt.text.as_str());
        if text != prompt["text"].as_str() {
            found[0].push(format!("before {before}: {ours:?}, not {prompt}"));
        } else if let Ok(ours) = ours {
            let tokens = ours.input.to_tokens().unwrap();
            if ids && json!(tokens) != prompt["tokens"] {
                found[1].push(format!("before {before}: the ids {tokens:?}, not {prompt}"));
            }
            if !ids {
                assert_eq!(renderer.tokenizer().decode_with_special_tokens(&tokens).unwrap(), ours.text);
            }
        }
    }
    found
}

/// What differs between the ids of our examples and those of a case, where the texts are equal.
fn ids_of_examples(renderer: &Renderer, conversation: &Conversation, case: &Value) -> Vec<String> {
    let (Some(theirs), Ok(ours)) =
        (case["sft"].as_array(), renderer.examples(conversation, TrainOn::AllAssistantMessages))
    else {
        return Vec::new();
    };
    let pairs = ours.examples.iter().map(|example| example.weighted_tokens()).zip(theirs);
    let pairs = pairs.filter(|(ours, theirs)| spans(renderer.tokenizer(), ours) == expected_spans(theirs));
    pairs
        .filter(|(ours, theirs)| expected_tokens(theirs).is_some_and(|theirs| theirs != **ours))
        .map(|(ours, theirs)| format!("{ours:?}, not {theirs}"))
        .collect()
}

/// Compares all prompts of a family; with `ids`, the tokenizer is the family's own.
pub fn compare_prompts(family: &str, tokenizer: &Tokenizer, ids: bool) {
    let (conversations, official) = (conversations(), fixture(&format!("renderers/{family}")));
    let mut all = Vec::new();
    for (variant, of) in official["variants"].as_object().unwrap() {
        let builtin = VARIANTS.iter().find(|known| (known.0, known.1) == (family, variant.as_str()));
        let (name, template, args) = match (builtin, &of["template_kwargs"]) {
            (Some((_, _, name, args)), _) => {
                (*name, ChatTemplate::builtin(name).unwrap(), serde_json::from_str(args).unwrap())
            }
            (None, args) if args.is_object() => {
                ("own", template(&fixture(&format!("templates/{family}"))), args.clone())
            }
            (None, _) => {
                // The history has the reasoning in one form, the last reply in another: no template writes that.
                assert_eq!(variant, "keep_thinking", "{family}");
                continue;
            }
        };
        let renderer = Renderer::new(template, tokenizer.clone()).unwrap();
        for case in of["cases"].as_array().unwrap() {
            let id = case["conversation"].as_str().unwrap();
            let mut conversation = conversations[id].clone();
            conversation.template_args = args.as_object().unwrap().clone();
            let [texts, mut other_ids] = prompts(&renderer, &conversation, case, ids);
            if ids {
                other_ids.extend(ids_of_examples(&renderer, &conversation, case));
            }
            let listed = DIFFERENCES.iter().find(|known| (known.0, known.1, known.2) == (family, name, id));
            let listed_ids = OTHER_IDS.iter().find(|known| ids && (known.0, known.1, known.2) == (family, name, id));
            match (listed.map(|listed| listed.3), &*texts) {
                (Some(reason), []) => all.push(format!("{family} {variant} {id} is equal: {reason}")),
                (Some(_), _) => {}
                (None, texts) => all.extend(texts.iter().map(|text| format!("{family} {variant} {id} {text}"))),
            }
            match (listed_ids.map(|listed| listed.3), &*other_ids) {
                (Some(reason), []) => all.push(format!("{family} {variant} {id} has equal ids: {reason}")),
                (Some(_), _) => {}
                (None, ids) => all.extend(ids.iter().map(|ids| format!("{family} {variant} {id} {ids}"))),
            }
        }
    }
    assert!(all.is_empty(), "{} differences:\n{}", all.len(), all.join("\n"));
}

macro_rules! families {
    ($($family:ident)*) => {$(
        #[test]
        fn $family() {
            compare_prompts(stringify!($family), &byte_level(stringify!($family)), false);
        }
    )*};
}

families! {
    deepseek_r1 deepseek_v3 deepseek_v4 deepseek_v4_1 glm_5_2 glm_5_3 gpt_oss kimi_k2 kimi_k2_5 qwen3 qwen3_5 qwen3_8 tml_v0
}
