//! Which fault rule applies to a request.

use parking_lot::Mutex;

use super::fault::{Fault, FaultDecision};
use crate::local::server::api::PREFIX;

/// The active rules.
#[derive(Debug)]
pub(crate) struct FaultInjector(Mutex<Rules>);

#[derive(Debug)]
struct Rules {
    active: Vec<Fault>,
    /// For rules with a rate.
    random: fastrand::Rng,
}

impl FaultInjector {
    pub(crate) fn new(rules: Vec<Fault>, seed: u64) -> Self {
        FaultInjector(Mutex::new(Rules { active: rules, random: fastrand::Rng::with_seed(seed) }))
    }

    pub(crate) fn add(&self, rule: Fault) {
        self.0.lock().active.push(rule);
    }

    /// Decides what happens to a request, and counts it.
    pub(crate) fn decide(&self, path: &str, body: &[u8]) -> FaultDecision {
        let Rules { active: rules, random } = &mut *self.0.lock();
        let path = path.strip_prefix(PREFIX).unwrap_or(path).trim_start_matches('/');
        let names = [path.split('/').next().unwrap_or_default(), path.rsplit('/').next().unwrap_or_default()];
        let mut decision = None;
        for rule in rules.iter_mut().filter(|rule| rule.endpoint == "*" || names.contains(&rule.endpoint.as_str())) {
            if rule.after > 0 {
                rule.after -= 1;
            } else if rule.times > 0 && decision.is_none() && (rule.rate >= 1.0 || random.f64() < rule.rate) {
                rule.times -= 1;
                decision = Some(rule.decide(body));
            }
        }
        rules.retain(|rule| rule.times > 0);
        decision.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(faults: &FaultInjector, endpoint: &str, requests: usize) -> Vec<u16> {
        let path = format!("/api/v1/{endpoint}");
        (0..requests).map(|_| faults.decide(&path, b"").response.map_or(200, |response| response.status)).collect()
    }

    #[test]
    fn after_and_times_select_requests_of_the_endpoint() {
        let faults = FaultInjector::new(
            vec![Fault::on("a").after(1).times(2).status(500), Fault::on("*").after(4).status(404)],
            0,
        );
        assert_eq!(statuses(&faults, "b", 2), [200, 200]);
        assert_eq!(statuses(&faults, "a", 5), [200, 500, 500, 404, 404]);
        assert_eq!(statuses(&faults, "b", 1), [404]);
    }

    #[test]
    fn only_the_first_applicable_rule_is_counted() {
        let faults =
            FaultInjector::new(vec![Fault::on("a").times(1).status(500), Fault::on("a").times(1).status(503)], 0);
        assert_eq!(statuses(&faults, "a", 3), [500, 503, 200]);
    }

    #[test]
    fn either_end_of_a_path_names_its_endpoint() {
        let faults =
            FaultInjector::new(vec![Fault::on("archive").status(503), Fault::on("training_runs").status(500)], 0);
        assert_eq!(statuses(&faults, "training_runs/x/checkpoints/weights/y/archive", 1), [503]);
        assert_eq!(statuses(&faults, "training_runs/x", 1), [500]);
        assert_eq!(statuses(&faults, "sessions/training", 1), [200]);
    }

    #[test]
    fn a_rate_is_approximate_but_seeded() {
        let hits = |seed| {
            let faults = FaultInjector::new(vec![Fault::on("a").rate(0.2).status(500)], seed);
            statuses(&faults, "a", 1000)
        };
        let count = hits(1).iter().filter(|status| **status == 500).count();
        assert!((150..250).contains(&count), "{count}");
        assert_eq!(hits(1), hits(1));
        assert_ne!(hits(1), hits(2));
    }
}
