//! Whether a model fits into the memory that is free.

use std::fs;
use std::path::Path;

use super::WeightPrecision;
use crate::error::{Error, Result};
use crate::local::transformer::ModelConfig;

/// For what the memory beside the weights is reckoned: the tokens of a sample with its prompt, those of a pass of training, and the
/// rank of the adapter.
const SAMPLED_TOKENS: u64 = 2048;
const TRAINED_TOKENS: u64 = 512;
const RANK: u64 = 32;
/// An adapter, its gradient, and two moments of the optimizer.
const ADAPTER_COPIES: u64 = 4;
const NUMBER: u64 = size_of::<f32>() as u64;

/// The memory to work with a model: to sample one sequence, and to train an adapter.
pub(super) fn working_bytes(config: &ModelConfig) -> u64 {
    let ModelConfig {
        vocab_size, hidden_size, num_layers, num_heads, num_kv_heads, head_size, intermediate_size, ..
    } = config;
    let [vocabulary, hidden, layers, inner] = [*vocab_size, *hidden_size, *num_layers, *intermediate_size].map(as_u64);
    let [queries, keys] = [num_heads * head_size, num_kv_heads * head_size].map(as_u64);
    let cache = SAMPLED_TOKENS.min(as_u64(config.context_length)) * 2 * keys;
    // A and B of queries, keys, values, output, gate, up and down.
    let adapter = RANK * (2 * (hidden + queries) + 2 * (hidden + keys) + 3 * (hidden + inner)) * ADAPTER_COPIES;
    // What the backward pass needs of each token: the inputs of the projections, and what is between them.
    let kept = TRAINED_TOKENS * (4 * hidden + 2 * queries + 2 * keys + 3 * inner);
    let logits = vocabulary * TRAINED_TOKENS / 4;
    (layers * (cache + adapter + kept) + logits) * NUMBER
}

/// Refuses a model that does not fit into the free memory. `as_half` is what the weights would take as F16, if that holds them.
pub(super) fn check(
    shown: &str,
    precision: WeightPrecision,
    weights: u64,
    as_half: Option<u64>,
    working: u64,
    free: u64,
) -> Result<()> {
    let needed = weights.saturating_add(working);
    if needed <= free {
        return Ok(());
    }
    let kept_as = if precision == WeightPrecision::F16 { "f16" } else { "f32" };
    let message = format!(
        "the model {shown} needs {} of memory, and {} are free: {} for its weights as {kept_as}, {} to sample and train",
        Size(needed),
        Size(free),
        Size(weights),
        Size(working)
    );
    let fits_as_half =
        precision != WeightPrecision::F16 && as_half.is_some_and(|as_half| as_half.saturating_add(working) <= free);
    Err(Error::invalid_input(message).with_hint(if fits_as_half {
        "keep the weights as f16 (--weights f16)"
    } else {
        "end other programs, or use a smaller model"
    }))
}

/// The memory that this process can still get, if the system says so: what the machine has, and what the process's group may use.
pub(in crate::local) fn available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| field(&text, "MemAvailable:"));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    smallest(machine, groups.lines().filter_map(group).min())
}

/// The smaller of two numbers, either of which may be unknown.
fn smallest(machine: Option<u64>, group: Option<u64>) -> Option<u64> {
    machine.into_iter().chain(group).min()
}

/// A number of kilobytes in `/proc/meminfo`, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What the memory controller of a line of `/proc/self/cgroup` leaves, with the groups that its group is in.
fn group(line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (root, [limit, used]) = match controllers {
        "" => ("/sys/fs/cgroup", ["memory.max", "memory.current"]),
        _ if controllers.split(',').any(|name| name == "memory") => {
            ("/sys/fs/cgroup/memory", ["memory.limit_in_bytes", "memory.usage_in_bytes"])
        }
        _ => return None,
    };
    let folders = Path::new(path.trim_start_matches('/')).ancestors().map(|group| Path::new(root).join(group));
    let left = folders.filter_map(|folder| {
        let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok();
        let cache = fs::read_to_string(folder.join("memory.stat")).ok().map_or(0, |text| reclaimable(&text));
        Some(left(number(limit)?, number(used)?, cache))
    });
    left.min()
}

/// What a group may still use. Files in its cache make room when it is needed.
fn left(limit: u64, used: u64, cache: u64) -> u64 {
    limit.saturating_sub(used.saturating_sub(cache))
}

/// The bytes of files in the cache of a group, by its `memory.stat`.
fn reclaimable(stat: &str) -> u64 {
    let lines = stat.lines().filter_map(|line| line.split_once(' '));
    let files = lines.filter(|(name, _)| ["inactive_file", "active_file"].contains(name));
    files.filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok()).sum()
}

fn as_u64(number: usize) -> u64 {
    number as u64
}

/// A number of bytes, in gigabytes.
struct Size(u64);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} GB", self.0 as f64 / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_number_counts() {
        for (machine, group, free) in [
            (Some(8), Some(2), Some(2)),
            (Some(8), Some(9), Some(8)),
            (Some(8), None, Some(8)),
            (None, Some(2), Some(2)),
            (None, None, None),
        ] {
            assert_eq!(smallest(machine, group), free);
        }
    }

    #[test]
    fn cached_files_of_a_group_make_room() {
        assert_eq!(left(100, 70, 30), 60);
        assert_eq!(left(100, 200, 30), 0);
        assert_eq!(left(100, 20, 30), 100);
        assert_eq!(reclaimable("anon 5\ninactive_file 10\nactive_file 20\ntotal_active_file 90\n"), 30);
        assert_eq!(field("MemTotal: 8 kB\nMemAvailable:     4 kB\n", "MemAvailable:"), Some(4096));
    }

    #[test]
    fn a_model_that_does_not_fit_is_refused() {
        let check = |precision, free| check("m", precision, 4_000_000_000, Some(2_000_000_000), 500_000_000, free);
        assert!(check(WeightPrecision::F32, 4_500_000_000).is_ok());
        let error = check(WeightPrecision::F32, 4_499_999_999).unwrap_err().to_string();
        assert!(
            error.contains("needs 4.50 GB of memory, and 4.50 GB are free: 4.00 GB for its weights as f32"),
            "{error}"
        );
        assert!(error.ends_with("(--weights f16)"), "{error}");
        for (precision, free) in [(WeightPrecision::F32, 2_000_000_000), (WeightPrecision::F16, 4_000_000_000)] {
            let error = check(precision, free).unwrap_err().to_string();
            assert!(error.ends_with("use a smaller model"), "{error}");
        }
    }
}
