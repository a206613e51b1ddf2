//! The settings of a run that a resumed run must have, too.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::dataset::ChatOptions;
use super::too_long::TooLong;
use crate::chat_format::Identity;

/// The settings that must be the same when a run is resumed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunSettings {
    /// SHA-256 of the data file, in hexadecimal.
    pub(crate) data_sha256: String,
    pub(crate) batch_size: usize,
    pub(crate) seed: u64,
    pub(crate) eval_fraction: f64,
    /// The value of `--tokenizer`.
    #[serde(default)]
    pub(crate) tokenizer: Option<String>,
    /// The value of `--max-length`.
    #[serde(default)]
    pub(crate) max_length: Option<usize>,
    #[serde(default)]
    pub(crate) too_long: TooLong,
    /// `None` for a file without conversations.
    #[serde(default = "ChatRecord::of_earlier_versions")]
    pub(crate) chat: Option<ChatRecord>,
}

/// How conversations become examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ChatRecord {
    /// The value of `--train-on`.
    pub(crate) train_on: String,
    /// What `--system`, `--tools` and `--template-arg` say.
    pub(crate) beginning: Value,
    /// What tells the template from others, once it is known.
    pub(crate) template: Option<Identity>,
}

impl ChatRecord {
    pub(crate) fn new(options: &ChatOptions) -> Self {
        let beginning = serde_json::to_value(&options.beginning).unwrap_or_default();
        ChatRecord { train_on: options.train_on.to_string(), beginning, template: None }
    }

    /// What earlier versions of the program did, which did not record it.
    fn of_earlier_versions() -> Option<Self> {
        Some(ChatRecord { template: Some(Identity::plain()), ..ChatRecord::new(&ChatOptions::default()) })
    }

    /// Describes the first setting that differs, without the template.
    fn difference(&self, now: &ChatRecord) -> Option<String> {
        if self.train_on != now.train_on {
            let (then, now) = (&self.train_on, &now.train_on);
            return Some(format!("--train-on was {then} when the run started, but is {now} now"));
        }
        (self.beginning != now.beginning)
            .then(|| "--system, --tools and --template-arg say something else than when the run started".to_owned())
    }
}

impl RunSettings {
    /// Describes the first setting that differs.
    pub(crate) fn difference(&self, now: &RunSettings) -> Option<String> {
        let differs = |name: &str, then: String, now: String| {
            (then != now).then(|| format!("{name} was {then} when the run started, but is {now} now"))
        };
        differs("the SHA-256 of the data file", self.data_sha256.clone(), now.data_sha256.clone())
            .or_else(|| differs("--batch-size", self.batch_size.to_string(), now.batch_size.to_string()))
            .or_else(|| differs("--seed", self.seed.to_string(), now.seed.to_string()))
            .or_else(|| differs("--eval-fraction", self.eval_fraction.to_string(), now.eval_fraction.to_string()))
            .or_else(|| {
                let name = |choice: &Option<String>| choice.clone().unwrap_or_else(|| "the model's own".to_owned());
                differs("--tokenizer", name(&self.tokenizer), name(&now.tokenizer))
            })
            .or_else(|| {
                let name = |length: Option<usize>| length.map_or("the model's context".to_owned(), |n| n.to_string());
                differs("--max-length", name(self.max_length), name(now.max_length))
            })
            .or_else(|| differs("--too-long", self.too_long.to_string(), now.too_long.to_string()))
            .or_else(|| self.chat.as_ref().zip(now.chat.as_ref()).and_then(|(then, now)| then.difference(now)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tinkex::chat::TrainOn;

    use super::*;

    pub(in crate::train) fn settings() -> RunSettings {
        RunSettings {
            data_sha256: "ab".to_owned(),
            batch_size: 4,
            seed: 1,
            eval_fraction: 0.0,
            tokenizer: None,
            max_length: None,
            too_long: TooLong::Error,
            chat: Some(chat(TrainOn::AllAssistantMessages)),
        }
    }

    fn chat(train_on: TrainOn) -> ChatRecord {
        ChatRecord::new(&ChatOptions { train_on, ..ChatOptions::default() })
    }

    #[test]
    fn the_first_difference_is_described() {
        for (other, what) in [
            (RunSettings { seed: 2, ..settings() }, "--seed was 1"),
            (RunSettings { batch_size: 8, ..settings() }, "--batch-size was 4"),
            (RunSettings { data_sha256: "cd".to_owned(), ..settings() }, "the SHA-256 of the data file"),
            (RunSettings { eval_fraction: 0.5, ..settings() }, "--eval-fraction was 0"),
            (RunSettings { tokenizer: Some("bytes".to_owned()), ..settings() }, "--tokenizer was the model's own"),
            (RunSettings { max_length: Some(9), ..settings() }, "--max-length was the model's context"),
            (RunSettings { too_long: TooLong::Skip, ..settings() }, "--too-long was error"),
            (
                RunSettings {
                    chat: Some(ChatRecord { beginning: Value::Null, ..chat(TrainOn::default()) }),
                    ..settings()
                },
                "--system, --tools and --template-arg say something else",
            ),
            (
                RunSettings { chat: Some(chat(TrainOn::AllTokens)), ..settings() },
                "--train-on was all_assistant_messages when the run started, but is all_tokens now",
            ),
        ] {
            let difference = settings().difference(&other).unwrap();
            assert!(difference.contains(what), "{difference}");
        }
        assert_eq!(settings().difference(&settings()), None);
        assert_eq!(settings().difference(&RunSettings { chat: None, ..settings() }), None);
    }
}
