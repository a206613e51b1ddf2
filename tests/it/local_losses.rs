//! The loss functions of the local server, through the client: in both wires, and as custom losses.

use std::convert::Infallible;

use ndarray::Array1;
use tinkex::local::LocalServer;
use tinkex::local::model::Objective;
use tinkex::types::{AdamParams, Batch, Datum, LoraConfig, Loss, LossFn, ModelInput, ProvenanceSpan, TensorData};
use tinkex::{Config, CustomLoss, Proxy, ServiceClient, TrainingClient, Wire};

const PROMPT: usize = 2;

/// A trainer of a new model, the same each time.
fn trainer(server: &LocalServer, wire: Wire) -> TrainingClient {
    let config = Config::builder().api_key("tml-local").base_url(server.base_url()).proxy(Proxy::Off).wire(wire);
    let client = ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap();
    client.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::new().rank(4).seed(1)).unwrap()
}

fn tokens() -> (ModelInput, Vec<u32>) {
    let text: Vec<u32> = (*b"abcabd").map(u32::from).into();
    (ModelInput::from_tokens(text[..5].to_vec()), text[1..].to_vec())
}

/// Sampled tokens after a prompt: all more probable than when they were sampled, with advantages of either sign.
fn sampled(logprobs: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let mut old: Vec<f32> = logprobs.iter().zip([0.0, 0.0, 0.3, 0.4, 0.1]).map(|(new, ratio)| new - ratio).collect();
    old[..PROMPT].fill(0.0);
    (old, vec![0.0, 0.0, 1.0, -0.5, 2.0])
}

fn datum(old: &[f32], advantages: &[f32]) -> Datum {
    let (input, targets) = tokens();
    let spans = |offset| {
        let length = (PROMPT - offset as usize + 1) as u64;
        [ProvenanceSpan::prompt("sequence", offset, length), ProvenanceSpan::sampled("sequence", 0, 2 + offset)]
    };
    let datum = Datum::new(input).input("target_tokens", targets).unwrap();
    let datum = datum.input("logprobs", old.to_vec()).unwrap().input("advantages", advantages.to_vec()).unwrap();
    datum.with_provenance(spans(0), spans(1))
}

/// Each loss function, with its settings, and the objective that it is.
fn losses(old: &[f32], advantages: &[f32]) -> Vec<(Loss, Objective)> {
    let marked: Vec<bool> = (0..old.len()).map(|index| index >= PROMPT).collect();
    let (old, advantages) = (|| old.to_vec(), || advantages.to_vec());
    let length = marked.len();
    let wide = |loss: Loss| loss.config("clip_low_threshold", 0.5).config("clip_high_threshold", 1.25);
    let bounds = |objective: Objective| objective.clip_low(vec![0.5; length]).clip_high(vec![1.25; length]);
    vec![
        (Loss::importance_sampling(), Objective::importance_sampling(old(), advantages())),
        (Loss::ppo(), Objective::ppo(old(), advantages())),
        (wide(Loss::ppo()), bounds(Objective::ppo(old(), advantages()))),
        (Loss::cispo(), Objective::cispo(old(), advantages())),
        (wide(Loss::cispo()), bounds(Objective::cispo(old(), advantages()))),
        (Loss::dro(), Objective::dro(old(), advantages())),
        (Loss::dro().config("beta", 0.5), Objective::dro(old(), advantages()).beta(0.5)),
        (wide(LossFn::Gspo.into()), bounds(Objective::gspo(old(), advantages(), marked.clone()))),
        (
            Loss::new(LossFn::StableReinforce).config("kl_coeff", 0.25),
            Objective::stable_reinforce(old(), advantages(), marked).kl_coeff(0.25),
        ),
    ]
}

/// The log-probabilities after a step of training.
fn step(trainer: &TrainingClient, batch: &Batch) -> Vec<f32> {
    trainer.optim_step(AdamParams::new().learning_rate(0.01)).unwrap();
    let output = trainer.forward(batch, LossFn::CrossEntropy).unwrap();
    output.loss_fn_outputs[0].logprobs().unwrap().to_vec()
}

