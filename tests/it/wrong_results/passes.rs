//! Passes whose results do not fit the batch.

use tinkex::types::{Batch, Datum, Loss, LossFn, ModelInput, TensorData};

use super::*;

/// Datums of one, two and three tokens, in turn.
fn datums(count: u32) -> Batch {
    let tokens = |index: u32| (0..=index % 3).map(move |place| 10 * index + place);
    let datum = |index| {
        let tokens: Vec<u32> = tokens(index).collect();
        let targets: Vec<i64> = tokens.iter().copied().map(i64::from).collect();
        Datum::new(ModelInput::from_tokens(&tokens[..])).input("target_tokens", targets).unwrap()
    };
    (0..count).map(|index| datum(index).input("weights", vec![1.0; index as usize % 3 + 1]).unwrap()).collect()
}

fn outputs(result: &mut Value) -> &mut Vec<Value> {
    result["loss_fn_outputs"].as_array_mut().unwrap()
}

fn set_logprobs(result: &mut Value, datum: usize, length: usize) {
    let logprobs = json!({"data": vec![-0.5; length], "dtype": "float32", "shape": [length]});
    outputs(result)[datum]["logprobs"] = logprobs;
}

/// A name, the number of the wrong request, what is wrong with its result, and what the error says.
type Row = (&'static str, u64, fn(u64, &mut Value), &'static str);

const LIES: [Row; 7] = [
    (
        "the first part is short",
        1,
        |seq_id, result| outputs(result).truncate(if seq_id == 1 { 127 } else { 128 }),
        "the response has 127 outputs for 128 datums",
    ),
    (
        "the sum is right",
        1,
        |seq_id, result| match seq_id {
            1 => outputs(result).truncate(127),
            2 => outputs(result).push(json!({})),
            _ => {}
        },
        "127 outputs for 128 datums",
    ),
    (
        "the second part has none",
        2,
        |seq_id, result| outputs(result).truncate(if seq_id == 2 { 0 } else { 128 }),
        "0 outputs for 128 datums",
    ),
    (
        "the last part has too many",
        3,
        |seq_id, result| {
            if seq_id == 3 {
                let first = outputs(result)[0].clone();
                outputs(result).push(first);
            }
        },
        "45 outputs for 44 datums",
    ),
    (
        "a logprob is missing",
        2,
        |seq_id, result| {
            if seq_id == 2 {
                set_logprobs(result, 3, 2);
            }
        },
        "2 logprobs for 3 targets of datum 131",
    ),
    (
        "there are no logprobs of a datum",
        3,
        |seq_id, result| {
            if seq_id == 3 {
                set_logprobs(result, 0, 0);
            }
        },
        "0 logprobs for 2 targets of datum 256",
    ),
    (
        "logprobs are integers",
        1,
        |seq_id, result| {
            if seq_id == 1 {
                outputs(result)[0]["logprobs"] = json!({"data": [1], "dtype": "int64", "shape": [1]});
            }
        },
        "logprobs of the type int64 for datum 0",
    ),
];

#[test]
fn results_that_do_not_fit_are_errors() {
    for wire in WIRES {
        for (name, seq_id, lie, why) in LIES {
            let service = with_passes(move |number, result| {
                if number <= 3 {
                    lie(number, result)
                }
            });
            let trainer = trainer(&service, wire);
            let error = trainer.forward_backward(datums(300), LossFn::CrossEntropy).unwrap_err();
            assert_wrong(&error, &format!("wrong-{}", seq_id - 1), "forward_backward", why);
            // The client goes on with the next number.
            let output = trainer.forward_backward(datums(2), LossFn::CrossEntropy).unwrap();
            let logprobs: Vec<_> = output.loss_fn_outputs.iter().map(|output| output.logprobs().unwrap()).collect();
            assert_eq!(logprobs, [&[0.0_f32][..], &[-10.0 / 1024.0, -11.0 / 1024.0]], "{wire:?} {name}");
            let requests = service.requests_to("forward_backward");
            let numbers: Vec<_> = requests.iter().map(|request| SeenPass::read(request).unwrap().seq_id).collect();
            assert_eq!(numbers, [1, 2, 3, 4], "{wire:?} {name}");
        }
    }
}

#[test]
fn each_output_belongs_to_its_datum() {
    for wire in WIRES {
        let service = with_passes(|_, _| {});
        let trainer = trainer(&service, wire);
        let batch = datums(300);
        for output in [
            trainer.forward_backward(&batch, LossFn::CrossEntropy).unwrap(),
            trainer.submit_forward(&batch, LossFn::CrossEntropy).unwrap().wait().unwrap(),
        ] {
            assert_eq!(output.loss_fn_outputs.len(), 300);
            for (datum, output) in batch.iter().zip(&output.loss_fn_outputs) {
                let targets = datum.loss_fn_inputs["target_tokens"].as_i64().unwrap();
                let expected: Vec<_> = targets.iter().map(|target| -(*target as f32) / 1024.0).collect();
                assert_eq!(output.logprobs(), Some(&expected[..]), "{wire:?}");
            }
        }
    }
}

