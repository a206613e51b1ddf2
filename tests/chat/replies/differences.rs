//! Where a reply is read otherwise than the official parsers read it.

/// How a reply is to end where the official parsers disagree, or where we disagree with both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    Complete,
    Malformed,
}

/// The message of such a reply.
#[derive(Clone, Copy, Debug)]
pub enum Says {
    /// As the wheel says.
    Wheel,
    /// This content, and the calls as the wheel says, if it says any.
    Content(&'static str),
    /// This reasoning, and nothing else.
    Reasoning(&'static str),
}

/// Where a reply is read otherwise than an official parser reads it: the names of families with their variants.
pub struct Difference {
    pub reply: &'static str,
    pub of: &'static [(&'static str, &'static [&'static str])],
    pub end: End,
    pub message: Says,
    #[allow(dead_code, reason = "it is for readers")]
    reason: &'static str,
}

const DEFAULT: &[&str] = &["default"];
const CHAT: &[&str] = &["default", "chat"];
const GLM: &[&str] = &["default", "low", "preserve_thinking"];
const GPT: &[&str] = &["default", "high"];
const KIMI: &[&str] = &["default", "preserve_thinking"];
const KIMI_5: &[&str] = &["default", "disable_thinking", "preserve_thinking"];
const QWEN: &[&str] = &["default", "disable_thinking", "instruct", "keep_thinking"];
const QWEN_5: &[&str] = &["default", "disable_thinking", "keep_thinking"];
const QWEN_8: &[&str] = &["default", "low", "disable_thinking"];

