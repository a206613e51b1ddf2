//! How many samples may be submitted at the same time, and how many bytes of prompts.
//!
//! The limit of bytes is soft, as in the Python client: a submission may begin while the limit is not exceeded, so that a prompt
//! larger than the limit is still sent. After a 429 the limits are stricter for a while: the service is overloaded, and what
//! costs it most are many long prompts at once.

use std::time::{Duration, Instant};

use crate::types::{ModelInput, ModelInputChunk};

/// The estimated length of a token in a request.
const BYTES_PER_TOKEN: usize = 10;

/// How long the limits are stricter after a 429.
const STRICT: Duration = Duration::from_secs(10);

/// The maximum number of submissions at the same time meanwhile.
const STRICT_IN_FLIGHT: usize = 10;

/// How many times an estimate counts meanwhile.
const STRICT_FACTOR: usize = 20;

/// A prompt with a larger estimate, 128 KiB, is a large one.
const LARGE: usize = 131_072;

/// The pause after a refusal (429, 402) that does not say how long.
const PAUSE: Duration = Duration::from_secs(1);

/// The same for a large prompt.
const PAUSE_LARGE: Duration = Duration::from_secs(5);

/// The estimated bytes of a prompt in a request.
pub(crate) fn estimate(prompt: &ModelInput) -> usize {
    let chunk = |chunk: &ModelInputChunk| match chunk {
        ModelInputChunk::EncodedText(text) => text.tokens.len() * BYTES_PER_TOKEN,
        ModelInputChunk::Image(image) => image.data.len(),
        ModelInputChunk::ImageAssetPointer(image) => image.location.len(),
    };
    prompt.chunks.iter().map(chunk).sum()
}

/// The pause after a refusal of a prompt with this estimate, if the service does not say how long.
pub(crate) fn pause_after_refusal(estimate: usize) -> Duration {
    if estimate > LARGE { PAUSE_LARGE } else { PAUSE }
}

/// The submissions in flight, and their limits.
#[derive(Debug)]
pub(crate) struct Admission {
    in_flight: usize,
    bytes: usize,
    max_in_flight: usize,
    max_bytes: usize,
    strict_until: Option<Instant>,
}

impl Admission {
    pub(crate) fn new(max_in_flight: usize, max_bytes: usize) -> Self {
        Admission { in_flight: 0, bytes: 0, max_in_flight, max_bytes, strict_until: None }
    }

    /// Whether another submission may begin. Otherwise it can be tried again when one ends, or at the instant, if there is one.
    pub(crate) fn check(&self, now: Instant) -> Result<(), Option<Instant>> {
        if self.in_flight >= self.max_in_flight || self.bytes > self.max_bytes {
            return Err(None);
        }
        match self.strict_until(now) {
            Some(until) if self.in_flight >= STRICT_IN_FLIGHT => Err(Some(until)),
            _ => Ok(()),
        }
    }

    /// Counts a submission with this estimate. Returns the bytes that it counts for.
    pub(crate) fn begin(&mut self, estimate: usize, now: Instant) -> usize {
        let bytes = if self.strict_until(now).is_some() { estimate.saturating_mul(STRICT_FACTOR) } else { estimate };
        self.in_flight += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        bytes
    }

    /// Takes back what [`begin`](Admission::begin) has counted.
    pub(crate) fn end(&mut self, bytes: usize) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Until when the limits are stricter, if they are.
    fn strict_until(&self, now: Instant) -> Option<Instant> {
        self.strict_until.filter(|until| now < *until)
    }

    /// The service has refused a submission (429).
    pub(crate) fn refused(&mut self, now: Instant) {
        self.strict_until = Some(now + STRICT);
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::super::testing::start;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn estimates_decide_about_the_pause() {
        let tokens = |count: usize| estimate(&ModelInput::from_tokens(vec![7; count]));
        assert_eq!([0, 1, 13_107].map(tokens), [0, 10, 131_070]);
        for (estimate, seconds) in [(0, 1), (LARGE, 1), (LARGE + 1, 5), (usize::MAX, 5)] {
            assert_eq!(pause_after_refusal(estimate), seconds * SECOND);
        }
    }

    #[test]
    fn one_prompt_may_exceed_the_bytes() {
        let (now, mut admission) = (start(), Admission::new(9, 100));
        for estimate in [60, 40, 1000] {
            assert_eq!(admission.check(now), Ok(()), "the limit is not exceeded yet");
            assert_eq!(admission.begin(estimate, now), estimate);
        }
        assert_eq!(admission.check(now), Err(None));
        admission.end(1000);
        assert_eq!(admission.check(now), Ok(()));
    }

    #[test]
    fn limits_are_stricter_after_a_429() {
        let (now, mut admission) = (start(), Admission::new(400, 1000));
        admission.refused(now);
        assert_eq!(admission.check(now), Ok(()), "few are in flight");
        assert_eq!(admission.begin(40, now), 800);
        assert_eq!(admission.begin(40, now), 800);
        assert_eq!(admission.check(now), Err(None), "too many bytes");
        admission.end(800);
        assert!((0..9).all(|_| admission.begin(0, now) == 0));
        assert_eq!(admission.check(now), Err(Some(now + 10 * SECOND)));
        assert_eq!(admission.check(now + 10 * SECOND), Ok(()));
        assert_eq!(admission.begin(40, now + 10 * SECOND), 40);
    }

    quickcheck! {
        fn what_begins_and_ends_leaves_nothing(estimates: Vec<u16>, refusals: Vec<bool>) -> bool {
            let (now, mut admission) = (start(), Admission::new(usize::MAX, 0));
            let begun: Vec<_> = estimates.iter().zip(refusals.iter().chain(std::iter::repeat(&false))).map(|(estimate, refused)| {
                if *refused {
                    admission.refused(now);
                }
                admission.begin((*estimate).into(), now)
            }).collect();
            begun.into_iter().for_each(|bytes| admission.end(bytes));
            (admission.in_flight, admission.bytes) == (0, 0)
        }
    }
}
