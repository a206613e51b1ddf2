//! What samples are counted as.

use crate::local::model::Samples;
use crate::local::server::state::{Owner, ServerState, UsageKey, UsageKind};

/// Who sampled, and from what.
pub(crate) struct Sampled<'a> {
    pub(crate) owner: &'a Owner,
    pub(crate) session_id: Option<&'a str>,
    pub(crate) base_model: &'a str,
}

/// Counts tokens as the service does: the prompt once, and as cached for each further sample.
pub(crate) fn count_samples(state: &ServerState, of: &Sampled<'_>, prompt: usize, samples: &Samples, cached: usize) {
    let more = samples.sequences.len().saturating_sub(1);
    let sampled: usize = samples.sequences.iter().map(|sample| sample.tokens.len()).sum();
    for (kind, tokens) in [
        (UsageKind::Prefill, prompt - cached.min(prompt)),
        (UsageKind::CachedPrefill, cached + more * prompt),
        (UsageKind::Sample, sampled),
    ] {
        if tokens > 0 {
            let (owner, session_id) = (of.owner.clone(), of.session_id.map(str::to_owned));
            let key = UsageKey { owner, session_id, base_model: of.base_model.to_owned(), kind };
            state.usage.count(key, tokens as u64);
        }
    }
}