#[test]
fn each_loss_equals_a_custom_one() {
    let server = LocalServer::start().unwrap();
    let weighed = |datum: Datum| datum.input("weights", vec![0.0; 5]).unwrap();
    let before =
        trainer(&server, Wire::Json).forward(weighed(datum(&[0.0; 5], &[0.0; 5])), LossFn::CrossEntropy).unwrap();
    let (old, advantages) = sampled(before.loss_fn_outputs[0].logprobs().unwrap());
    let plain = Batch::from(weighed(datum(&old, &advantages)));
    for (loss, objective) in losses(&old, &advantages) {
        let datum = match loss.function {
            LossFn::Gspo => datum(&old, &advantages).input("sequence_ratio_mask", [0, 0, 1, 1, 1]).unwrap(),
            _ => datum(&old, &advantages),
        };
        let custom = trainer(&server, Wire::Protobuf);
        let function = |_: &[Datum], logprobs: &[Array1<f32>]| {
            let logprobs = logprobs[0].to_vec();
            let gradient = objective.gradient(&logprobs).into();
            Ok::<_, Infallible>(CustomLoss::new(objective.loss(&logprobs), vec![gradient]))
        };
        let expected = custom.forward_backward_custom(&plain, function).unwrap();
        let moved = step(&custom, &plain);
        assert_ne!(Some(&moved[..]), before.loss_fn_outputs[0].logprobs(), "{loss:?}");

        for wire in [Wire::Protobuf, Wire::Json] {
            if loss.function == LossFn::StableReinforce && wire == Wire::Json {
                let error = trainer(&server, wire).forward_backward(datum.clone(), loss.clone()).unwrap_err();
                assert!(error.to_string().contains("provenance"), "{error}");
                continue;
            }
            let trainer = trainer(&server, wire);
            let output = trainer.forward_backward(datum.clone(), loss.clone()).unwrap();
            assert_eq!(output.metrics["loss:sum"], expected.metrics["loss:sum"], "{loss:?}");
            assert_eq!(output.loss_fn_outputs[0].logprobs(), before.loss_fn_outputs[0].logprobs());
            assert_eq!(step(&trainer, &plain), moved, "{loss:?} {wire:?}");
        }
    }
}

#[test]
fn an_advantage_needs_a_sampled_token() {
    let server = LocalServer::start().unwrap();
    let trainer = trainer(&server, Wire::Protobuf);
    let datum = datum(&[-1.0; 5], &[0.0, 1.0, 1.0, 1.0, 1.0]);
    let error = trainer.forward_backward(datum, LossFn::StableReinforce).unwrap_err();
    assert!(error.to_string().contains("target 1 has the advantage 1, but was not sampled"), "{error}");
}

/// Two targets for each token, of which the second is mostly absent.
fn matrix(sparse: bool) -> Datum {
    let (input, targets) = tokens();
    let second = [0, i64::from(b'x'), 0, 0, 0];
    let targets: Vec<i64> =
        targets.iter().zip(second).flat_map(|(&first, second)| [i64::from(first), second]).collect();
    let weights = [1.0, 0.0, 0.75, 0.25, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0];
    let targets = TensorData::new(targets).unwrap().with_shape([5, 2]).unwrap();
    let weights = TensorData::new(weights).unwrap().with_shape([5, 2]).unwrap();
    let (targets, weights) = match sparse {
        true => (targets.into_sparse(0_i64).unwrap(), weights.into_sparse(0.0_f32).unwrap()),
        false => (targets, weights),
    };
    Datum::new(input).input("target_tokens", targets).unwrap().input("weights", weights).unwrap()
}

#[test]
fn several_targets_come_back_in_their_shape() {
    let server = LocalServer::start().unwrap();
    let mut results = Vec::new();
    for (wire, sparse) in [(Wire::Json, false), (Wire::Json, true), (Wire::Protobuf, false), (Wire::Protobuf, true)] {
        let trainer = trainer(&server, wire);
        let batch = Batch::from(matrix(sparse));
        let output = trainer.forward_backward(&batch, LossFn::CrossEntropy).unwrap();
        let logprobs = output.loss_fn_outputs[0].get("logprobs").unwrap();
        assert_eq!(logprobs.shape(), Some(&[5, 2][..]), "{wire:?} {sparse}");
        let moved = step(&trainer, &batch);
        // As a custom loss with the same gradient.
        let custom = self::trainer(&server, wire);
        let weights = [1.0, 0.0, 0.75, 0.25, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0];
        let function = |_: &[Datum], logprobs: &[Array1<f32>]| {
            let objective = Objective::cross_entropy(weights.to_vec());
            let logprobs = logprobs[0].to_vec();
            Ok::<_, Infallible>(CustomLoss::new(0.0, vec![objective.gradient(&logprobs).into()]))
        };
        custom.forward_backward_custom(matrix(false), function).unwrap();
        assert_eq!(step(&custom, &batch), moved, "{wire:?} {sparse}");
        results.push((output.metrics["loss:sum"], logprobs.clone(), moved));
    }
    assert!(results.iter().all(|result| *result == results[0]));
    assert!(results[0].0 > 0.0);
}
