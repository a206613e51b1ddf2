//! Custom losses: the two passes, the loss function between them, and the errors that prevent the second.

mod order;

use std::cell::Cell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error as _;
use std::fmt;
use std::rc::Rc;
use std::sync::Mutex;
use std::thread;

use ndarray::{Array1, array};
use serde_json::{Value, json};
use tinkex::types::wire::protobuf::{ForwardBackwardRequest, prost::Message};
use tinkex::types::{Batch, Datum, LoraConfig, ModelInput, ProvenanceSpan, TensorData};
use tinkex::{CustomLoss, ErrorKind, ServiceClient, TrainingClient, Wire};

use crate::support::{RecordedRequest, Reply, Service, batch, connect, healthy_service, number_of};

/// A service whose passes give one log-probability for each target, minus the number of the request.
fn service() -> Service {
    Service::start(|request| match request.request_id().split_once(':') {
        Some(("forward" | "forward_backward", _)) if request.path == "retrieve_future" => {
            let number = number_of(request.request_id()).parse::<f64>().unwrap();
            Reply::ok(json!({
                "loss_fn_output_type": "ArrayRecord",
                "loss_fn_outputs": [{"logprobs": {"data": vec![-number; 3], "dtype": "float32", "shape": [3]}}],
                "metrics": {"loss:sum": number, "mine": 7.0},
            }))
        }
        _ => healthy_service(request),
    })
}

fn trainer(service: &Service) -> TrainingClient {
    let client = ServiceClient::connect(service.config().build_with(|_| None).unwrap()).unwrap();
    client.create_lora_training_client("base", LoraConfig::default()).unwrap()
}

fn passes(service: &Service) -> Vec<RecordedRequest> {
    service.requests().into_iter().filter(|request| request.body["model_id"].is_string()).collect()
}

fn ones(logprobs: &[Array1<f32>]) -> Vec<Array1<f32>> {
    logprobs.iter().map(|logprobs| Array1::ones(logprobs.len())).collect()
}

/// A loss with the same gradient everywhere.
fn flat(_: &[Datum], logprobs: &[Array1<f32>]) -> Result<CustomLoss, Infallible> {
    Ok(CustomLoss::new(0.0, ones(logprobs)))
}

fn not_called(_: &[Datum], _: &[Array1<f32>]) -> Result<CustomLoss, Infallible> {
    unreachable!("nothing is to be computed")
}

#[test]
fn the_function_runs_between_passes_on_the_caller() {
    let service = service();
    let trainer = trainer(&service);
    // Neither `Send` nor `'static`.
    let (caller, called) = (thread::current().id(), Rc::new(Cell::new(0)));
    let output = trainer.forward_backward_custom(batch(), |data, logprobs| {
        called.set(called.get() + 1);
        assert_eq!((thread::current().id(), data.len()), (caller, 1));
        assert_eq!(logprobs, [array![-1.0, -1.0, -1.0]]);
        assert_eq!(passes(&service).len(), 1);
        Ok::<_, Infallible>(CustomLoss::new(3.0, vec![array![0.5, 0.0, -2.0]]).metric("mine", 42.0))
    });
    let output = output.unwrap();
    assert_eq!((called.get(), output.metrics["loss:sum"], output.metrics["mine"]), (1, 3.0, 42.0));
    assert_eq!(output.metrics["surrogate_loss:sum"], 2.0);
    assert_eq!(output.loss_fn_outputs[0].logprobs(), Some(&[-2.0_f32; 3][..]), "those of the second pass");
    let second = &passes(&service)[1].body["forward_backward_input"];
    assert_eq!(second["loss_fn"], "cross_entropy");
    let inputs = &second["data"][0]["loss_fn_inputs"];
    assert_eq!(inputs["weights"]["data"], json!([-0.5, -0.0, 2.0]));
    assert_eq!(inputs["target_tokens"]["data"], json!([2, 3, 4]));
    assert_eq!(inputs.as_object().unwrap().len(), 2);
}

/// A service whose passes give one log-probability for each target, and these metrics.
fn with_metrics(metrics: Value) -> Service {
    let datums = Mutex::new(HashMap::new());
    Service::start(move |request| {
        let input =
            ["forward_input", "forward_backward_input"].map(|key| request.body[key]["data"].as_array().cloned());
        if let Some(data) = input.into_iter().flatten().next() {
            let outputs = data.iter().map(|datum| {
                let mut logprobs = datum["loss_fn_inputs"]["target_tokens"].clone();
                let values: Vec<f64> = logprobs["data"].as_array().unwrap().iter().map(|_| -0.5).collect();
                (logprobs["data"], logprobs["dtype"]) = (json!(values), json!("float32"));
                json!({"logprobs": logprobs})
            });
            let id = format!("{}:{}:{}", request.path, "model-0", request.seq_id().unwrap());
            datums.lock().unwrap().insert(id, outputs.collect::<Vec<_>>());
        }
        let id = request.request_id().split('#').next().unwrap_or_default();
        match datums.lock().unwrap().get(id) {
            Some(outputs) => Reply::ok(json!({"loss_fn_outputs": outputs, "metrics": metrics})),
            None => healthy_service(request),
        }
    })
}

