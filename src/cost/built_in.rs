//! The prices that this crate knows.

use super::{Dollars, Price};

/// The month of the prices in [`PriceTable::built_in`](super::PriceTable::built_in).
///
/// Their source is [Tinker's page of models and prices](https://tinker-docs.thinkingmachines.ai/tinker/models/models_and_pricing/). Most
/// hold since 2026-07-17. Those of Nemotron and Inkling have a discount of 50 % for a limited time, so that they may have doubled since. Models
/// whose price of training we did not see are not in the table.
///
/// ```
/// assert_eq!(tinkex::cost::BUILT_IN_PRICES_AS_OF, "2026-09");
/// ```
pub const BUILT_IN_PRICES_AS_OF: &str = "2026-09";

/// Thousandths of a dollar for a million tokens: prefill, sample, train.
#[rustfmt::skip]
const PRICES: [(&str, [u32; 3]); 26] = [
    ("Qwen/Qwen3-8B", [195, 600, 440]),
    ("Qwen/Qwen3.5-397B-A17B", [3000, 7500, 6600]),
    ("Qwen/Qwen3.5-397B-A17B:peft:262144", [4000, 10_000, 12_000]),
    ("Qwen/Qwen3.5-35B-A3B-Base", [540, 1335, 1177]),
    ("Qwen/Qwen3.5-4B", [330, 1005, 737]),
    ("Qwen/Qwen3.5-9B", [660, 1995, 1463]),
    ("Qwen/Qwen3.5-9B-Base", [660, 1995, 1463]),
    ("Qwen/Qwen3.6-27B", [1860, 5595, 4103]),
    ("Qwen/Qwen3.6-35B-A3B", [540, 1335, 1177]),
    ("Qwen/Qwen3.8-27B", [1860, 5595, 4103]),
    ("Qwen/Qwen3.8-27B:peft:262144", [2480, 7460, 7460]),
    ("deepseek-ai/DeepSeek-V3.1", [1695, 4215, 3718]),
    ("moonshotai/Kimi-K2.6", [2205, 5490, 4840]),
    ("moonshotai/Kimi-K2.6:peft:131072", [5150, 12_810, 15_400]),
    ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", [195, 495, 440]),
    ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16", [570, 1440, 1276]),
    ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16:peft:262144", [760, 1920, 2320]),
    ("nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16", [2490, 6225, 5478]),
    ("nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16:peft:262144", [3320, 8300, 9960]),
    ("openai/gpt-oss-120b", [330, 840, 737]),
    ("openai/gpt-oss-120b:peft:131072", [780, 1940, 2330]),
    ("openai/gpt-oss-20b", [180, 450, 396]),
    ("thinkingmachines/Inkling", [1870, 4680, 5610]),
    ("thinkingmachines/Inkling:peft:262144", [3740, 9360, 11_230]),
    ("thinkingmachines/Inkling-Small", [580, 1440, 1730]),
    ("zai-org/GLM-5.3:peft:262144", [4860, 12_150, 14_580]),
];

/// The models with their prices.
pub(super) fn prices() -> impl Iterator<Item = (&'static str, Price)> {
    PRICES.iter().filter_map(|(model, thousandths)| {
        let [prefill, sample, train] =
            thousandths.map(|amount| Dollars::from_picodollars(u128::from(amount) * 1_000_000_000));
        Some((*model, Price::new(prefill, sample, train).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_price_is_valid_and_there_once() {
        let by_model: BTreeMap<_, _> = prices().collect();
        assert_eq!(by_model.len(), PRICES.len());
    }

    /// The figures of Tinker's page, as it writes them.
    #[test]
    fn prices_are_those_that_were_published() {
        let by_model: BTreeMap<_, _> = prices().collect();
        for (model, published) in [
            ("Qwen/Qwen3-8B", ["$0.195", "$0.039", "$0.60", "$0.44"]),
            ("Qwen/Qwen3.5-4B", ["$0.33", "$0.066", "$1.005", "$0.737"]),
            ("Qwen/Qwen3.5-9B", ["$0.66", "$0.132", "$1.995", "$1.463"]),
            ("Qwen/Qwen3.6-35B-A3B", ["$0.54", "$0.108", "$1.335", "$1.177"]),
            ("deepseek-ai/DeepSeek-V3.1", ["$1.695", "$0.339", "$4.215", "$3.718"]),
            ("moonshotai/Kimi-K2.6:peft:131072", ["$5.15", "$1.03", "$12.81", "$15.40"]),
            ("thinkingmachines/Inkling", ["$1.87", "$0.374", "$4.68", "$5.61"]),
        ] {
            let price = by_model[model];
            let found = [price.prefill(), price.cached_prefill(), price.sample(), price.train()];
            assert_eq!(found.map(|amount| amount.to_string()), published, "{model}");
        }
    }
}
