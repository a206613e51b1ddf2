//! What is published of models.

use super::ModelShape;

/// The best learning rates of the cookbook's sweep over models whose family has no formula: its table of April 2026, in the comment of
/// [`RateBasis::Sweep`](super::RateBasis::Sweep).
pub(super) const SWEPT: [(&str, f64); 9] = [
    ("deepseek-ai/DeepSeek-V3.1", 4e-4),
    ("deepseek-ai/DeepSeek-V3.1-Base", 4e-4),
    ("moonshotai/Kimi-K2-Thinking", 3e-4),
    ("moonshotai/Kimi-K2.5", 3e-4),
    ("moonshotai/Kimi-K2.6", 3e-4),
    ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 4e-4),
    ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16", 1e-3),
    ("openai/gpt-oss-120b", 3e-4),
    ("openai/gpt-oss-20b", 1e-4),
];

/// The shape of a model, by its name on Tinker without the length of its context.
pub(super) fn shape(name: &str) -> Option<ModelShape> {
    let (_, [hidden_size, mlp, attention, unembedding]) = SHAPES.iter().find(|(names, _)| names.contains(&name))?;
    Some(ModelShape { hidden_size: *hidden_size, attention: *attention, mlp: *mlp, unembedding: *unembedding })
}

/// The hidden size, and the parameters of each rank in the MLP, in attention and in the unembedding: the cookbook's
/// `_KNOWN_HIDDEN_SIZES` and `_LORA_PARAMS_PER_RANK_BY_COMPONENT`, as of autumn 2026. Qwen3.8-27B is from its `config.json`.
#[rustfmt::skip]
const SHAPES: [(&[&str], [u64; 4]); 22] = [
    (&["Qwen/Qwen3-4B-Instruct-2507"], [2560, 1_327_104, 737_280, 154_496]),
    (&["Qwen/Qwen3-8B", "Qwen/Qwen3-8B-Base"], [4096, 1_769_472, 958_464, 156_032]),
    (&["Qwen/Qwen3-32B"], [5120, 5_898_240, 2_490_368, 157_056]),
    (
        &["Qwen/Qwen3-30B-A3B", "Qwen/Qwen3-30B-A3B-Base", "Qwen/Qwen3-30B-A3B-Instruct-2507", "Qwen/Qwen3-VL-30B-A3B-Instruct"],
        [2048, 14_450_688, 835_584, 153_984],
    ),
    (
        &["Qwen/Qwen3-235B-A22B-Instruct-2507", "Qwen/Qwen3-VL-235B-A22B-Instruct"],
        [4096, 56_598_528, 3_176_448, 156_032],
    ),
    (&["Qwen/Qwen3.5-4B"], [2560, 1_130_496, 897_024, 250_880]),
    (&["Qwen/Qwen3.5-9B", "Qwen/Qwen3.5-9B-Base"], [4096, 1_572_864, 1_130_496, 252_416]),
    (&["Qwen/Qwen3.5-27B", "Qwen/Qwen3.6-27B", "Qwen/Qwen3.8-27B"], [5120, 4_325_376, 2_965_504, 253_440]),
    (
        &["Qwen/Qwen3.5-35B-A3B", "Qwen/Qwen3.5-35B-A3B-Base", "Qwen/Qwen3.6-35B-A3B"],
        [2048, 16_281_600, 1_013_760, 250_368],
    ),
    (&["Qwen/Qwen3.5-397B-A17B"], [4096, 96_030_720, 2_841_600, 252_416]),
    (&["deepseek-ai/DeepSeek-V3.1", "deepseek-ai/DeepSeek-V3.1-Base"], [7168, 94_307_328, 2_440_000, 136_448]),
    (&["meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B-Instruct"], [2048, 491_520, 212_992, 130_304]),
    (&["meta-llama/Llama-3.2-3B", "meta-llama/Llama-3.2-3B-Instruct"], [3072, 946_176, 573_440, 131_328]),
    (&["meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct"], [4096, 1_769_472, 851_968, 132_352]),
    (&["meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.3-70B-Instruct"], [8192, 8_847_360, 4_096_000, 136_448]),
    (
        &["moonshotai/Kimi-K2-Thinking", "moonshotai/Kimi-K2.5", "moonshotai/Kimi-K2.6"],
        [7168, 144_583_680, 1_940_288, 171_008],
    ),
    (&["nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"], [2688, 11_346_176, 584_832, 133_760]),
    (&["nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16"], [4096, 111_349_760, 1_675_264, 135_168]),
    (&["nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16"], [8192, 254_529_536, 4_134_912, 139_264]),
    (&["openai/gpt-oss-120b"], [2880, 40_124_160, 746_496, 203_968]),
    (&["openai/gpt-oss-20b"], [2880, 6_842_880, 497_664, 203_968]),
    (&["thinkingmachines/Inkling"], [6144, 154_705_920, 3_424_256, 207_168]),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_name_is_there_once() {
        let names: Vec<&str> = SHAPES.iter().flat_map(|(names, _)| names.iter().copied()).collect();
        assert_eq!(names.len(), names.iter().collect::<HashSet<_>>().len());
        for (name, rate) in SWEPT {
            assert!(names.contains(&name) && (1e-4..=1e-3).contains(&rate), "{name}");
        }
    }

    /// An unembedding has the hidden size on one side, and on the other a vocabulary of more than 100 000 tokens.
    #[test]
    fn columns_are_not_confused() {
        for (names, [hidden_size, mlp, attention, unembedding]) in SHAPES {
            let vocabulary = unembedding - hidden_size;
            assert!((100_000..300_000).contains(&vocabulary) && hidden_size % 32 == 0, "{names:?}");
            assert!(mlp > attention, "{names:?}");
        }
    }
}
