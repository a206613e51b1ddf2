//! How many sequences run at once.

/// What may run at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) sequences: usize,
    /// Of keys and values.
    pub(super) bytes: usize,
}

/// What a request needs and has. One without sequences needs one all the same, for its prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The bytes of its prompt, from its first sequence on until it ends.
    pub(super) prompt_bytes: usize,
    /// The bytes of each sequence that runs.
    pub(super) sequence_bytes: usize,
    /// How many sequences it has in all, at least 1.
    pub(super) sequences: usize,
    /// How many of them may run, or have run.
    pub(super) admitted: usize,
    /// How many of them have ended.
    pub(super) ended: usize,
}

impl Claim {
    fn running(&self) -> usize {
        self.admitted - self.ended
    }

    fn bytes(&self) -> usize {
        let prompt = if self.admitted == 0 { 0 } else { self.prompt_bytes };
        prompt.saturating_add(self.running().saturating_mul(self.sequence_bytes))
    }
}

/// Admits further sequences, in the order of the requests: none passes one that came before. A sequence that is too large is admitted
/// when no other one runs.
pub(super) fn admit(claims: &mut [Claim], limits: Limits) {
    let mut running: usize = claims.iter().map(Claim::running).sum();
    let mut bytes = claims.iter().map(Claim::bytes).fold(0, usize::saturating_add);
    for claim in claims {
        while claim.admitted < claim.sequences {
            let before = claim.bytes();
            let with_next = Claim { admitted: claim.admitted + 1, ..*claim };
            let bytes_with_next = bytes.saturating_add(with_next.bytes() - before);
            if running > 0 && (running == limits.sequences || bytes_with_next > limits.bytes) {
                return;
            }
            *claim = with_next;
            (running, bytes) = (running + 1, bytes_with_next);
        }
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    const LIMITS: Limits = Limits { sequences: 4, bytes: 100 };

    fn claim(prompt_bytes: usize, sequence_bytes: usize, sequences: usize) -> Claim {
        Claim { prompt_bytes, sequence_bytes, sequences, admitted: 0, ended: 0 }
    }

    fn admitted(claims: &[Claim]) -> Vec<usize> {
        let mut claims = claims.to_vec();
        admit(&mut claims, LIMITS);
        claims.iter().map(|claim| claim.admitted).collect()
    }

    #[test]
    fn requests_are_admitted_in_order() {
        let running = |admitted, ended, claim| Claim { admitted, ended, ..claim };
        let table = [
            (vec![claim(10, 10, 2), claim(10, 10, 9)], vec![2, 2]),
            // The second one does not fit, and the third one does not pass it.
            (vec![claim(10, 10, 2), claim(60, 20, 1), claim(1, 1, 1)], vec![2, 0, 0]),
            // As many sequences of a prompt as fit.
            (vec![claim(40, 25, 8)], vec![2]),
            // One that never fits runs alone.
            (vec![claim(500, 500, 2), claim(1, 1, 1)], vec![1, 0]),
            (vec![claim(usize::MAX, usize::MAX, 2)], vec![1]),
            // Its first sequence has ended.
            (vec![running(1, 1, claim(500, 500, 2)), claim(1, 1, 1)], vec![2, 0]),
            (vec![running(3, 1, claim(40, 25, 8)), claim(1, 1, 1)], vec![3, 0]),
            (vec![running(3, 3, claim(40, 25, 3)), claim(10, 10, 1)], vec![3, 1]),
            (vec![], vec![]),
        ];
        for (claims, expected) in table {
            assert_eq!(admitted(&claims), expected, "{claims:?}");
        }
    }

    quickcheck! {
        /// Whatever the sizes: all sequences run in the end, more than one only within the limits, and first those that came first.
        fn every_sequence_gets_its_turn(sizes: Vec<(u8, u8, u8)>, order: Vec<u8>) -> bool {
            let claims = sizes.iter().map(|&(prompt, sequence, count)| claim(prompt.into(), sequence.into(), usize::from(count % 9) + 1));
            let mut claims: Vec<Claim> = claims.collect();
            let mut order = order.into_iter().cycle();
            for _ in 0..10_000 {
                claims.retain(|claim| claim.ended < claim.sequences);
                admit(&mut claims, LIMITS);
                let running: usize = claims.iter().map(Claim::running).sum();
                let bytes: usize = claims.iter().map(Claim::bytes).sum();
                let waiting = claims.iter().skip_while(|claim| claim.admitted == claim.sequences).skip(1);
                if running > 1 && (running > LIMITS.sequences || bytes > LIMITS.bytes)
                    || running == 0 && !claims.is_empty()
                    || waiting.clone().any(|claim| claim.admitted > 0)
                {
                    return false;
                }
                let mut running: Vec<_> = claims.iter_mut().filter(|claim| claim.running() > 0).collect();
                let chosen = usize::from(order.next().unwrap_or(0)) % running.len().max(1);
                if let Some(claim) = running.get_mut(chosen) {
                    claim.ended += 1;
                }
            }
            claims.is_empty()
        }
    }
}
