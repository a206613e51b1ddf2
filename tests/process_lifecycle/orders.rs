//! The parts of a client, dropped in every order, while their work is under way.

use super::support::{each_at_once, service_with_settings};
use super::*;

const PARTS: usize = 6;
const AT_ONCE: usize = 12;

/// All orders of so many parts.
fn orders(parts: usize) -> Vec<Vec<usize>> {
    let Some(last) = parts.checked_sub(1) else { return vec![Vec::new()] };
    let with_last = |order: Vec<usize>| {
        (0..=last).map(move |at| {
            let mut longer = order.clone();
            longer.insert(at, last);
            longer
        })
    };
    orders(last).into_iter().flat_map(with_last).collect()
}

/// Each with a key of its own, for those of one key share a limit of samples.
fn parts(service: &Service, number: usize) -> [Box<dyn Any + Send>; PARTS] {
    let client = connect(service.config().api_key(format!("tml-order-{number}")));
    let (trainer, sampler) = (train(&client), client.create_sampling_client("base").unwrap());
    let step = trainer.submit_optim_step(adam()).unwrap();
    let reply = sampler.submit_sample(&prompt(), 1, &params()).unwrap();
    let rest = client.create_rest_client();
    [Box::new(client), Box::new(trainer), Box::new(sampler), Box::new(rest), Box::new(step), Box::new(reply)]
}

#[test]
fn parts_may_be_dropped_in_any_order() {
    let service = service_with_settings(json!({}), silent);
    let orders = orders(PARTS);
    assert_eq!(orders.iter().collect::<BTreeSet<_>>().len(), 720);
    each_at_once(AT_ONCE, orders.iter().cloned().enumerate(), |(number, order)| {
        let mut parts = parts(&service, number).map(Some);
        promptly(move || order.into_iter().for_each(|part| drop(parts[part].take())));
    });
    service.wait_for_no_connection();
    // The last part ends the session.
    let ends = service.requests().iter().filter(|request| request.path.ends_with("/finish")).count();
    assert_eq!(ends, orders.len());
}
