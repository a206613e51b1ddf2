//! Tokenizers for families whose vocabulary is not in the repository: a token for each byte, with its value as the id, and the
//! family's added tokens, from 256 on.

use serde_json::{Value, json};
use tinkex::Tokenizer;

use crate::fixtures::Shared;

/// The added tokens of a family: those with `special: true`, the others, and the one that ends a text.
struct Family {
    names: &'static [&'static str],
    special: &'static [&'static str],
    plain: &'static [&'static str],
    eos: &'static str,
}

const QWEN_TAGS: &[&str] =
    &["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"];

const DEEPSEEK: &[&str] = &["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"];

const DEEPSEEK_PLAIN: &[&str] = &[
    "<｜System｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁outputs▁begin｜>",
    "<｜tool▁outputs▁end｜>",
    "<｜tool▁output▁begin｜>",
    "<｜tool▁output▁end｜>",
    "<｜tool▁sep｜>",
    "<think>",
    "</think>",
    "｜DSML｜",
];

const FAMILIES: &[Family] = &[
    Family {
        names: &["qwen3", "qwen3_5", "qwen3_8"],
        special: &[
            "<|endoftext|>",
            "<|im_start|>",
            "<|im_end|>",
            "<|vision_start|>",
            "<|vision_end|>",
            "<|vision_pad|>",
            "<|image_pad|>",
            "<|video_pad|>",
        ],
        plain: QWEN_TAGS,
        eos: "<|im_end|>",
    },
    Family {
        names: &["smollm2"],
        special: &["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<filename>", "<jupyter_start>"],
        plain: &[],
        eos: "<|im_end|>",
    },
    Family {
        names: &["lfm2_5"],
        special: &[
            "<|pad|>",
            "<|startoftext|>",
            "<|endoftext|>",
            "<|im_start|>",
            "<|im_end|>",
            "<|tool_call_start|>",
            "<|tool_call_end|>",
            "<image>",
        ],
        plain: &["<think>", "</think>"],
        eos: "<|im_end|>",
    },
    Family {
        names: &["gpt_oss"],
        special: &[
            "<|startoftext|>",
            "<|endoftext|>",
            "<|return|>",
            "<|constrain|>",
            "<|channel|>",
            "<|start|>",
            "<|end|>",
            "<|message|>",
            "<|call|>",
        ],
        plain: &[],
        eos: "<|return|>",
    },
    Family {
        names: &["deepseek_v3", "deepseek_r1", "deepseek_v4", "deepseek_v4_1"],
        special: DEEPSEEK,
        plain: DEEPSEEK_PLAIN,
        eos: "<｜end▁of▁sentence｜>",
    },
    Family {
        names: &["glm_5_2", "glm_5_3"],
        special: &[
            "<|endoftext|>",
            "[gMASK]",
            "<sop>",
            "<|system|>",
            "<|user|>",
            "<|assistant|>",
            "<|observation|>",
            "<|begin_of_image|>",
            "<|end_of_image|>",
        ],
        plain: &[
            "<think>",
            "</think>",
            "<tool_call>",
            "</tool_call>",
            "<tool_response>",
            "</tool_response>",
            "<arg_key>",
            "</arg_key>",
            "<arg_value>",
            "</arg_value>",
        ],
        eos: "<|endoftext|>",
    },
    Family {
        names: &["kimi_k2", "kimi_k2_thinking", "kimi_k2_5"],
        special: &[
            "[BOS]",
            "[EOS]",
            "<|im_end|>",
            "<|im_user|>",
            "<|im_assistant|>",
            "<|im_system|>",
            "<|im_middle|>",
            "<|media_start|>",
            "<|media_content|>",
            "<|media_end|>",
            "<|media_pad|>",
        ],
        plain: &[
            "<|tool_calls_section_begin|>",
            "<|tool_calls_section_end|>",
            "<|tool_call_begin|>",
            "<|tool_call_argument_begin|>",
            "<|tool_call_end|>",
            "<think>",
            "</think>",
        ],
        eos: "<|im_end|>",
    },
    Family {
        names: &["tml_v0"],
        special: &[
            "<|endoftext|>",
            "<|message_system|>",
            "<|message_user|>",
            "<|message_model|>",
            "<|message_tool|>",
            "<|content_text|>",
            "<|content_xml|>",
            "<|content_thinking|>",
            "<|content_invoke_tool_json|>",
            "<|content_model_end_sampling|>",
            "<|end_message|>",
        ],
        plain: &[],
        eos: "<|content_model_end_sampling|>",
    },
    Family {
        names: &["llama3", "llama3_1", "llama3_plain"],
        special: &[
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eom_id|>",
            "<|eot_id|>",
            "<|python_tag|>",
        ],
        plain: &[],
        eos: "<|eot_id|>",
    },
    Family {
        names: &["gemma3"],
        special: &["<pad>", "<eos>", "<bos>"],
        plain: &["<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>"],
        eos: "<end_of_turn>",
    },
];

