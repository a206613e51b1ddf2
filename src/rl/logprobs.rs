//! What another model thinks of what was sampled.

use super::policy_example::PolicyExample;
use crate::error::Result;
use crate::pending::wait_all;
use crate::sampling::SamplingClient;

/// The log-probability of each target of these examples under the model of a sampling client, in nats: one list for each example, in
/// their order. For [`kl_penalty`](super::kl_penalty), for distillation, and for [`PolicyMetrics`](super::PolicyMetrics) after a step.
///
/// Blocks until the service has scored all of them, up to the client's
/// [`timeout_operation`](crate::ConfigBuilder::timeout_operation). NaN is what the model computed, if it has diverged.
///
/// # Errors
///
/// The first error of any request; the others are then abandoned.
///
/// ```no_run
/// # fn f(sampler: tinkex::SamplingClient, mut examples: Vec<tinkex::rl::PolicyExample>) -> tinkex::Result<()> {
/// use tinkex::rl::{compute_logprobs, kl_penalty};
///
/// let reference = compute_logprobs(&sampler, &examples)?;
/// println!("{} nats per token", kl_penalty(&mut examples, &reference, 0.1, 0.0)?);
/// # Ok(())
/// # }
/// ```
pub fn compute_logprobs(client: &SamplingClient, examples: &[PolicyExample]) -> Result<Vec<Vec<f32>>> {
    let client = client.with_waiting_submits(true);
    let submit = |example: &PolicyExample| client.submit_compute_logprobs(&example.sequence());
    let sequences = wait_all(examples.iter().map(submit).collect::<Result<Vec<_>>>()?)?;
    let targets = |sequence: Vec<Option<f32>>| sequence.into_iter().skip(1).map(|logprob| logprob.unwrap_or(f32::NAN));
    Ok(sequences.into_iter().map(|sequence| targets(sequence).collect()).collect())
}