#[test]
fn candidates_count_one_by_one() {
    let targets = TensorData::from(vec![1_i64, 2, 3, 4]).with_shape([2, 2]).unwrap();
    let datum = || Datum::new([1, 2]).input("target_tokens", targets.clone()).unwrap();
    let weights = TensorData::from(vec![1.0_f32; 4]).with_shape([2, 2]).unwrap();
    for wire in WIRES {
        for (length, is_right) in [(4, true), (2, false)] {
            let service = with_passes(move |_, result| set_logprobs(result, 0, length));
            let batch = datum().input("weights", weights.clone()).unwrap();
            let result = trainer(&service, wire).forward(batch, LossFn::CrossEntropy);
            assert_eq!(result.is_ok(), is_right, "{wire:?} {length} {result:?}");
        }
    }
}

#[test]
fn outputs_without_logprobs_are_tolerated() {
    for wire in WIRES {
        let service = with_passes(|_, result| outputs(result)[0] = json!({}));
        let output = trainer(&service, wire).forward(datums(1), LossFn::CrossEntropy).unwrap();
        assert_eq!(output.loss_fn_outputs[0].logprobs(), None, "{wire:?}");
    }
}

/// Some services have no outputs for datums: what cannot be shifted is no error.
#[test]
fn services_may_have_no_outputs_at_all() {
    for wire in WIRES {
        for form in [json!([]), json!([{"logprobs": {"data": [], "dtype": "float32", "shape": [0]}}])] {
            let service = with_passes(move |_, result| result["loss_fn_outputs"] = form.clone());
            let trainer = trainer(&service, wire);
            let output = trainer.forward_backward(datums(300), LossFn::CrossEntropy).unwrap();
            assert_eq!(output.loss_fn_outputs, [], "{wire:?}");
            let honest = self::trainer(&with_passes(|_, _| {}), wire);
            assert_eq!(output.metrics, honest.forward_backward(datums(300), LossFn::CrossEntropy).unwrap().metrics);
        }
    }
}

/// A client that got outputs once gets an error when they are missing, but for losses that were created on the server.
#[test]
fn outputs_are_not_left_out_later() {
    let custom = || Loss::new(LossFn::Custom).config("loss_id", "loss-1");
    for wire in WIRES {
        let service = with_passes(|number, result| {
            if !matches!(number, 1 | 3) {
                outputs(result).clear();
            }
        });
        let trainer = trainer(&service, wire);
        let count = |loss: Loss| trainer.forward_backward(datums(2), loss).map(|output| output.loss_fn_outputs.len());
        let known = || Loss::from(LossFn::CrossEntropy);
        assert_eq!([custom(), known(), known(), custom()].map(|loss| count(loss).unwrap()), [2, 0, 2, 0], "{wire:?}");
        assert_wrong(&count(known()).unwrap_err(), "wrong-4", "forward_backward", "0 outputs for 2 datums");
    }
}

#[cfg(feature = "ndarray")]
type Lie = fn(&mut Value);

#[cfg(feature = "ndarray")]
#[test]
fn custom_losses_need_every_logprob() {
    use std::convert::Infallible;

    for wire in WIRES {
        let rows: [(Lie, &str); 4] = [
            (|result| outputs(result).clear(), "0 outputs for 3 datums"),
            (|result| drop(outputs(result).pop()), "2 outputs for 3 datums"),
            (|result| set_logprobs(result, 1, 1), "1 logprobs for 2 targets of datum 1"),
            (|result| outputs(result)[2] = json!({}), "no logprobs for datum 2"),
        ];
        for (lie, why) in rows {
            let service = with_passes(move |_, result| lie(result));
            let loss = |_: &[Datum], _: &[ndarray::Array1<f32>]| -> Result<tinkex::CustomLoss, Infallible> {
                unreachable!("there is nothing to compute it from")
            };
            let error = trainer(&service, wire).forward_backward_custom(datums(3), loss).unwrap_err();
            assert_eq!((error.kind(), error.request_id()), (ErrorKind::Decode, Some("wrong-0")), "{error}");
            assert!(error.message().contains(why), "{error}");
            assert!(!error.may_have_taken_effect(), "the first pass changes nothing: {error}");
        }
    }
}
