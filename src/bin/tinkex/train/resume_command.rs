//! The command line that resumes an interrupted run.

/// These arguments with `--resume FROM` in place of any `--resume`, quoted for a shell.
pub(crate) fn resume_command(arguments: impl Iterator<Item = String>, from: &str) -> String {
    let mut words = Vec::new();
    let mut is_value = false;
    for word in arguments {
        if std::mem::take(&mut is_value) || word.starts_with("--resume=") {
            continue;
        }
        is_value = word == "--resume";
        if !is_value {
            words.push(quoted(&word));
        }
    }
    // Words after `--` are positional, so the option goes in front of it.
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    words.insert(end, format!("--resume {}", quoted(from)));
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let needs_no_quotes = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,+@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(needs_no_quotes) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_repeated_with_resume() {
        for (line, expected) in [
            (vec!["tinkex", "train", "d.jsonl"], "tinkex train d.jsonl --resume latest"),
            (vec!["t", "train", "a b", "--seed", "1"], "t train 'a b' --seed 1 --resume latest"),
            (vec!["t", "train", "--resume", "latest", "d"], "t train d --resume latest"),
            (vec!["t", "train", "--", "-d"], "t train --resume latest -- -d"),
            (vec!["t", "train", "--resume=tinker://r/weights/x", "it's"], r"t train 'it'\''s' --resume latest"),
        ] {
            assert_eq!(resume_command(line.into_iter().map(str::to_owned), "latest"), expected);
        }
        let words = ["t", "train", "d"].into_iter().map(str::to_owned);
        assert_eq!(resume_command(words, "tinker://r/weights/x"), "t train d --resume tinker://r/weights/x");
    }
}