#[test]
fn the_metrics_tell_both_losses_apart() {
    let loss = |service: &Service, extra: &[(&str, f64)]| {
        let output = trainer(service).forward_backward_custom(batch(), |_, logprobs| {
            let custom = CustomLoss::new(7.0, ones(logprobs));
            Ok::<_, Infallible>(extra.iter().fold(custom, |custom, (name, value)| custom.metric(*name, *value)))
        });
        serde_json::to_value(output.unwrap().metrics).unwrap()
    };
    let service = with_metrics(json!({"loss:sum": 3.0, "tokens:sum": 4.0, "mine": 1.0}));
    let expected = json!({"loss:sum": 7.0, "surrogate_loss:sum": 3.0, "tokens:sum": 4.0, "mine": 2.0});
    assert_eq!(loss(&service, &[("mine", 2.0)]), expected);
    // The function's own word is the last.
    let expected = json!({"loss:sum": 0.5, "surrogate_loss:sum": 3.0, "tokens:sum": 4.0, "mine": 1.0});
    assert_eq!(loss(&service, &[("loss:sum", 0.5)]), expected);
    // 0.38.0 fails without the server's loss.
    assert_eq!(loss(&with_metrics(json!({})), &[]), json!({"loss:sum": 7.0}));
}

#[test]
fn candidates_of_a_position_have_their_own_gradient() {
    let service = with_metrics(json!({}));
    let targets = TensorData::from(vec![1_i64, 2, 3, 4, 5, 6]).with_shape([3, 2]).unwrap();
    let datum = Datum::new(ModelInput::from_tokens([1, 2, 3])).input("target_tokens", targets).unwrap();
    let gradient = array![1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0];
    let output = trainer(&service).forward_backward_custom(datum, |_, logprobs| {
        assert_eq!(logprobs, [Array1::from_elem(6, -0.5_f32)]);
        Ok::<_, Infallible>(CustomLoss::new(1.0, vec![gradient]))
    });
    assert_eq!(output.unwrap().loss_fn_outputs[0].get("logprobs").unwrap().shape(), Some(&[3, 2][..]));
    let inputs = &passes(&service)[1].body["forward_backward_input"]["data"][0]["loss_fn_inputs"];
    let expected = json!({"data": [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0], "dtype": "float32", "shape": [3, 2]});
    assert_eq!(inputs["weights"], expected);
    assert_eq!(inputs["target_tokens"]["shape"], json!([3, 2]));
}

#[test]
fn provenance_reaches_both_passes() {
    let service = Service::start(|request| match (&*request.path, request.request_id().split(':').next()) {
        ("forward_backward", _) => Reply::ok(json!({"request_id": "pass"})),
        ("retrieve_future", Some("pass")) => Reply::ok(json!({
            "loss_fn_outputs": [{"logprobs": {"data": [-0.5, -0.5, -0.5], "dtype": "float32", "shape": [3]}}]
        })),
        _ => healthy_service(request),
    });
    let config = service.config().wire(Wire::Protobuf);
    let trainer = connect(config).create_lora_training_client("base", LoraConfig::default()).unwrap();
    let spans = [ProvenanceSpan::prompt("sequence", 0, 1), ProvenanceSpan::sampled("sequence", 0, 2)];
    let datum = batch()[0].clone().with_provenance(spans.clone(), [ProvenanceSpan::sampled("sequence", 0, 3)]);
    trainer.forward_backward_custom(datum, flat).unwrap();
    let sent = service.requests_to("forward_backward").into_iter();
    let sent: Vec<_> = sent.map(|request| ForwardBackwardRequest::decode(request.raw.as_slice()).unwrap()).collect();
    assert_eq!((sent.len(), sent[0].forward_only, sent[1].forward_only), (2, true, false));
    for pass in &sent {
        assert_eq!((pass.data[0].model_input_spans.len(), pass.data[0].loss_fn_input_spans.len()), (2, 1));
    }
    assert_eq!(sent[0].data[0].model_input_spans, sent[1].data[0].model_input_spans);
    assert_eq!(sent[0].data[0].loss_fn_input_spans, sent[1].data[0].loss_fn_input_spans);
}