/// The tokenizer for a family, by the name of its fixture.
pub fn byte_level(family: &str) -> Tokenizer {
    static MADE: Shared<Tokenizer> = Shared::new();
    let found = FAMILIES.iter().find(|known| known.names.contains(&family));
    let Family { names, special, plain, eos } = found.unwrap_or_else(|| panic!("no added tokens for {family}"));
    let tokens = special.iter().map(|token| (*token, true)).chain(plain.iter().map(|token| (*token, false)));
    MADE.get(names[0], || byte_level_with(&tokens.collect::<Vec<_>>(), Some(eos)))
}

/// The tokenizer with these added tokens (and whether each is special), and the one that ends a text.
pub fn byte_level_with(added_tokens: &[(&str, bool)], eos: Option<&str>) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    let json = tokenizer_json(added_tokens);
    std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
    std::fs::write(folder.path().join("tokenizer_config.json"), json!({"eos_token": eos}).to_string()).unwrap();
    Tokenizer::from_path(folder.path()).unwrap()
}

/// Its `tokenizer.json`.
pub fn tokenizer_json(added_tokens: &[(&str, bool)]) -> Value {
    let mut vocabulary = serde_json::Map::new();
    for byte in 0..=255_u8 {
        vocabulary.insert(visible(byte).to_string(), byte.into());
    }
    let mut added = Vec::new();
    for (id, (content, special)) in (256..).zip(added_tokens) {
        vocabulary.insert((*content).to_owned(), id.into());
        added.push(json!({
            "id": id, "content": content, "special": special,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        }));
    }
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": [],
        },
    })
}

/// The character that stands for a byte in such a vocabulary: itself if it is visible, else one from U+0100 on.
pub fn visible(byte: u8) -> char {
    let is_visible = |byte: u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    if is_visible(byte) {
        return char::from(byte);
    }
    let hidden_before = (0..byte).filter(|byte| !is_visible(*byte)).count();
    char::from_u32(0x100 + u32::try_from(hidden_before).unwrap()).unwrap()
}

#[test]
fn bytes_and_added_tokens_survive_a_round_trip() {
    for family in FAMILIES {
        let tokenizer = byte_level(family.names[0]);
        assert_eq!(tokenizer.eos_token(), tokenizer.token_to_id(family.eos));
        assert_eq!(tokenizer.special_tokens().len(), family.special.len());
        for (index, token) in family.special.iter().chain(family.plain).enumerate() {
            let text = format!("ü\u{7f} {token}\n");
            let tokens = tokenizer.encode(&text).unwrap();
            assert_eq!(tokens, [0xC3, 0xBC, 0x7F, 0x20, 256 + u32::try_from(index).unwrap(), 0x0A], "{token}");
            assert_eq!(tokenizer.decode_with_special_tokens(&tokens).unwrap(), text);
        }
    }
}