pub const DIFFERENCES: &[Difference] = &[
    Difference {
        reply: "plain_after_stop",
        of: &[
            ("deepseek_r1", DEFAULT),
            ("deepseek_v3", DEFAULT),
            ("deepseek_v4", CHAT),
            ("deepseek_v4_1", CHAT),
            ("gpt_oss", GPT),
            ("kimi_k2", KIMI),
            ("kimi_k2_5", KIMI_5),
            ("qwen3", QWEN),
            ("qwen3_5", QWEN_5),
            ("qwen3_8", QWEN_8),
        ],
        end: End::Complete,
        message: Says::Content("Hello!"),
        reason: "the reply ends at its stop, as the cookbook says; the wheel raises, or reads a second message",
    },
    Difference {
        reply: "two_stops",
        of: &[
            ("deepseek_r1", DEFAULT),
            ("deepseek_v3", DEFAULT),
            ("deepseek_v4", CHAT),
            ("deepseek_v4_1", CHAT),
            ("glm_5_3", &["default", "low"]),
            ("gpt_oss", GPT),
            ("kimi_k2", DEFAULT),
            ("kimi_k2_5", KIMI_5),
            ("qwen3", QWEN),
            ("qwen3_5", QWEN_5),
            ("qwen3_8", QWEN_8),
        ],
        end: End::Complete,
        message: Says::Content("Hello!"),
        reason: "the reply ends at its first stop; each official parser raises for some families",
    },
    Difference {
        reply: "thinking_cut_stop",
        of: &[("deepseek_v4", &["chat"]), ("deepseek_v4_1", &["chat"]), ("kimi_k2_5", &["disable_thinking"])],
        end: End::Complete,
        message: Says::Content("51"),
        reason: "these have two stops, too",
    },
    Difference {
        reply: "only_stop",
        of: &[
            ("deepseek_r1", DEFAULT),
            ("deepseek_v3", DEFAULT),
            ("deepseek_v4", &["chat"]),
            ("deepseek_v4_1", &["chat"]),
            ("gpt_oss", GPT),
            ("kimi_k2", KIMI),
            ("kimi_k2_5", &["disable_thinking"]),
            ("qwen3", QWEN),
            ("qwen3_5", &["disable_thinking"]),
            ("qwen3_8", &["disable_thinking"]),
            ("tml_v0", DEFAULT),
        ],
        end: End::Complete,
        message: Says::Content(""),
        reason: "an empty reply is one, as the cookbook says; the wheel raises",
    },
    Difference {
        reply: "only_stop",
        of: &[
            ("deepseek_v4", DEFAULT),
            ("deepseek_v4_1", DEFAULT),
            ("glm_5_2", DEFAULT),
            ("glm_5_3", GLM),
            ("kimi_k2_5", KIMI),
            ("qwen3_5", &["default", "keep_thinking"]),
            ("qwen3_8", &["default", "low"]),
        ],
        end: End::Malformed,
        message: Says::Content(""),
        reason: "the reasoning that the prompt began is not closed; the wheel raises, the cookbook does not look",
    },
    Difference {
        reply: "thinking_cut_stop",
        of: &[
            ("deepseek_v3", DEFAULT),
            ("deepseek_v4", DEFAULT),
            ("deepseek_v4_1", DEFAULT),
            ("glm_5_2", DEFAULT),
            ("glm_5_3", GLM),
            ("kimi_k2", KIMI),
            ("kimi_k2_5", KIMI),
            ("qwen3", &["default", "keep_thinking"]),
            ("qwen3_5", &["default", "keep_thinking"]),
            ("qwen3_8", &["default", "low"]),
            ("tml_v0", DEFAULT),
        ],
        end: End::Malformed,
        message: Says::Reasoning("17 *"),
        reason: "the reasoning is not closed; the wheel raises for some families, the cookbook takes it for content",
    },
    Difference {
        reply: "tool_call_cut_stop",
        of: &[
            ("deepseek_v4", CHAT),
            ("deepseek_v4_1", CHAT),
            ("glm_5_2", DEFAULT),
            ("glm_5_3", GLM),
            ("gpt_oss", GPT),
            ("kimi_k2_5", KIMI_5),
            ("qwen3", QWEN),
            ("qwen3_5", QWEN_5),
            ("qwen3_8", QWEN_8),
            ("tml_v0", DEFAULT),
        ],
        end: End::Malformed,
        message: Says::Content(""),
        reason: "a call that is not closed is none; the wheel raises, or takes the arguments that are there (DeepSeek), or its text",
    },
    Difference {
        reply: "tool_call_dropped_token",
        of: &[
            ("deepseek_v4", CHAT),
            ("deepseek_v4_1", CHAT),
            ("gpt_oss", GPT),
            ("qwen3", QWEN),
            ("qwen3_5", QWEN_5),
            ("qwen3_8", QWEN_8),
        ],
        end: End::Malformed,
        message: Says::Content(""),
        reason: "a call with broken syntax is none; both take the next parameter for part of the value where it is XML",
    },
    Difference {
        reply: "tool_call_bad_arguments",
        of: &[("gpt_oss", GPT), ("kimi_k2_5", KIMI_5), ("qwen3", QWEN), ("tml_v0", DEFAULT)],
        end: End::Malformed,
        message: Says::Content(""),
        reason: "a call with broken syntax is none; the wheel raises, the cookbook has it among its unparsed calls",
    },
    Difference {
        reply: "text_after_tool_call",
        of: &[("gpt_oss", GPT)],
        end: End::Malformed,
        message: Says::Content(""),
        reason: "the text is within the call; the wheel raises, the cookbook has it among its unparsed calls",
    },
    Difference {
        reply: "text_after_tool_call",
        of: &[("deepseek_v4", CHAT), ("deepseek_v4_1", CHAT), ("glm_5_2", DEFAULT), ("glm_5_3", GLM)],
        end: End::Complete,
        message: Says::Content("\nDone."),
        reason: "the text is kept as it is, as both keep it for Qwen; for DeepSeek they lose it, for GLM the wheel trims it",
    },
    Difference {
        reply: "text_after_tool_call",
        of: &[("kimi_k2_5", KIMI_5)],
        end: End::Complete,
        message: Says::Content("\nDone."),
        reason: "the text is kept as it is; the wheel raises, the cookbook loses call and text",
    },
    Difference {
        reply: "unicode_cut_stop",
        of: &[("glm_5_2", DEFAULT), ("glm_5_3", GLM), ("qwen3", QWEN)],
        end: End::Malformed,
        message: Says::Content("Ça va — ok \u{FFFD}"),
        reason: "a stop within a character is said, and the text is kept; the wheel raises, the cookbook does not look",
    },
    Difference {
        reply: "other_stop_199999",
        of: &[("gpt_oss", GPT)],
        end: End::Complete,
        message: Says::Wheel,
        reason: "it is one of the wheel's stops, and none of the cookbook's",
    },
    Difference {
        reply: "tool_call",
        of: &[("gpt_oss", GPT), ("kimi_k2_5", KIMI_5)],
        end: End::Complete,
        message: Says::Wheel,
        reason: "the cookbook also has a call of GPT-OSS as content, and loses one of Kimi whose ID is not functions.NAME:0",
    },
    Difference {
        reply: "tool_call_dropped_token",
        of: &[("kimi_k2_5", KIMI_5)],
        end: End::Complete,
        message: Says::Wheel,
        reason: "the syntax is whole; the cookbook loses a call whose ID is not functions.NAME:0",
    },
    Difference {
        reply: "tool_calls_thinking",
        of: &[("gpt_oss", GPT), ("kimi_k2_5", KIMI_5)],
        end: End::Complete,
        message: Says::Wheel,
        reason: "the cookbook raises for two calls of GPT-OSS, and loses those of Kimi whose IDs are not functions.NAME:0",
    },
    Difference {
        reply: "tool_calls_thinking",
        of: &[
            ("qwen3", &["default", "keep_thinking"]),
            ("qwen3_5", &["default", "keep_thinking"]),
            ("qwen3_8", &["default", "low"]),
        ],
        end: End::Complete,
        message: Says::Content("Let me look."),
        reason: "the line breaks that the template writes around calls are not the message's; both leave them in the content",
    },
    Difference {
        reply: "tool_calls_thinking",
        of: &[("qwen3", &["instruct"])],
        end: End::Complete,
        message: Says::Content("<think>Two calls are needed.</think>Let me look."),
        reason: "tags that are no tokens are text, as the wheel says; line breaks as above",
    },
    Difference {
        reply: "thinking",
        of: &[("qwen3", &["instruct"])],
        end: End::Complete,
        message: Says::Wheel,
        reason: "tags that are no tokens are text; the cookbook searches the decoded text",
    },
    Difference {
        reply: "thinking_lines",
        of: &[("qwen3", &["instruct"])],
        end: End::Complete,
        message: Says::Wheel,
        reason: "tags that are no tokens are text; the cookbook searches the decoded text",
    },
];

/// The number of a named difference.
pub fn difference(family: &str, variant: &str, reply: &str) -> Option<usize> {
    DIFFERENCES.iter().position(|known| {
        known.reply == reply && known.of.iter().any(|(name, variants)| *name == family && variants.contains(&variant))
    })
}