#[test]
fn a_gradient_of_zeros_is_a_result() {
    let service = with_metrics(json!({"loss:sum": 0.0, "loss:mean": 0.0, "odd": 1.0}));
    let datums: Vec<_> = (0..130).map(|_| batch()[0].clone()).collect();
    let output = trainer(&service).forward_backward_custom(datums, |_, logprobs| {
        let zeros = logprobs.iter().map(|logprobs| Array1::zeros(logprobs.len())).collect();
        Ok::<_, Infallible>(CustomLoss::new(0.0, zeros))
    });
    let output = output.unwrap();
    assert_eq!(
        (output.metrics["loss:sum"], output.metrics["loss:mean"], output.loss_fn_outputs.len()),
        (0.0, 0.0, 130)
    );
}

#[test]
fn a_batch_in_chunks_reaches_the_function_whole() {
    // The service returns one output for each chunk of this batch: too few.
    let service = service();
    let datums: Vec<_> = (0..130).map(|_| batch()[0].clone()).collect();
    let error = trainer(&service).forward_backward_custom(datums, not_called).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
    assert!(error.to_string().contains("1 outputs for 128 datums"), "{error}");
    assert_eq!(passes(&service).len(), 2);
}

#[test]
fn an_invalid_loss_stops_before_the_second_pass() {
    let service = service();
    let trainer = trainer(&service);
    let (nan, infinity) = (f32::NAN, f32::INFINITY);
    let losses: [(CustomLoss, &str); 6] = [
        (CustomLoss::new(0.0, vec![]), "0 gradients for 1 datums"),
        (CustomLoss::new(0.0, vec![Array1::ones(3), Array1::ones(3)]), "2 gradients for 1 datums"),
        (CustomLoss::new(0.0, vec![array![1.0, 2.0]]), "datum 0 has 2 numbers for 3"),
        (CustomLoss::new(0.0, vec![array![1.0, nan, 1.0]]), "datum 0 is NaN at 1"),
        (CustomLoss::new(0.0, vec![array![1.0, 1.0, -infinity]]), "datum 0 is -inf at 2"),
        (CustomLoss::new(f64::NAN, vec![array![1.0, 1.0, 1.0]]), "the loss is NaN"),
    ];
    for (loss, expected) in losses {
        let error = trainer.forward_backward_custom(batch(), |_, _| Ok::<_, Infallible>(loss)).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidInput, Some("forward_backward_custom")));
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(passes(&service).iter().all(|request| request.path == "forward"));
}

/// An error that only the program knows.
#[derive(Debug, PartialEq)]
struct NoReward(u32);

impl fmt::Display for NoReward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no reward for sample {}", self.0)
    }
}

impl std::error::Error for NoReward {}

#[test]
fn the_functions_own_error_is_the_source() {
    let service = service();
    let trainer = trainer(&service);
    let error = trainer.forward_backward_custom(batch(), |_, _| Err(NoReward(3))).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::Callback, "forward_backward_custom: the loss function failed")
    );
    assert_eq!(error.source().and_then(|source| source.downcast_ref()), Some(&NoReward(3)));
    assert!(error.is_user_error() && !error.is_retryable() && !error.may_have_taken_effect());
    // A string is an error, too.
    let error = trainer.submit_forward_backward_custom(batch(), |_, _| Err("no reward")).unwrap_err();
    assert_eq!((error.kind(), error.source().unwrap().to_string().as_str()), (ErrorKind::Callback, "no reward"));
    assert!(passes(&service).iter().all(|request| request.path == "forward"));
}

#[test]
fn a_panic_in_the_function_is_an_error() {
    let service = service();
    let trainer = trainer(&service);
    let panics = |_: &[Datum], _: &[Array1<f32>]| -> Result<CustomLoss, Infallible> { panic!("out of {}", "luck") };
    let error = trainer.forward_backward_custom(batch(), panics).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert!(error.to_string().contains("out of luck") && !error.may_have_taken_effect(), "{error}");
    assert!(passes(&service).iter().all(|request| request.path == "forward"));
    // The client still works.
    trainer.forward_backward_custom(batch(), flat).unwrap();
}

#[test]
fn data_without_targets_is_refused_before_any_request() {
    let service = service();
    let trainer = trainer(&service);
    let bare = Datum::new(ModelInput::from_tokens([1]));
    let targets = TensorData::from(vec![1_i64, 0]).with_shape([1, 2]).unwrap().into_sparse(0_i64).unwrap();
    let sparse = bare.clone().input("target_tokens", targets).unwrap();
    let short = bare.clone().input("target_tokens", [1, 2]).unwrap();
    for batch in [Batch::from([bare]), Batch::from([sparse]), Batch::from([short]), Batch::from(vec![])] {
        let error = trainer.submit_forward_backward_custom(batch, not_called).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidInput, Some("forward_backward_custom")));
    }
    assert!(passes(&service).is_empty());
}

