//! The templates that the crate brings along.

use super::ChatTemplate;
use crate::error::{Error, Result};

/// Names and Jinja sources, in the order of the names.
const TEMPLATES: [(&str, &str); 13] = [
    ("chatml", include_str!("chatml.jinja")),
    ("deepseek_r1", include_str!("deepseek_r1.jinja")),
    ("deepseek_v4", include_str!("deepseek_v4.jinja")),
    ("deepseek_v4_1", include_str!("deepseek_v4_1.jinja")),
    ("glm_5_2", GLM_5),
    ("glm_5_3", GLM_5),
    ("kimi_k2", include_str!("kimi_k2.jinja")),
    ("kimi_k2_5", include_str!("kimi_k2_5.jinja")),
    ("plain", include_str!("plain.jinja")),
    ("qwen3_instruct", include_str!("qwen3_instruct.jinja")),
    ("qwen3_8", include_str!("qwen3_8.jinja")),
    ("role_colon", include_str!("role_colon.jinja")),
    ("tml_v0", include_str!("tml_v0.jinja")),
];

const GLM_5: &str = include_str!("glm_5.jinja");

/// Model IDs in lower case, each with the template for the model and its variants (`id-…`). DeepSeek V4 and Inkling have no template
/// of their own. The others have one in their tokenizer's package, which comes first: these are for copies that lost it.
const MODELS: [(&str, &str); 10] = [
    ("deepseek-ai/deepseek-v4", "deepseek_v4"),
    ("thinkingmachines/inkling", "tml_v0"),
    ("deepseek-ai/deepseek-r1", "deepseek_r1"),
    ("deepseek-ai/deepseek-v4.1", "deepseek_v4_1"),
    ("moonshotai/kimi-k2-thinking", "kimi_k2"),
    ("moonshotai/kimi-k2.5", "kimi_k2_5"),
    ("moonshotai/kimi-k2.6", "kimi_k2_5"),
    ("qwen/qwen3.8", "qwen3_8"),
    ("zai-org/glm-5.2", "glm_5_2"),
    ("zai-org/glm-5.3", "glm_5_3"),
];

impl ChatTemplate {
    /// The template with this name that the crate brings along. A model's own template is better where there is one.
    ///
    /// | name | for | template arguments |
    /// |---|---|---|
    /// | `chatml` | models that use `<\|im_start\|>`: tools, reasoning, nothing left out | |
    /// | `plain` | models without a format: `User: …`, replies end with the end-of-sequence token, no tools | |
    /// | `role_colon` | base models, as the official cookbook has it: replies end with `User:`, no tools | |
    /// | `deepseek_r1` | DeepSeek R1, without tools | |
    /// | `deepseek_v4` | DeepSeek V4 | `enable_thinking` |
    /// | `deepseek_v4_1` | DeepSeek V4.1 | `enable_thinking`, `reasoning_effort`: 1 to 100 (75) |
    /// | `glm_5_2`, `glm_5_3` | GLM 5.2, 5.3 | `enable_thinking`, `preserve_thinking`, `reasoning_effort`: `low`, `high`, `max` (`max`) |
    /// | `kimi_k2` | Kimi K2 Thinking | `preserve_thinking` |
    /// | `kimi_k2_5` | Kimi K2.5 and K2.6, with images | `enable_thinking`, `preserve_thinking` |
    /// | `qwen3_instruct` | Qwen 3 Instruct, where reasoning is trained | |
    /// | `qwen3_8` | Qwen 3.8, with images | `enable_thinking`, `preserve_thinking`, `reasoning_effort`: `low`, `medium`, `xhigh` (`xhigh`) |
    /// | `tml_v0` | Inkling | |
    ///
    /// `enable_thinking` is true by default, `preserve_thinking` (of earlier turns) is false, except for Qwen 3.8. A conversation that
    /// the format has no place for is refused when it is rendered.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for any other name.
    ///
    /// # Examples
    ///
    /// ```
    /// use tinkex::chat::{ChatTemplate, Conversation, Message};
    ///
    /// let prompt = ChatTemplate::builtin("plain")?.render(&Conversation::from([Message::user("Hi")]), true)?;
    /// assert_eq!(prompt, "User: Hi\n\nAssistant:");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn builtin(name: &str) -> Result<Self> {
        match TEMPLATES.iter().find(|(known, _)| *known == name) {
            Some((_, source)) => ChatTemplate::new(*source),
            None => {
                let names = TEMPLATES.map(|(name, _)| name).join(", ");
                Err(Error::invalid_input(format!("no built-in template is named {name:?}; the names are {names}")))
            }
        }
    }

    /// The names of the templates that the crate brings along.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(tinkex::chat::ChatTemplate::builtin_names().any(|name| name == "plain"));
    /// ```
    pub fn builtin_names() -> impl Iterator<Item = &'static str> {
        TEMPLATES.iter().map(|(name, _)| *name)
    }

    /// The name of the template that the crate brings along for the model with this ID, for a model whose tokenizer has none: `None`
    /// for a model that the crate does not know, or a base model.
    ///
    /// # Examples
    ///
    /// ```
    /// use tinkex::chat::ChatTemplate;
    ///
    /// assert_eq!(ChatTemplate::builtin_name_for("deepseek-ai/DeepSeek-V4-Flash"), Some("deepseek_v4"));
    /// assert_eq!(ChatTemplate::builtin_name_for("someone/some-model"), None);
    /// ```
    #[must_use]
    pub fn builtin_name_for(model: &str) -> Option<&'static str> {
        let model = model.to_lowercase();
        let (id, _) = model.split_once('@').unwrap_or((&model, ""));
        let is_variant =
            |known: &str| id.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        let found = MODELS.iter().find(|(known, _)| is_variant(known)).map(|(_, name)| *name);
        found.filter(|_| !id.ends_with("-base"))
    }
}
