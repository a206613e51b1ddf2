//! Passes over batches, in protobuf.

use tinkex::ErrorKind;
use tinkex::types::{AdamParams, Batch, LossFn};

use super::start;
use crate::scenarios::training::{a_forward_pass, a_pipeline, counted, datum, importance_sampling};

#[test]
fn scenario_20_one_datum() {
    let scenario = start("20_fwdbwd_ce_1");
    let output = scenario.trainer().forward_backward([counted(10, 4)], LossFn::CrossEntropy).unwrap();
    assert_eq!(output.loss_fn_outputs[0].logprobs(), Some(&[-0.1, -0.2, -0.3, -0.4][..]));
    assert_eq!((output.metrics["loss:sum"], output.loss_fn_output_type.as_str()), (1.5, "ArrayRecord"));
    scenario.is_played();
}

#[test]
fn scenario_22_many_datums_in_one_chunk() {
    let scenario = start("22_fwdbwd_130_datums");
    let trainer = scenario.trainer();
    let batch: Batch = (0..130).map(|first| counted(first, 2)).collect();
    assert_eq!(trainer.forward_backward(&batch, LossFn::CrossEntropy).unwrap().loss_fn_outputs.len(), 130);
    // Python raises an error, too.
    assert!(trainer.forward_backward(Batch::default(), LossFn::CrossEntropy).is_err());
    trainer.optim_step(AdamParams::default()).unwrap();
    scenario.is_played();
}

#[test]
fn scenario_23_large_datums_are_split() {
    let scenario = start("23_fwdbwd_size_limit");
    let trainer = scenario.trainer();
    let large = |length: usize| datum(&vec![1; length], &vec![2; length], &vec![1.0; length]);
    let batch: Batch = (0..5).map(|_| large(80_000)).collect();
    // Python does not see that the recorded server has two log-probabilities for each datum, however long it is.
    let (larger, small) = (large(200_000), counted(10, 2));
    for batch in [batch, Batch::from([larger, small.clone(), small])] {
        let error = trainer.forward_backward(&batch, LossFn::CrossEntropy).unwrap_err();
        assert!(error.kind() == ErrorKind::Decode && error.message().contains("2 logprobs for"), "{error}");
    }
    scenario.is_played_in_any_order_of_polls();
}

#[test]
fn scenario_24_importance_sampling() {
    importance_sampling(&start("24_fwdbwd_importance_sampling"));
}

#[test]
fn scenario_26_a_forward_pass_is_a_flag() {
    a_forward_pass(&start("26_forward"));
}

#[test]
fn scenario_29_a_pipeline_keeps_its_order() {
    a_pipeline(&start("29_pipeline_order"));
}

#[cfg(feature = "ndarray")]
#[test]
fn scenario_27_custom_loss() {
    use tinkex::CustomLoss;
    let scenario = start("27_fwdbwd_custom");
    let trainer = scenario.trainer();
    let data = [datum(&[10, 11, 12], &[11, 12, 13], &[0.0, 1.0, 1.0]), datum(&[30, 31], &[31, 32], &[0.0, 1.0])];
    let output = trainer.forward_backward_custom(data, |_, logprobs| -> tinkex::Result<_> {
        let loss = f64::from(logprobs.iter().flatten().map(|logprob| logprob * logprob).sum::<f32>());
        let gradients = logprobs.iter().map(|logprobs| logprobs * 2.0).collect();
        Ok(CustomLoss::new(loss, gradients).metric("custom/loss:sum", loss))
    });
    let output = output.unwrap();
    assert!((output.metrics["loss:sum"] - 0.196_2).abs() < 1e-6, "{:?}", output.metrics);
    assert_eq!(output.metrics["loss:sum"], output.metrics["custom/loss:sum"]);
    assert!(output.metrics.contains_key("surrogate_loss:sum"), "{:?}", output.metrics);
    trainer.optim_step(AdamParams::default()).unwrap();
    trainer.forward_backward([datum(&[1, 2], &[1, 2], &[0.5, 1.5])], LossFn::CrossEntropy).unwrap();
    scenario.is_played();
}

#[cfg(feature = "zstd")]
#[test]
fn scenario_91_compressed_passes() {
    let scenario = start("91_config_compress");
    let trainer = scenario.trainer();
    trainer.forward_backward([counted(10, 40)], LossFn::CrossEntropy).unwrap();
    trainer.forward([counted(10, 2)], LossFn::CrossEntropy).unwrap();
    scenario.is_played();
}

#[test]
fn scenario_92_chunks_go_out_in_order() {
    let scenario = start("92_config_chunking_parallel");
    let trainer = scenario.trainer();
    let batch: Batch = (0..5).map(|first| counted(first, 2)).collect();
    assert_eq!(trainer.forward_backward(&batch, LossFn::CrossEntropy).unwrap().loss_fn_outputs.len(), 5);
    trainer.optim_step(AdamParams::default()).unwrap();
    assert_eq!(scenario.service.requests_to("forward_backward").len(), 3);
    scenario.is_played_in_any_order_of_polls();
}
