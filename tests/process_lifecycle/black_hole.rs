//! New connections are neither made nor refused, as behind a firewall that drops packets. Nothing that ends may wait for one.

use tinkex::{Event, SamplingClient};

use super::*;

/// How long a close tries to tell the service, which cannot hear it.
const LIMIT: Duration = Duration::from_millis(200);

struct Scene {
    service: Service,
    client: ServiceClient,
    trainers: Vec<TrainingClient>,
    sampler: SamplingClient,
    started: Receiver<&'static str>,
}

impl Scene {
    /// A client with so many training clients, whose service has vanished since.
    fn start(trainers: usize) -> Self {
        let service = Service::start_vanishing(silent);
        let (start, started) = crossbeam_channel::unbounded();
        // Each request needs a new connection.
        let config = service.config().idle_retention(Duration::from_nanos(1)).max_sampling_threads(1);
        let config = config.timeout_connect(FAR).timeout_submit(FAR).observer(move |event: &Event| {
            if let Event::RequestStart { operation, .. } = event {
                start.send(*operation).ok();
            }
        });
        let client = connect(config);
        let trainers = (0..trainers).map(|_| train(&client)).collect();
        let sampler = client.create_sampling_client("base").unwrap();
        service.vanish();
        Scene { service, client, trainers, sampler, started }
    }

    /// Waits until so many of these requests were started.
    fn until_started(&self, operation: &str, count: usize) {
        for _ in 0..count {
            while self.started.recv_timeout(HANG).expect("not requested in time") != operation {}
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.client.close(LIMIT);
    }
}

#[test]
fn close_in_a_black_hole_ends_every_wait() {
    let scene = Scene::start(1);
    let (trainer, sampler) = (scene.trainers[0].clone(), scene.sampler.clone());
    let step = waiting(move || trainer.optim_step(adam()));
    scene.until_started("optim_step", 1);
    let sample = waiting(move || sampler.sample(&prompt(), 1, &params()));
    scene.until_started("sample", 1);
    let client = scene.client.clone();
    promptly(move || client.close(LIMIT));
    for waiter in [step, sample] {
        assert_eq!(waiter.recv_timeout(HANG).unwrap(), ErrorKind::Closed);
    }
    assert_eq!(scene.service.requests_to("optim_step").len(), 0);
}

#[test]
fn eight_training_clients_drop_at_once_there() {
    let mut scene = Scene::start(8);
    let steps: Vec<_> = scene.trainers.iter().map(|trainer| trainer.submit_optim_step(adam()).unwrap()).collect();
    scene.until_started("optim_step", 8);
    drop(steps);
    let trainers = std::mem::take(&mut scene.trainers);
    promptly(move || drop(trainers));
}

#[test]
fn a_sample_cancelled_there_frees_its_thread() {
    let scene = Scene::start(0);
    for _ in 0..3 {
        let reply = scene.sampler.submit_sample(&prompt(), 1, &params()).unwrap();
        scene.until_started("sample", 1);
        reply.cancel();
    }
}
