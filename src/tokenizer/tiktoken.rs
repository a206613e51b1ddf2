//! Tokenizers in the format of `tiktoken.model`: words in base64 with their ranks. Kimi's models have them.

use std::collections::{BTreeMap, HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokenizers::AddedToken;

use super::byte_level::{Parts, letters};
use super::words;

/// How many ids after those of the words are added tokens, whether they have a name or not.
const RESERVED: u32 = 256;

/// The most bytes of a word. All ways to cut a word in two are tried, and the longest known ones have 128 bytes.
const MAX_WORD: usize = 1024;

/// The class in `tokenizer_config.json` whose pattern is known here.
const KIMI: &str = "TikTokenTokenizer";

/// Builds a tokenizer from the content of `tiktoken.model` and of `tokenizer_config.json`.
pub(super) fn build(model: &[u8], config: &Value) -> Result<tokenizers::Tokenizer, String> {
    let pattern = ["pat_str", "pattern"].iter().find_map(|key| config[*key].as_str()).map(str::to_owned);
    let class = config["tokenizer_class"].as_str().unwrap_or(KIMI);
    if pattern.is_none() && class != KIMI {
        return Err(format!(
            "how {class} cuts a text into words is not known; put a `pat_str` into tokenizer_config.json"
        ));
    }
    let ranks = ranks(model)?;
    let letters = letters();
    let spell = |word: &[u8]| word.iter().filter_map(|&byte| letters.get(usize::from(byte))).collect::<String>();
    let merges = merges(&ranks).into_iter().map(|(left, right)| (spell(left), spell(right))).collect();
    let mut ids: Vec<(String, u32)> = ranks.iter().map(|(word, &rank)| (spell(word), rank)).collect();
    let mut added = Vec::new();
    for (id, token) in added_tokens(&ranks, config)? {
        ids.push((token.content.clone(), id));
        added.push(token);
    }
    let parts = Parts { ids, merges, added, words: &words::KIMI, pattern, before: None, after: None };
    parts.build().map_err(|error| error.to_string())
}

/// The ranks of the words, which are their ids.
fn ranks(model: &[u8]) -> Result<HashMap<Vec<u8>, u32>, String> {
    let mut ranks = HashMap::new();
    let mut taken = HashSet::new();
    for (index, line) in model.split(|&byte| byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let parsed = std::str::from_utf8(line).ok().and_then(|line| {
            let (word, rank) = line.split_once(' ')?;
            let word = STANDARD.decode(word).ok().filter(|word| (1..=MAX_WORD).contains(&word.len()))?;
            Some((word, rank.parse().ok()?))
        });
        let Some((word, rank)) = parsed else {
            return Err(format!("line {} is not a word in base64 and its rank", index + 1));
        };
        if ranks.insert(word, rank).is_some() {
            return Err(format!("line {} repeats a word", index + 1));
        }
        if !taken.insert(rank) {
            return Err(format!("line {} repeats the rank {rank}", index + 1));
        }
    }
    match (0..=u8::MAX).find(|&byte| !ranks.contains_key(&[byte][..])) {
        Some(byte) => Err(format!("it has no word for the byte 0x{byte:02X}")),
        None => Ok(ranks),
    }
}

/// All pairs of words that make a word, in the order in which they are merged: by the rank of what they make.
fn merges(ranks: &HashMap<Vec<u8>, u32>) -> Vec<(&[u8], &[u8])> {
    let mut merges = Vec::new();
    for (word, made) in ranks {
        for (left, right) in (1..word.len()).filter_map(|at| word.split_at_checked(at)) {
            if let (Some(first), Some(second)) = (ranks.get(left), ranks.get(right)) {
                merges.push(((made, first, second), (left, right)));
            }
        }
    }
    merges.sort_unstable();
    merges.into_iter().map(|(_, pair)| pair).collect()
}

/// The added tokens: those that the configuration names, and the reserved ones without a name.
fn added_tokens(ranks: &HashMap<Vec<u8>, u32>, config: &Value) -> Result<BTreeMap<u32, AddedToken>, String> {
    let first = ranks.values().max().map_or(0, |last| last.saturating_add(1));
    let words: HashMap<u32, &[u8]> = ranks.iter().map(|(word, &rank)| (rank, word.as_slice())).collect();
    let reserved = |id| (id, AddedToken::from(format!("<|reserved_token_{id}|>"), true));
    let mut added: BTreeMap<u32, AddedToken> = (first..first.saturating_add(RESERVED)).map(reserved).collect();
    for (id, token) in config["added_tokens_decoder"].as_object().into_iter().flatten() {
        let text = token["content"].as_str().filter(|text| !text.is_empty());
        let (Some(text), Ok(id)) = (text, id.parse::<u32>()) else {
            return Err(format!("the added token {id:?} of tokenizer_config.json has no id or no text"));
        };
        if words.get(&id).is_some_and(|word| *word != text.as_bytes()) {
            return Err(format!("the added token {text:?} of tokenizer_config.json has the id {id} of a word"));
        }
        let flag = |name: &str| token[name].as_bool().unwrap_or(false);
        let token = AddedToken::from(text, flag("special")).lstrip(flag("lstrip")).rstrip(flag("rstrip"));
        added.insert(id, token.single_word(flag("single_word")));
    }
    Ok(added.into_iter().map(|(id, token)| (id, token.normalized(false))).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// All bytes, and these words after them.
    fn model(words: &[&str]) -> Vec<u8> {
        let bytes = (0..=u8::MAX).map(|byte| vec![byte]);
        let words = bytes.chain(words.iter().map(|word| word.as_bytes().to_vec())).enumerate();
        words.map(|(rank, word)| format!("{} {rank}\n", STANDARD.encode(word))).collect::<String>().into_bytes()
    }

    fn encode(tokenizer: &tokenizers::Tokenizer, text: &str) -> Vec<u32> {
        tokenizer.encode(text, false).unwrap().get_ids().to_vec()
    }

    #[test]
    fn added_tokens_have_names_or_are_reserved() {
        let token = |content: &str, special: bool| json!({"content": content, "special": special, "rstrip": true});
        let config = json!({
            "tokenizer_class": "TikTokenTokenizer",
            "added_tokens_decoder": {"258": token("<|im_end|>", true), "260": token("<think>", false)},
        });
        let tokenizer = build(&model(&["ab", "abc"]), &config).unwrap();
        assert_eq!(encode(&tokenizer, "abcab<|im_end|> a<think>b"), [257, 256, 258, 97, 260, 98]);
        assert_eq!(encode(&tokenizer, "<|reserved_token_259|><|reserved_token_258|>")[0], 259);
        assert_eq!(tokenizer.token_to_id("<|reserved_token_513|>"), Some(513));
        assert_eq!(tokenizer.token_to_id("<|reserved_token_514|>"), None);
        assert_eq!(tokenizer.decode(&[257, 258, 260], true).unwrap(), "abc<think>");
    }

    #[test]
    fn words_are_merged_by_their_ranks() {
        let words = ["ab", "ba", "bb", "aab", "abba", "bbb", "aabb"];
        let file = model(&words);
        let ranks = ranks(&file).unwrap();
        let tokenizer = build(&file, &json!({})).unwrap();
        // Repeatedly joins the neighbors that make the word of the lowest rank.
        let reference = |text: &str| {
            let mut parts: Vec<Vec<u8>> = text.bytes().map(|byte| vec![byte]).collect();
            loop {
                let joined = (1..parts.len()).filter_map(|at| Some((*ranks.get(&parts[at - 1..=at].concat())?, at)));
                let Some((_, at)) = joined.min() else { break };
                let right = parts.remove(at);
                parts[at - 1].extend(right);
            }
            parts.iter().map(|part| ranks[part]).collect::<Vec<u32>>()
        };
        for bits in 1..1_u32 << 13 {
            // The highest bit says how long the text is.
            let letters = (0..bits.ilog2()).map(|bit| if bits >> bit & 1 == 1 { 'a' } else { 'b' });
            let text: String = letters.collect();
            let whole = ranks.get(text.as_bytes()).map(|&rank| vec![rank]);
            assert_eq!(encode(&tokenizer, &text), whole.unwrap_or_else(|| reference(&text)), "{text}");
        }
    }

    #[test]
    fn damaged_files_are_refused() {
        let good = String::from_utf8(model(&[])).unwrap();
        let added = |id: &str, content: Value| json!({"added_tokens_decoder": {id: {"content": content}}});
        for (file, config, why) in [
            ("not read".to_owned(), json!({}), "line 1 is not"),
            (format!("{good}YWI="), json!({}), "line 257 is not"),
            (format!("{good}YWI= x"), json!({}), "line 257 is not"),
            (format!("{good}YQ== 300"), json!({}), "line 257 repeats a word"),
            (format!("{good}YWI= 97"), json!({}), "line 257 repeats the rank 97"),
            (format!("{good}{} 256", STANDARD.encode([b'a'; MAX_WORD + 1])), json!({}), "line 257 is not"),
            ("YQ== 0".to_owned(), json!({}), "the byte 0x00"),
            (good.clone(), json!({"tokenizer_class": "Other"}), "how Other cuts"),
            (good.clone(), json!({"pat_str": "["}), "arsing"),
            (good.clone(), added("x", "a".into()), "no id or no text"),
            (good.clone(), added("300", Value::Null), "no id or no text"),
            (good, added("7", "<a>".into()), "the id 7 of a word"),
        ] {
            let error = build(file.as_bytes(), &config).map(|_| ()).unwrap_err();
            assert!(error.contains(why), "{why}: {error}");
        }
    }
}