#[test]
fn the_first_pass_has_weights_in_any_case() {
    let service = with_metrics(json!({}));
    let without = Datum::new(ModelInput::from_tokens([1, 2, 3])).input("target_tokens", [2, 3, 4]).unwrap();
    let weighted = without.clone().input("weights", [0.0, 0.0, 1.0]).unwrap();
    let matrix = TensorData::from(vec![2_i64, 3, 4]).with_shape([3, 1]).unwrap();
    let columns = Datum::new(ModelInput::from_tokens([1, 2, 3])).input("target_tokens", matrix).unwrap();
    let batch = Batch::from([without, weighted, columns]);
    let output = trainer(&service).forward_backward_custom(&batch, |data, logprobs| {
        assert_eq!(data, &batch[..], "the function gets the data as they are");
        flat(data, logprobs)
    });
    output.unwrap();
    let first = &passes(&service)[0].body["forward_input"]["data"];
    let weights: Vec<_> = (0..3).map(|index| &first[index]["loss_fn_inputs"]["weights"]).collect();
    assert_eq!([&weights[0]["data"], &weights[1]["data"]], [&json!([1.0, 1.0, 1.0]), &json!([0.0, 0.0, 1.0])]);
    assert_eq!((&weights[2]["data"], &weights[2]["shape"]), (&json!([1.0, 1.0, 1.0]), &json!([3, 1])));
}

#[test]
fn only_a_failed_second_pass_may_have_effect() {
    let failing = |path: &'static str| {
        let service = Service::start(move |request| match request.request_id().split(':').next() {
            Some(kind) if kind == path => Reply::Json(410, json!({"detail": "gone"})),
            Some("forward") => crate::support::result(request.request_id()),
            _ => healthy_service(request),
        });
        let one = Datum::new(ModelInput::from_tokens([1])).input("target_tokens", [2]).unwrap();
        trainer(&service).forward_backward_custom(one, flat).unwrap_err()
    };
    for (path, effect) in [("forward", false), ("forward_backward", true)] {
        let error = failing(path);
        assert_eq!((error.kind(), error.may_have_taken_effect()), (ErrorKind::Expired, effect), "{error}");
        assert_eq!(error.operation(), Some("forward_backward_custom"));
    }
}

#[cfg(feature = "local")]
#[test]
fn both_losses_train_the_local_model() {
    use tinkex::losses;
    use tinkex::types::{AdamParams, LossFn};
    let server = tinkex::local::LocalServer::start().unwrap();
    let config =
        tinkex::Config::builder().base_url(server.base_url()).api_key("tml-custom").build_with(|_| None).unwrap();
    let service = ServiceClient::connect(config).unwrap();
    let datum =
        |targets: [i64; 3]| Datum::new(ModelInput::from_tokens([97, 98, 99])).input("target_tokens", targets).unwrap();
    let pair = Batch::from([datum([98, 99, 100]), datum([101, 102, 103])]);
    let adam = AdamParams::new().learning_rate(1e-2);

    let trainer = service.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::default().seed(1)).unwrap();
    let weighted: Batch = pair.iter().map(|datum| datum.clone().input("weights", [1.0; 3]).unwrap()).collect();
    let before = trainer.forward(&weighted, LossFn::CrossEntropy).unwrap();
    let reference: Vec<Array1<f32>> =
        before.loss_fn_outputs.iter().map(|output| output.logprobs().unwrap().to_vec().into()).collect();
    let step = || {
        let output = trainer.forward_backward_custom(&weighted, losses::dpo(&reference, 0.5)).unwrap();
        trainer.optim_step(adam.clone()).unwrap();
        (output.metrics["dpo_loss"], output.metrics["accuracy"])
    };
    let first = step();
    assert!((first.0 - 2.0_f64.ln()).abs() < 1e-9, "{first:?}");
    let last = (0..5).map(|_| step()).nth(4).unwrap();
    assert!(last.0 < 0.9 * first.0 && last.1 == 1.0, "{first:?} {last:?}");

    let targets = [array![-1.0_f32, -1.0, -1.0], array![-6.0_f32, -6.0, -6.0]];
    let error = || {
        let output = trainer.forward_backward_custom(&weighted, losses::squared_error(&targets)).unwrap();
        trainer.optim_step(adam.clone()).unwrap();
        output.metrics["squared_error"]
    };
    let first = error();
    let last = (0..5).map(|_| error()).nth(4).unwrap();
    assert!(last < 0.9 * first, "{first} {last}");
}
