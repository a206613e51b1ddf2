//! Whether a pass fits into the memory that is free.

use crate::local::model::{AdapterOptions, Example, Model};
#[cfg(feature = "pretrained")]
use crate::local::pretrained::memory;
use crate::local::server::api::body::bad_request;
use crate::local::server::http1::Response;

/// Refuses a batch for which there is too little memory, instead of ending the process.
pub(in crate::local::server::api) fn check_pass(
    model: &dyn Model,
    adapter: &AdapterOptions,
    batch: &[Example],
    has_gradient: bool,
) -> Result<(), Response> {
    check(batch, model.pass_bytes(adapter, batch, has_gradient), available())
}

/// The memory that is free, if the system says so.
#[cfg(feature = "pretrained")]
fn available() -> Option<u64> {
    memory::available()
}

/// The models of bytes are too small for the question.
#[cfg(not(feature = "pretrained"))]
fn available() -> Option<u64> {
    None
}

fn check(batch: &[Example], needed: u64, free: Option<u64>) -> Result<(), Response> {
    let Some(free) = free.filter(|&free| needed > free) else { return Ok(()) };
    let longest = batch.iter().map(|example| example.tokens.len()).max().unwrap_or_default();
    let [needed, free] = [needed, free].map(|bytes| bytes as f64 / 1e9);
    Err(bad_request(format!(
        "a pass with {longest} tokens in its longest datum takes {needed:.1} GB of memory, and {free:.1} GB are free: use shorter \
         datums, or end other programs"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::model::Objective;

    #[test]
    fn a_pass_needs_free_memory() {
        let example = |tokens| Example::new(vec![0; tokens], Vec::new(), Objective::cross_entropy(Vec::new()));
        let batch = [example(8), example(4096)];
        for (needed, free, is_refused) in [
            (0, Some(0), false),
            (5, Some(5), false),
            (u64::MAX, None, false),
            (4_900_000_000, Some(2_100_000_000), true),
        ] {
            let refused = check(&batch, needed, free);
            assert_eq!(refused.is_err(), is_refused, "{needed} {free:?}");
            if let Err(response) = refused {
                let why = "4096 tokens in its longest datum takes 4.9 GB of memory, and 2.1 GB are free";
                assert!(response.status == 400 && response.detail().contains(why), "{}", response.detail());
            }
        }
    }
}
