//! Which rule applies to a request.

use parking_lot::Mutex;

use super::{Fault, Verdict};
use crate::local::server::routes::PREFIX;

/// The rules that are still in force, and the dice for those that apply by rate.
#[derive(Debug)]
pub(in crate::local) struct Chaos(Mutex<(Vec<Fault>, fastrand::Rng)>);

impl Chaos {
    pub(in crate::local::server) fn new(rules: Vec<Fault>, seed: u64) -> Self {
        Chaos(Mutex::new((rules, fastrand::Rng::with_seed(seed))))
    }

    pub(in crate::local) fn add(&self, rule: Fault) {
        self.0.lock().0.push(rule);
    }

    /// Counts a request and decides what happens to it.
    pub(in crate::local::server) fn judge(&self, path: &str, body: &[u8]) -> Verdict {
        let (rules, dice) = &mut *self.0.lock();
        let path = path.strip_prefix(PREFIX).unwrap_or(path).trim_start_matches('/');
        let ends = [path.split('/').next().unwrap_or_default(), path.rsplit('/').next().unwrap_or_default()];
        let mut verdict = None;
        for rule in rules.iter_mut().filter(|rule| rule.endpoint == "*" || ends.contains(&rule.endpoint.as_str())) {
            if rule.after > 0 {
                rule.after -= 1;
            } else if rule.times > 0 && verdict.is_none() && (rule.rate >= 1.0 || dice.f64() < rule.rate) {
                rule.times -= 1;
                verdict = Some(rule.verdict(body));
            }
        }
        rules.retain(|rule| rule.times > 0);
        verdict.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(faults: &Chaos, endpoint: &str, requests: usize) -> Vec<u16> {
        let path = format!("/api/v1/{endpoint}");
        (0..requests).map(|_| faults.judge(&path, b"").instead.map_or(200, |response| response.status)).collect()
    }

    #[test]
    fn a_rule_applies_to_its_endpoint_after_and_as_often_as_it_says() {
        let faults =
            Chaos::new(vec![Fault::on("a").after(1).times(2).status(500), Fault::on("*").after(4).status(404)], 0);
        assert_eq!(statuses(&faults, "b", 2), [200, 200]);
        assert_eq!(statuses(&faults, "a", 5), [200, 500, 500, 404, 404]);
        assert_eq!(statuses(&faults, "b", 1), [404]);
    }

    #[test]
    fn the_first_rule_that_applies_is_used_and_the_others_keep_their_count() {
        let faults = Chaos::new(vec![Fault::on("a").times(1).status(500), Fault::on("a").times(1).status(503)], 0);
        assert_eq!(statuses(&faults, "a", 3), [500, 503, 200]);
    }

    #[test]
    fn a_path_goes_by_its_first_and_its_last_segment() {
        let faults = Chaos::new(vec![Fault::on("archive").status(503), Fault::on("training_runs").status(500)], 0);
        assert_eq!(statuses(&faults, "training_runs/x/checkpoints/weights/y/archive", 1), [503]);
        assert_eq!(statuses(&faults, "training_runs/x", 1), [500]);
        assert_eq!(statuses(&faults, "sessions/training", 1), [200]);
    }

    #[test]
    fn a_rate_hits_about_so_many_requests_and_the_same_ones_with_the_same_seed() {
        let hits = |seed| {
            let faults = Chaos::new(vec![Fault::on("a").rate(0.2).status(500)], seed);
            statuses(&faults, "a", 1000)
        };
        let count = hits(1).iter().filter(|status| **status == 500).count();
        assert!((150..250).contains(&count), "{count}");
        assert_eq!(hits(1), hits(1));
        assert_ne!(hits(1), hits(2));
    }
}
