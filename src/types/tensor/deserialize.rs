//! Deserializing a tensor in one pass, although `dtype` follows `data` on the wire: numbers are kept as integers until the
//! first float.

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use super::{Dtype, TensorData, holds, shape_mismatch};

/// From here on (2^24), `f32` cannot represent every integer.
const EXACT_F32: f32 = 16_777_216.0;

impl<'de> Deserialize<'de> for TensorData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        struct Fields {
            data: Numbers,
            dtype: Dtype,
            shape: Option<Vec<usize>>,
            sparse_crow_indices: Option<Vec<i64>>,
            sparse_col_indices: Option<Vec<i64>>,
        }

        let Fields { data, dtype, shape, sparse_crow_indices: crow, sparse_col_indices: col } =
            Fields::deserialize(deserializer)?;
        let tensor = match (data, dtype) {
            (Numbers::Floats(values), Dtype::Float32) => TensorData::from(values),
            (Numbers::Integers(values), Dtype::Int64) => TensorData::from(values),
            (Numbers::Integers(values), Dtype::Float32) => {
                values.into_iter().map(|value| value as f32).collect::<Vec<_>>().into()
            }
            (Numbers::Floats(values), Dtype::Int64) => whole(&values).map_err(de::Error::custom)?.into(),
        };
        match (crow, col) {
            (None, None) => {}
            (Some(crow), Some(col)) => {
                return tensor.with_indices(crow, col, shape.unwrap_or_default()).map_err(de::Error::custom);
            }
            _ => return Err(de::Error::custom("a sparse tensor has either row or column indices, but needs both")),
        }
        match shape {
            Some(shape) if !holds(&shape, tensor.len()) => Err(de::Error::custom(shape_mismatch(&shape, tensor.len()))),
            shape => Ok(TensorData { shape: shape.map(Vec::into_boxed_slice), ..tensor }),
        }
    }
}

fn whole(values: &[f32]) -> Result<Vec<i64>, String> {
    let whole = |(index, &value): (usize, &f32)| {
        let fits = value.fract() == 0.0 && value.abs() < EXACT_F32;
        fits.then_some(value as i64).ok_or_else(|| format!("the number {value} at index {index} does not fit int64"))
    };
    values.iter().enumerate().map(whole).collect()
}

/// Numbers whose type is not known yet: integers until the first float.
enum Numbers {
    Integers(Vec<i64>),
    Floats(Vec<f32>),
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Numbers;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a flat list of numbers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Numbers, A::Error> {
                let mut integers = Vec::new();
                let first = loop {
                    match list.next_element()? {
                        None => {
                            integers.shrink_to_fit();
                            return Ok(Numbers::Integers(integers));
                        }
                        Some(Number::Integer(value)) => integers.push(value),
                        Some(Number::Float(value)) => break value,
                    }
                };
                let mut floats: Vec<f32> = integers.into_iter().map(|value| value as f32).collect();
                floats.push(first);
                while let Some(number) = list.next_element()? {
                    floats.push(match number {
                        Number::Integer(value) => value as f32,
                        Number::Float(value) => value,
                    });
                }
                // It may be kept for long, with room for as many again.
                floats.shrink_to_fit();
                Ok(Numbers::Floats(floats))
            }
        }

        deserializer.deserialize_seq(List)
    }
}

/// One number; null is NaN.
enum Number {
    Integer(i64),
    Float(f32),
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_option(One)
    }
}

struct One;

impl<'de> Visitor<'de> for One {
    type Value = Number;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a number or null")
    }

    fn visit_none<E: de::Error>(self) -> Result<Number, E> {
        Ok(Number::Float(f32::NAN))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Number, E> {
        Ok(Number::Float(f32::NAN))
    }

    /// Asks for an `f32`, although integers are accepted: through an `f64`, 7.038531e-26 would be rounded twice.
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Number, D::Error> {
        deserializer.deserialize_f32(One)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Number, E> {
        Ok(Number::Integer(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Number, E> {
        Ok(i64::try_from(value).map_or(Number::Float(value as f32), Number::Integer))
    }

    fn visit_f32<E: de::Error>(self, value: f32) -> Result<Number, E> {
        Ok(Number::Float(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Number, E> {
        Ok(Number::Float(value as f32))
    }
}
