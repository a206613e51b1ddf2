//! How the tokenizers of byte-level BPE cut a text into words, by the names that GGUF files have for it. The patterns are those of
//! the models' own tokenizers.

/// How a family of models cuts a text.
#[derive(Debug)]
pub(super) struct Words {
    names: &'static [&'static str],
    /// Each cuts what those before it have left in one piece.
    pub(super) patterns: &'static [&'static str],
    /// Whether the text is normalized to NFC before.
    pub(super) nfc: bool,
    /// Whether a word that is a token is that token, whatever its merges say.
    pub(super) whole: bool,
    /// Whether a text begins with the first token unless the file says otherwise.
    pub(super) begins: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const GPT4: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK_V3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const HAN_APART: &str = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const PLAIN: Words = Words { names: &[], patterns: &[], nfc: false, whole: false, begins: false };

/// Of Kimi's models, which come as `tiktoken.model`.
pub(super) static KIMI: Words = Words { names: &["kimi-k2"], patterns: &[HAN_APART], whole: true, ..PLAIN };

static FAMILIES: [Words; 10] = [
    Words { names: &["gpt-2", "phi-2", "mpt", "olmo", "jais", "exaone4"], patterns: &[GPT2], ..PLAIN },
    Words {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        patterns: &[r"\p{N}", GPT2],
        ..PLAIN
    },
    Words {
        names: &["llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        patterns: &[GPT4],
        whole: true,
        begins: true,
        ..PLAIN
    },
    Words { names: &["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], patterns: &[GPT4], ..PLAIN },
    Words { names: &["qwen2", "deepseek-r1-qwen", "kormo", "megrez"], patterns: &[QWEN2], nfc: true, ..PLAIN },
    Words { names: &["stablelm2", "hunyuan", "grok-2"], patterns: &[QWEN2], ..PLAIN },
    Words { names: &["qwen35"], patterns: &[QWEN35], nfc: true, ..PLAIN },
    Words {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        patterns: &[r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK_V3],
        ..PLAIN
    },
    Words { names: &["gpt-4o", "llama4", "minimax-m2"], patterns: &[GPT4O], ..PLAIN },
    Words { names: &["tekken"], patterns: &[TEKKEN], whole: true, begins: true, ..PLAIN },
];

/// How the tokenizers with this name cut a text.
pub(super) fn named(name: &str) -> Option<&'static Words> {
    FAMILIES.iter().chain([&KIMI]).find(|words| words.names.contains(&name))
}

#[cfg(test)]
mod tests {
    use tokenizers::pre_tokenizers::split::Split;
    use tokenizers::tokenizer::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    use super::*;

    fn cut(name: &str, text: &str) -> Vec<String> {
        let mut parts = PreTokenizedString::from(text);
        for pattern in named(name).unwrap().patterns {
            let pattern = tokenizers::pre_tokenizers::split::SplitPattern::Regex((*pattern).to_owned());
            let split = Split::new(pattern, tokenizers::SplitDelimiterBehavior::Isolated, false).unwrap();
            split.pre_tokenize(&mut parts).unwrap();
        }
        let parts = parts.get_splits(OffsetReferential::Original, OffsetType::Byte);
        parts.into_iter().map(|(part, ..)| part.to_owned()).collect()
    }

    #[test]
    fn each_family_cuts_in_its_own_way() {
        for (name, text, parts) in [
            ("gpt-2", "It's 1234  ok!\n", vec!["It", "'s", " 1234", " ", " ok", "!", "\n"]),
            ("smollm", "a 12", vec!["a", " ", "1", "2"]),
            ("llama-bpe", "I'LL 1234!\n\n", vec!["I", "'LL", " ", "123", "4", "!\n\n"]),
            ("qwen2", "a 12!\n", vec!["a", " ", "1", "2", "!\n"]),
            ("qwen35", "e\u{301}a", vec!["e\u{301}a"]),
            ("gpt-4o", "HelloWorld's a/\n", vec!["Hello", "World's", " a", "/\n"]),
            ("tekken", "it's 12", vec!["it", "'s", " ", "1", "2"]),
            ("deepseek-v3", "a1234中文b", vec!["a", "123", "4", "中文", "b"]),
            ("kimi-k2", "Hello中文 it's", vec!["Hello", "中文", " it's"]),
        ] {
            assert_eq!(cut(name, text), parts, "{name}");
        }
    }

    #[test]
    fn every_pattern_is_valid_and_loses_nothing() {
        let text = "Ünï 中文 x² 12345 \t\r\n\n  it's <|im_end|> {\"a\": [1]} \u{1F600}\u{0} ";
        for words in FAMILIES.iter().chain([&KIMI]) {
            for name in words.names {
                assert_eq!(cut(name, text).concat(), text, "{name}");
            }
        }
        assert!(named("default").is_none());
    }
}
