//! The Rust numbers that tensors are made from.

use super::Dtype;

/// A Rust number that converts to an element of a tensor: all integers up to 64 bits, floats and `bool`. Sealed.
///
/// ```
/// use tinkex::types::{Dtype, Element};
///
/// assert_eq!((u8::DTYPE, bool::DTYPE, f64::DTYPE), (Dtype::Int64, Dtype::Int64, Dtype::Float32));
/// assert_eq!(true.to_f32(), 1.0);
/// assert_eq!((2.0_f64.to_i64(), 2.5_f64.to_i64(), u64::MAX.to_i64()), (Some(2), None, None));
/// ```
pub trait Element: sealed::Sealed + Copy + std::fmt::Display + 'static {
    /// The tensor type that these numbers have by default.
    const DTYPE: Dtype;

    /// The nearest `f32`. An `f64` beyond the range becomes infinite, which
    /// [`TensorData::validate`](crate::types::TensorData::validate) reports.
    fn to_f32(self) -> f32;

    /// The same number as an `i64`, if it is whole and fits.
    fn to_i64(self) -> Option<i64>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! elements {
    ($($dtype:ident: $($Type:ty)*, $to_f32:expr, $to_i64:expr;)*) => {$($(
        impl sealed::Sealed for $Type {}

        #[allow(clippy::unnecessary_cast, reason = "some of the types are also the target of the cast")]
        impl Element for $Type {
            const DTYPE: Dtype = Dtype::$dtype;

            fn to_f32(self) -> f32 {
                let convert: fn($Type) -> f32 = $to_f32;
                convert(self)
            }

            fn to_i64(self) -> Option<i64> {
                let convert: fn($Type) -> Option<i64> = $to_i64;
                convert(self)
            }
        }
    )*)*};
}

elements! {
    Int64: i8 i16 i32 i64 u8 u16 u32, |value| value as f32, |value| Some(value as i64);
    Int64: isize u64 usize, |value| value as f32, |value| value.try_into().ok();
    Int64: bool, |value| f32::from(u8::from(value)), |value| Some(i64::from(value));
    // 2^63 is the first float beyond i64, -2^63 the last one within.
    Float32: f32 f64, |value| value as f32, |value| {
        let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value);
        (fits && value.fract() == 0.0).then_some(value as i64)
    };
}
