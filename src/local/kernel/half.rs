//! Numbers of 16 bits.

/// The value of an IEEE half-precision number. Inlined and free of branches, so that a loop over it becomes vector instructions.
#[inline(always)]
pub(crate) fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff) << 13;
    // The product by 2¹¹² moves the exponent, also of numbers that are subnormal in half precision.
    let finite = (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits();
    // Infinite and NaN have the largest exponent in both precisions.
    let is_finite = magnitude < 0x7c00 << 13;
    f32::from_bits(sign | if is_finite { finite } else { magnitude | 0x7f80_0000 })
}

/// The value of a finite number: [`f16_to_f32`] with half the work, of which there is much when few rows meet a large matrix.
#[inline(always)]
pub(crate) fn finite_f16_to_f32(bits: u16) -> f32 {
    // As a signed number it has its sign in all bits above, of which the mask leaves the first.
    let shifted = (i32::from(bits as i16) << 13) as u32 & 0x8fff_e000;
    f32::from_bits(shifted) * f32::from_bits(0x7780_0000)
}

/// The nearest IEEE half-precision number, ties to even; infinite beyond 65 504.
#[cfg(any(test, feature = "pretrained"))]
pub(crate) fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return sign | 0x7e00;
    }
    if magnitude < 0x3880_0000 {
        // Subnormal: the sum with 0.5 leaves the ten bits, rounded.
        let rounded = f32::from_bits(magnitude) + 0.5;
        return sign | (rounded.to_bits() - 0x3f00_0000) as u16;
    }
    let rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    if rounded >= 0x4780_0000 {
        return sign | 0x7c00;
    }
    sign | ((rounded - 0x3800_0000) >> 13) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_number_round_trips() {
        for bits in 0..=u16::MAX {
            let value = f16_to_f32(bits);
            if value.is_nan() {
                assert!(f16_to_f32(f32_to_f16(value)).is_nan());
            } else {
                assert_eq!(f32_to_f16(value), bits);
            }
            if value.is_finite() {
                assert_eq!(finite_f16_to_f32(bits).to_bits(), value.to_bits());
            }
        }
        assert_eq!([0x3c00, 0xc000, 0x0001, 0x7bff].map(f16_to_f32), [1.0, -2.0, 5.960_464_5e-8, 65504.0]);
    }

    #[test]
    fn rounding_is_to_the_nearest_even() {
        for (value, bits) in [
            (1.000_488_3, 0x3c00),
            (1.001_464_8, 0x3c02),
            (65_520.0, 0x7c00),
            (65_519.0, 0x7bff),
            (2.9e-8, 0),
            (3.1e-8, 1),
        ] {
            assert_eq!(f32_to_f16(value), bits, "{value}");
        }
    }
}
