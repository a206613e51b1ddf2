//! `pure_tensor_data`: tensors from lists, JSON and arrays, and back.

use serde_json::{Value, json};
use tinkex::Result;
use tinkex::types::*;

use super::normal;
use super::{entries, fixture, inner};

fn cases(part: &str) -> Vec<Value> {
    entries(&fixture("pure_tensor_data")[part]).to_vec()
}

/// Ours equals Python's on the wire, to the precision of float32.
fn assert_tensor(ours: &TensorData, golden: &Value, place: &str) {
    assert_eq!(normal::ours(json!(ours)), normal::python("", inner(golden)), "{place}");
    ours.validate().unwrap();
}

#[test]
fn parsed() {
    /// Inputs that either only Python or only this crate accepts.
    const DIFFERENT: [(&str, &str); 6] = [
        (r#"{"data":[1.5,2.0],"dtype":"int64"}"#, "a fraction is no int64"),
        (r#"{"data":[1,2],"dtype":"float32","shape":[3]}"#, "the shape does not hold two numbers"),
        (r#"{"data":["1"],"dtype":"int64"}"#, "a text is no number"),
        (r#"{"data":[true,false],"dtype":"int64"}"#, "a boolean is no number"),
        (r#"{"data":[null],"dtype":"float32"}"#, "null is NaN"),
        (r#"{"data":[1],"dtype":"int64","extra":1}"#, "unknown keys are ignored"),
    ];
    for case in cases("constructor") {
        let kwargs = case["kwargs"].to_string();
        if kwargs.contains("__float__") {
            // JSON has no NaN: pydantic writes null, which is read as NaN.
            let read: TensorData = serde_json::from_value(json!({"data": [null, null], "dtype": "float32"})).unwrap();
            assert!(read.as_f32().unwrap().iter().all(|number| number.is_nan()));
            continue;
        }
        let ours = serde_json::from_str::<TensorData>(&kwargs);
        let different = DIFFERENT.iter().any(|(json, _)| *json == kwargs);
        assert_eq!(ours.is_ok() != case.get("out").is_some(), different, "{kwargs}");
        if let (Ok(ours), false) = (ours, different) {
            let golden = case["out"]["exclude_unset_json"].as_str().unwrap();
            // Whole floats as int64 are written as integers.
            let golden = if ours.dtype() == Dtype::Int64 { golden.replace(".0", "") } else { golden.to_owned() };
            assert_tensor(&ours, &json!(golden), &kwargs);
        }
    }
}

#[test]
fn numbers_are_the_shortest_that_read_back() {
    // By way of an f64, the first one would be rounded twice.
    let numbers =
        [7.038_531e-26_f32, 0.1, 1.0, -0.0, 1e-7, 1e20, f32::MAX, f32::MIN_POSITIVE, 1e-45, 0.333_333_34, 16_777_216.0];
    let text = serde_json::to_string(&TensorData::from(numbers.as_slice())).unwrap();
    assert!(text.starts_with(r#"{"data":[7.038531e-26,0.1,1.0,-0.0,1e-7,1e+20,"#) || text.contains(",1e20,"), "{text}");
    let read: TensorData = serde_json::from_str(&text).unwrap();
    let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(read.as_f32().unwrap()), bits(&numbers));
    let whole: TensorData =
        serde_json::from_str(r#"{"dtype":"int64","data":[-9223372036854775808,9223372036854775807]}"#).unwrap();
    assert_eq!(whole.as_i64(), Some(&[i64::MIN, i64::MAX][..]));
    assert!(serde_json::from_str::<TensorData>(r#"{"dtype":"int64","data":[9223372036854775808]}"#).is_err());
}

#[test]
fn non_finite_values_are_refused_with_their_index() {
    assert!(cases("nan_on_the_wire")[0].get("exception").is_some());
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = TensorData::from(vec![0.0, bad]).validate().unwrap_err();
        assert!(error.to_string().contains("index 1"), "{error}");
        let error = Datum::new([1]).input("weights", [1.0, 1.0, bad]).unwrap_err();
        assert!(error.to_string().contains("index 2 of the loss input \"weights\""), "{error}");
        let mut datum = Datum::new([1]);
        datum.loss_fn_inputs.insert("weights".to_owned(), vec![bad].into());
        let error = Batch::from(vec![Datum::default(), datum]).validate().unwrap_err();
        assert!(error.to_string().contains("index 0 of the loss input \"weights\" of datum 1"), "{error}");
    }
}

#[test]
fn loss_inputs_by_name() {
    /// Inputs that a Rust list cannot represent, or that are not lists.
    const NOT_EXPRESSIBLE: [&str; 5] = ["nested", "ragged", "strs", "scalar", "tuple"];
    for case in cases("datum_conversion") {
        let (key, kind) = (case["key"].as_str().unwrap(), case["value_name"].as_str().unwrap());
        let place = format!("{key}, {kind}");
        let numbers = || entries(&case["value"]).iter().map(|number| number.as_f64().unwrap()).collect::<Vec<_>>();
        let whole = || entries(&case["value"]).iter().map(|number| number.as_i64().unwrap()).collect::<Vec<_>>();
        let datum = Datum::new([1]);
        let datum = match kind {
            "ints" => datum.input(key, whole()),
            "floats" | "mixed" | "empty" => datum.input(key, numbers()),
            "bools" => datum.input(key, [true, false]),
            "dict" => datum.input(key, serde_json::from_value::<TensorData>(case["value"].clone()).unwrap()),
            #[cfg(feature = "ndarray")]
            "numpy int32" => {
                datum.input(key, ndarray::Array1::from_iter(whole().into_iter().map(|number| number as i32)))
            }
            #[cfg(feature = "ndarray")]
            "numpy float64" => datum.input(key, ndarray::Array1::from_vec(numbers())),
            #[cfg(feature = "ndarray")]
            "numpy uint8" => {
                // Python refuses unsigned integers; here they are int64.
                let datum = datum.input(key, ndarray::array![1_u8]).unwrap();
                assert_eq!(datum.loss_fn_inputs[key].as_i64(), Some(&[1][..]));
                continue;
            }
            kind if NOT_EXPRESSIBLE.contains(&kind) => continue,
            _ if cfg!(not(feature = "ndarray")) => continue,
            other => panic!("{other} is not covered"),
        };
        if key == "target_tokens" && ["floats", "mixed"].contains(&kind) {
            // Python sends fractions as int64; here they are refused, with the index.
            let error = datum.unwrap_err().to_string();
            assert!(error.contains("target_tokens") && error.contains("index"), "{error}");
            continue;
        }
        if key == "sequence_ratio_mask" {
            // The Python client types this name since 2026.
            let expected = if kind.starts_with("numpy int") || kind == "dict" { Dtype::Int64 } else { Dtype::Float32 };
            assert_eq!(datum.unwrap().loss_fn_inputs[key].dtype(), expected, "{place}");
            continue;
        }
        match (datum, case.get("out")) {
            (Ok(datum), Some(golden)) => {
                assert_tensor(&datum.loss_fn_inputs[key], &golden["exclude_unset_json"], &place)
            }
            (Err(error), None) => assert!(error.to_string().contains(key), "{error}"),
            (ours, golden) => panic!("{place}: {ours:?} but {golden:?}"),
        }
    }
}

#[test]
fn integers_that_do_not_fit_are_refused() {
    let refused = |tensor: Result<TensorData>| tensor.unwrap_err().to_string();
    assert!(refused(TensorData::new([0, u64::MAX])).contains("index 1"));
    assert!(refused(TensorData::of_dtype([f64::NAN], Dtype::Int64)).contains("NaN"));
    assert!(refused(TensorData::of_dtype([9.3e18], Dtype::Int64)).contains("index 0"));
    assert!(refused(TensorData::new([1_u8]).unwrap().with_shape([2])).contains("[2]"));
    for shape in [vec![0], vec![0, 3], vec![3, 0], vec![usize::MAX, 0, usize::MAX]] {
        assert!(TensorData::from(Vec::<f32>::new()).with_shape(shape.clone()).is_ok(), "{shape:?}");
        assert!(refused(TensorData::new([1_u8]).unwrap().with_shape(shape)).contains("does not hold 1 numbers"));
    }
    assert!(refused(TensorData::from(Vec::<f32>::new()).with_shape([])).contains("does not hold 0 numbers"));
    assert!(refused(TensorData::new([1_u8]).unwrap().with_shape([usize::MAX, 2])).contains("does not hold 1 numbers"));
    assert_eq!(TensorData::new([1_usize, 2]).unwrap(), TensorData::from(vec![1_i64, 2]));
    assert_eq!(
        TensorData::of_dtype([-9_223_372_036_854_775_808.0], Dtype::Int64).unwrap().as_i64(),
        Some(&[i64::MIN][..])
    );
}

#[cfg(feature = "ndarray")]
mod arrays {
    use ndarray::{ArrayD, IxDyn};

    use super::*;

    /// The numbers of a nested list, row by row; `{"__float__": "inf"}` stands for what JSON cannot express.
    fn flat(list: &Value, numbers: &mut Vec<Value>) {
        match list {
            Value::Array(items) => items.iter().for_each(|item| flat(item, numbers)),
            number => numbers.push(number.clone()),
        }
    }

    fn tensor(case: &Value) -> Option<Result<TensorData>> {
        fn array<T: Element>(numbers: &[Value], shape: &[usize], read: impl Fn(&Value) -> T) -> Result<TensorData> {
            let numbers = numbers.iter().map(read).collect();
            TensorData::from_array(ArrayD::from_shape_vec(IxDyn(shape), numbers).unwrap())
        }
        fn float(number: &Value) -> f64 {
            match number["__float__"].as_str() {
                Some(name) => name.parse().unwrap(),
                None => number.as_f64().unwrap(),
            }
        }
        fn whole(number: &Value) -> i64 {
            number.as_i64().unwrap()
        }
        let mut numbers = Vec::new();
        flat(&case["np_list"], &mut numbers);
        let shape: Vec<usize> = serde_json::from_value(case["np_shape"].clone()).unwrap();
        Some(match case["np_dtype"].as_str().unwrap() {
            "float64" => array(&numbers, &shape, float),
            "float32" => array(&numbers, &shape, |number| float(number) as f32),
            "int64" => array(&numbers, &shape, whole),
            "int32" => array(&numbers, &shape, |number| whole(number) as i32),
            "int16" => array(&numbers, &shape, |number| whole(number) as i16),
            "int8" => array(&numbers, &shape, |number| whole(number) as i8),
            "uint8" => array(&numbers, &shape, |number| whole(number) as u8),
            "uint32" => array(&numbers, &shape, |number| whole(number) as u32),
            "bool" => array(&numbers, &shape, |number| number.as_bool().unwrap()),
            // Rust has no half floats, complex numbers or objects.
            _ => return None,
        })
    }

    #[test]
    fn from_arrays_of_any_type_and_dimension() {
        for case in cases("from_numpy") {
            let name = case["name"].as_str().unwrap();
            let Some(ours) = tensor(&case).map(|ours| ours.and_then(|ours| ours.validate().map(|()| ours))) else {
                continue;
            };
            match name {
                // Python sends non-finite values, and float64 digits beyond float32; this crate refuses them first.
                "float32 nan inf" => assert!(ours.unwrap_err().to_string().contains("index 0")),
                "float64 beyond float32" => assert!(ours.unwrap_err().to_string().contains("is inf")),
                _ => match case.get("out") {
                    Some(golden) => assert_tensor(&ours.unwrap(), &golden["exclude_unset_json"], name),
                    // Python refuses unsigned integers and booleans of numpy, but not of torch; here they are int64.
                    None => assert_eq!(ours.unwrap().dtype(), Dtype::Int64, "{name}"),
                },
            }
        }
    }

    #[test]
    fn back_to_arrays_of_the_same_shape() {
        for case in cases("to_numpy_tolist") {
            let kwargs = case["kwargs"].to_string();
            let Ok(ours) = serde_json::from_str::<TensorData>(&kwargs) else {
                // Python truncates the fraction of an int64; this crate refuses it on reading.
                assert_eq!(kwargs, r#"{"data":[1.7],"dtype":"int64"}"#);
                continue;
            };
            let (shape, numbers) = match ours.dtype() {
                Dtype::Int64 => {
                    let array = ours.into_array::<i64, IxDyn>().unwrap();
                    (json!(array.shape()), array.iter().map(|number| json!(number)).collect::<Vec<_>>())
                }
                _ => {
                    let array = ours.into_array::<f32, IxDyn>().unwrap();
                    (json!(array.shape()), array.iter().map(|number| json!(number)).collect())
                }
            };
            let mut golden = Vec::new();
            flat(&case["out"]["tolist"], &mut golden);
            assert_eq!((&shape, numbers), (&case["out"]["shape"], golden), "{kwargs}");
        }
    }
}
