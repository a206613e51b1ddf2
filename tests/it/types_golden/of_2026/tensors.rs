//! `pure_tensor_data`: tensors from lists, arrays and JSON, dense and sparse.

use serde_json::{Value, json};
use tinkex::types::*;

use super::{cases, entries};

/// The parts of a tensor that the fixture has.
fn parts(tensor: &TensorData) -> Value {
    let values = tensor.stored_values();
    let data = match (values.as_f32(), values.as_i64()) {
        (Some(floats), _) => floats.iter().map(|&number| json!(f64::from(number))).collect::<Vec<_>>(),
        (_, integers) => integers.unwrap().iter().map(|number| json!(number)).collect(),
    };
    json!({
        "dtype": tensor.dtype(),
        "shape": tensor.shape(),
        "data": data,
        "sparse_crow_indices": tensor.crow_indices(),
        "sparse_col_indices": tensor.col_indices(),
    })
}

/// What the Python client made of the same, without what numpy adds.
fn recorded(out: &Value) -> Value {
    let mut out = out.clone();
    out.as_object_mut().unwrap().retain(|key, _| !key.starts_with("numpy"));
    out
}

#[test]
fn parsed() {
    /// Inputs that either only Python or only this crate accepts, or that mean something else.
    const DIFFERENT: [(&str, &str); 7] = [
        (r#"{"data":[1.5,2.0],"dtype":"int64"}"#, "a fraction is no int64"),
        (r#"{"data":[true,false],"dtype":"int64"}"#, "a boolean is no number"),
        (r#"{"data":["1"],"dtype":"int64"}"#, "a text is no number"),
        (r#"{"data":[null],"dtype":"float32"}"#, "null is NaN, which the fixture writes as a word"),
        (r#"{"dtype":"int64"}"#, "a tensor has data"),
        (r#"{"data":[[1,2],[3,4]],"dtype":"int64"}"#, "the protocol's lists are flat"),
        (r#"{"data":[1],"dtype":"int64","extra":1}"#, "unknown keys are ignored"),
    ];
    let mut different = 0;
    for case in cases("pure_tensor_data", "constructor") {
        let kwargs = case["kwargs"].to_string();
        if DIFFERENT.iter().any(|(json, _)| *json == kwargs) {
            different += 1;
            continue;
        }
        match (serde_json::from_str::<TensorData>(&kwargs), case.get("out")) {
            (Ok(ours), Some(out)) => assert_eq!(parts(&ours), recorded(out), "{kwargs}"),
            (Err(_), None) => {}
            // JSON has no NaN.
            (Err(_), Some(_)) => assert!(kwargs.contains("__float__"), "{kwargs}"),
            (Ok(ours), None) => panic!("{kwargs}: {ours:?}"),
        }
    }
    assert_eq!(different, DIFFERENT.len());
}

#[test]
fn loss_inputs_by_name() {
    /// Lists that Rust cannot express, or that only one of the two takes.
    const DIFFERENT: [(&str, &str); 7] = [
        ("nested", "a nested list is an array here"),
        ("ragged", "not expressible"),
        ("strs", "not expressible"),
        ("scalar", "not expressible"),
        ("tuple", "not expressible"),
        ("dict", "a tensor is taken here"),
        ("numpy uint8", "unsigned integers are int64 here"),
    ];
    for case in cases("pure_tensor_data", "datum_conversion") {
        let (key, kind) = (case["key"].as_str().unwrap(), case["value_name"].as_str().unwrap());
        if DIFFERENT.iter().any(|(other, _)| *other == kind) {
            continue;
        }
        let numbers = || entries(&case["value"]).iter().map(|number| number.as_f64().unwrap()).collect::<Vec<_>>();
        let whole = || entries(&case["value"]).iter().map(|number| number.as_i64().unwrap()).collect::<Vec<_>>();
        let datum = Datum::new([1]);
        let datum = match kind {
            "ints" => datum.input(key, whole()),
            "floats" | "mixed" | "empty" => datum.input(key, numbers()),
            "bools" => datum.input(key, [true, false]),
            #[cfg(feature = "ndarray")]
            "numpy int32" => {
                datum.input(key, ndarray::Array1::from_iter(whole().into_iter().map(|whole| whole as i32)))
            }
            #[cfg(feature = "ndarray")]
            "numpy float64" => datum.input(key, ndarray::Array1::from_vec(numbers())),
            _ if cfg!(not(feature = "ndarray")) => continue,
            other => panic!("{other} is not covered"),
        };
        match (datum, case.get("out")) {
            // The Python client truncates fractions.
            (Err(error), Some(_)) => {
                assert!(key == "target_tokens" && ["floats", "mixed"].contains(&kind), "{key}, {kind}: {error}");
            }
            (Ok(datum), Some(out)) => assert_eq!(parts(&datum.loss_fn_inputs[key]), recorded(out), "{key}, {kind}"),
            (Err(error), None) => assert!(error.to_string().contains(key), "{error}"),
            (Ok(datum), None) => panic!("{key}, {kind}: {datum:?}"),
        }
    }
}

/// The numbers of a nested list, row by row.
fn flat(list: &Value, numbers: &mut Vec<Value>) {
    match list {
        Value::Array(items) => items.iter().for_each(|item| flat(item, numbers)),
        number => numbers.push(number.clone()),
    }
}

/// A tensor of a recorded array. None for types that Rust or the protocol has not.
fn tensor(np_dtype: &str, list: &Value, shape: &Value) -> Option<TensorData> {
    let mut numbers = Vec::new();
    flat(list, &mut numbers);
    let float = |number: &Value| match number["__float__"].as_str() {
        Some(word) => word.parse::<f64>().unwrap(),
        None => number.as_f64().unwrap(),
    };
    let floats = || numbers.iter().map(float);
    let whole = || numbers.iter().map(|number| number.as_i64().unwrap());
    let tensor = match np_dtype {
        "float64" => TensorData::new(floats().collect::<Vec<_>>()),
        "float32" => TensorData::new(floats().map(|number| number as f32).collect::<Vec<_>>()),
        "int64" => TensorData::new(whole().collect::<Vec<_>>()),
        "int32" => TensorData::new(whole().map(|number| number as i32).collect::<Vec<_>>()),
        "int16" => TensorData::new(whole().map(|number| number as i16).collect::<Vec<_>>()),
        "int8" => TensorData::new(whole().map(|number| number as i8).collect::<Vec<_>>()),
        _ => return None,
    };
    Some(tensor.unwrap().with_shape(serde_json::from_value::<Vec<usize>>(shape.clone()).unwrap()).unwrap())
}

#[test]
fn from_numbers_of_any_type() {
    let mut compared = 0;
    for case in cases("pure_tensor_data", "from_numpy") {
        let (name, dtype) = (case["name"].as_str().unwrap(), case["np_dtype"].as_str().unwrap());
        let Some(ours) = tensor(dtype, &case["np_list"], &case["np_shape"]) else { continue };
        let out = &case["out"];
        // Python sends non-finite values; this crate refuses them first.
        if ["float32 nan inf", "float64 beyond float32"].contains(&name) {
            assert!(ours.validate().is_err(), "{name}");
            continue;
        }
        assert_eq!(parts(&ours), recorded(out), "{name}");
        compared += 1;
    }
    assert_eq!(compared, 28);
}

#[test]
fn matrices_become_sparse_as_recorded() {
    for (part, pad) in [("from_torch_sparse", 0), ("from_torch_sparse_pad_-1", -1)] {
        for case in cases("pure_tensor_data", part) {
            let (mut numbers, dense) = (Vec::new(), &case["dense"]);
            flat(dense, &mut numbers);
            let rows = entries(dense);
            let shape = match rows[0].as_array() {
                Some(row) => json!([rows.len(), row.len()]),
                None => json!([rows.len()]),
            };
            let is_float = numbers[0].is_f64();
            let ours = tensor(if is_float { "float32" } else { "int64" }, dense, &shape).unwrap();
            let sparse = match is_float {
                true => ours.clone().into_sparse(pad as f32),
                false => ours.clone().into_sparse(i64::from(pad)),
            };
            let sparse = sparse.unwrap();
            assert_eq!(parts(&sparse), recorded(&case["out"]), "{part}, {}", case["name"]);
            let back = if is_float { sparse.to_dense(pad as f32) } else { sparse.to_dense(i64::from(pad)) };
            assert_eq!(back.unwrap(), ours);
            // On the wire it has the same parts.
            let written = json!(sparse);
            assert_eq!(serde_json::from_value::<TensorData>(written).unwrap(), sparse);
        }
    }
}

#[test]
fn sparse_json_that_does_not_fit_is_refused() {
    for (json, why) in [
        (json!({"data": [5], "dtype": "int64", "shape": [1, 2], "sparse_crow_indices": [0, 1]}), "needs both"),
        (
            json!({"data": [5], "dtype": "int64", "shape": [2], "sparse_crow_indices": [0, 1], "sparse_col_indices": [0]}),
            "two dimensions",
        ),
        (
            json!({"data": [5], "dtype": "int64", "shape": [1, 2], "sparse_crow_indices": [0, 1], "sparse_col_indices": [2]}),
            "column index 2",
        ),
    ] {
        let error = serde_json::from_value::<TensorData>(json).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}
