//! The batches of passes that wait for the workers of training runs.

use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::local::model::Example;
use crate::local::server::http1::Response;

/// More bytes of batches than this do not wait, besides the first one: 1 GiB.
const MAX_BYTES: usize = 1 << 30;
/// Of a target with its loss inputs, at most about five numbers.
const BYTES_PER_TARGET: usize = 24;

/// How many bytes of batches wait or are computed.
#[derive(Clone, Debug, Default)]
pub(crate) struct WaitingBatches(Arc<Mutex<usize>>);

/// A batch, which is counted until it is dropped.
#[derive(Debug)]
pub(crate) struct WaitingBatch {
    examples: Vec<Example>,
    bytes: usize,
    all: WaitingBatches,
}

impl WaitingBatches {
    /// Counts a batch; 429 if there is no room for it until others have been computed.
    pub(crate) fn add(&self, examples: Vec<Example>) -> Result<WaitingBatch, Response> {
        let bytes = examples.iter().map(bytes).sum();
        let mut waiting = self.0.lock();
        if *waiting > 0 && waiting.saturating_add(bytes) > MAX_BYTES {
            let error =
                format!("batches of {waiting} bytes are waiting, near the maximum of {MAX_BYTES}: try again later");
            return Err(Response::temporary(429, &error));
        }
        *waiting += bytes;
        Ok(WaitingBatch { examples, bytes, all: self.clone() })
    }
}

fn bytes(example: &Example) -> usize {
    let targets = example.tokens.len() * example.targets_per_token.unwrap_or(1);
    size_of::<Example>() + size_of_val(example.tokens.as_slice()) + targets * BYTES_PER_TARGET
}

impl Deref for WaitingBatch {
    type Target = [Example];

    fn deref(&self) -> &[Example] {
        &self.examples
    }
}

impl Drop for WaitingBatch {
    fn drop(&mut self) {
        *self.all.0.lock() -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::model::Objective;

    #[test]
    fn batches_wait_as_far_as_memory_goes() {
        // Larger in words than in memory.
        let batch = |targets: usize| {
            let example = Example::new(vec![0; 1024], Vec::new(), Objective::cross_entropy(Vec::new()));
            vec![example.targets_per_token(targets / 1024)]
        };
        let (batches, third) = (WaitingBatches::default(), MAX_BYTES / BYTES_PER_TARGET / 3);
        let waiting = [third, third].map(|targets| batches.add(batch(targets)).unwrap());
        let refused = batches.add(batch(2 * third)).unwrap_err();
        assert_eq!(refused.status, 429);
        assert!(refused.detail().contains("try again later"), "{}", refused.detail());
        drop(waiting);
        // One batch always may, whatever its size.
        let huge = batches.add(batch(9 * third)).unwrap();
        assert!(batches.add(batch(1024)).is_err());
        drop(huge);
        assert_eq!(batches.add(batch(1024)).unwrap().len(), 1);
        assert_eq!(*batches.0.lock(), 0);
    }
}
