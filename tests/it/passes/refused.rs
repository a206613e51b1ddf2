//! Batches that no service could compute: refused before anything is sent.

use tinkex::types::{Loss, LossFn, TensorData};
use tinkex::{ErrorKind, Wire};

use super::*;
use crate::support::pass_server::BOTH;

#[test]
fn missing_and_short_inputs_send_nothing() {
    let targets = |values: Vec<i64>| Datum::new([1, 2, 3]).input("target_tokens", values).unwrap();
    let short = targets(vec![2, 3]).input("weights", [1.0, 1.0]).unwrap();
    let bare = targets(vec![2, 3, 4]);
    let columns = TensorData::from(vec![1_i64; 4]).with_shape([2, 2]).unwrap();
    let columns = Datum::new([1, 2]).input("target_tokens", columns).unwrap().input("weights", [1.0, 1.0]).unwrap();
    let ppo = || Loss::ppo().config("clip_low_threshold", 0.8);
    let cases: [(Datum, Loss, &str); 4] = [
        (short, LossFn::CrossEntropy.into(), "\"target_tokens\" of datum 1 has 2 values for a model input of 3 tokens"),
        (bare.clone(), LossFn::CrossEntropy.into(), "\"weights\" of datum 1 is missing, which cross_entropy needs"),
        (bare, ppo(), "\"logprobs\" of datum 1 is missing, which ppo needs"),
        (
            columns,
            LossFn::CrossEntropy.into(),
            "\"weights\" of datum 1 has 2 values for a model input of 2 tokens with 2",
        ),
    ];
    for wire in [Wire::Json, Wire::Protobuf] {
        let (_, service) = generation(BOTH);
        let trainer = trainer(service.config().wire(wire));
        for (datum, loss, why) in &cases {
            let full = self::datum(&[5]).input("logprobs", [0.0]).unwrap().input("advantages", [0.0]).unwrap();
            let batch = Batch::from([full, datum.clone()]);
            let errors = [
                trainer.forward(&batch, loss.clone()).unwrap_err(),
                trainer.submit_forward_backward(&batch, loss.clone()).unwrap_err(),
            ];
            for error in errors {
                assert!(error.kind() == ErrorKind::InvalidInput && error.operation().is_some(), "{error:?}");
                assert!(error.to_string().contains(why) && error.hint().is_some(), "{error}");
            }
        }
        assert!(sent(&service).is_empty());
    }
}

#[test]
fn loss_settings_that_are_not_finite_send_nothing() {
    for wire in [Wire::Json, Wire::Protobuf] {
        let (_, service) = generation(BOTH);
        let trainer = trainer(service.config().wire(wire));
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let loss = || Loss::from(LossFn::CrossEntropy).config("beta", 0.5).config("temperature", value);
            let errors = [
                trainer.forward(self::datum(&[5]), loss()).unwrap_err(),
                trainer.forward_backward(self::datum(&[5]), loss()).unwrap_err(),
                trainer.submit_forward_backward(self::datum(&[5]), loss()).unwrap_err(),
            ];
            for error in errors {
                assert!(error.kind() == ErrorKind::InvalidInput && error.operation().is_some(), "{error:?}");
                assert!(error.to_string().contains("temperature"), "{error}");
            }
        }
        assert!(sent(&service).is_empty());
    }
}
