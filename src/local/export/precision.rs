//! The types of numbers in the files that are written.

use crate::local::kernel::{f16_to_f32, f32_to_f16};
use crate::local::pretrained::encoding::Encoding;

/// The type of the numbers of a merged model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExportPrecision {
    /// Single precision: 4 bytes for each number.
    F32,
    /// IEEE half precision: 2 bytes for each number, of at most 65 504.
    F16,
    /// The upper half of single precision: 2 bytes for each number, of any size and with fewer digits.
    Bf16,
}

impl ExportPrecision {
    /// The type that holds what is stored in this way.
    pub(super) fn of(encoding: Encoding) -> Self {
        match encoding {
            Encoding::F16 => ExportPrecision::F16,
            Encoding::Bf16 => ExportPrecision::Bf16,
            _ => ExportPrecision::F32,
        }
    }

    /// Its name in safetensors files.
    pub(super) fn dtype(self) -> &'static str {
        match self {
            ExportPrecision::F32 => "F32",
            ExportPrecision::F16 => "F16",
            ExportPrecision::Bf16 => "BF16",
        }
    }

    /// Its name in the configurations of transformers.
    pub(super) fn torch_name(self) -> &'static str {
        match self {
            ExportPrecision::F32 => "float32",
            ExportPrecision::F16 => "float16",
            ExportPrecision::Bf16 => "bfloat16",
        }
    }

    /// Bytes of a number.
    pub(super) fn size(self) -> usize {
        match self {
            ExportPrecision::F32 => 4,
            ExportPrecision::F16 | ExportPrecision::Bf16 => 2,
        }
    }

    /// Appends these numbers, rounded to the nearest one, ties to even. Returns whether all of them are finite.
    pub(super) fn encode(self, numbers: &[f32], bytes: &mut Vec<u8>) -> bool {
        let mut is_finite = true;
        for &number in numbers {
            let rounded = match self {
                ExportPrecision::F32 => {
                    bytes.extend(number.to_le_bytes());
                    number
                }
                ExportPrecision::F16 => {
                    let half = f32_to_f16(number);
                    bytes.extend(half.to_le_bytes());
                    f16_to_f32(half)
                }
                ExportPrecision::Bf16 => {
                    let bits = number.to_bits();
                    // The sum carries into the exponent where it must. NaN is reported below, whatever becomes of it here.
                    let upper = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
                    bytes.extend(upper.to_le_bytes());
                    f32::from_bits(u32::from(upper) << 16)
                }
            };
            is_finite &= number.is_finite() && rounded.is_finite();
        }
        is_finite
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(precision: ExportPrecision, number: f32) -> (u32, bool) {
        let mut bytes = Vec::new();
        let is_finite = precision.encode(&[number], &mut bytes);
        assert_eq!(bytes.len(), precision.size());
        bytes.resize(4, 0);
        (u32::from_le_bytes(bytes.try_into().unwrap()), is_finite)
    }

    #[test]
    fn rounding_is_to_the_nearest_even() {
        use ExportPrecision::{Bf16, F16, F32};
        for (precision, number, expected) in [
            (F32, 0.1, (0x3dcc_cccd, true)),
            (F16, 0.1, (0x2e66, true)),
            (F16, 65_519.0, (0x7bff, true)),
            (F16, 65_520.0, (0x7c00, false)),
            (Bf16, 1.0, (0x3f80, true)),
            // Halfway between 1 and the next number, and between that and the one after it.
            (Bf16, 1.003_906_3, (0x3f80, true)),
            (Bf16, 1.011_718_8, (0x3f82, true)),
            (Bf16, -1.011_718_8, (0xbf82, true)),
            (Bf16, 1.003_906_4, (0x3f81, true)),
            (Bf16, f32::MAX, (0x7f80, false)),
            (Bf16, f32::MIN_POSITIVE, (0x0080, true)),
        ] {
            assert_eq!(bits(precision, number), expected, "{precision:?} {number}");
        }
        for precision in [F32, F16, Bf16] {
            assert!([f32::NAN, f32::INFINITY].iter().all(|&number| !bits(precision, number).1), "{precision:?}");
        }
    }

    #[test]
    fn numbers_of_16_bits_keep_their_bits() {
        for upper in 0..=u16::MAX {
            let number = f32::from_bits(u32::from(upper) << 16);
            if number.is_finite() {
                assert_eq!(bits(ExportPrecision::Bf16, number), (u32::from(upper), true));
            }
            let number = f16_to_f32(upper);
            if number.is_finite() {
                assert_eq!(bits(ExportPrecision::F16, number), (u32::from(upper), true));
            }
        }
    }
}
