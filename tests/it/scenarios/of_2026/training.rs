//! Training.

use tinkex::types::{AdamParams, Batch, Loss, LossFn};

use super::start;
use crate::scenarios::training::{counted, datum};

#[test]
fn scenario_20_one_datum() {
    let scenario = start("20_fwdbwd_ce_1");
    let output = scenario.trainer().forward_backward([counted(10, 4)], LossFn::CrossEntropy).unwrap();
    assert_eq!(output.loss_fn_outputs[0].logprobs(), Some(&[-0.1, -0.2, -0.3, -0.4][..]));
    assert_eq!((output.metrics["loss:sum"], output.loss_fn_output_type.as_str()), (1.5, "ArrayRecord"));
    scenario.is_played();
}
