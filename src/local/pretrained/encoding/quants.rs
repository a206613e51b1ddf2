//! ggml's blocks of 32 numbers: a scale, for some types an offset, and small integers.
//!
//! The low four bits of 16 bytes are the first half of a block, the high four bits the second. A fifth bit of each number is in
//! four bytes before them.

use super::half;

const NUMBERS: usize = 32;

/// The four bits of each number, in the order of the numbers.
fn nibbles(bytes: &[u8]) -> [u8; NUMBERS] {
    std::array::from_fn(|index| if index < 16 { bytes[index] & 15 } else { bytes[index - 16] >> 4 })
}

/// The five bits of each number.
fn five_bits(high: &[u8], low: &[u8]) -> [u8; NUMBERS] {
    let high = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
    let low = nibbles(low);
    std::array::from_fn(|index| low[index] | ((high >> index & 1) as u8) << 4)
}

/// Integers around zero times a scale.
fn centred(scale: f32, integers: [u8; NUMBERS], zero: i8, numbers: &mut [f32; NUMBERS]) {
    for (number, integer) in numbers.iter_mut().zip(integers) {
        *number = scale * f32::from(integer as i8 - zero);
    }
}

/// Integers times a scale, and an offset.
fn shifted(scale: f32, offset: f32, integers: [u8; NUMBERS], numbers: &mut [f32; NUMBERS]) {
    for (number, integer) in numbers.iter_mut().zip(integers) {
        *number = scale * f32::from(integer) + offset;
    }
}

pub(super) fn q4_0(block: &[u8; 18], numbers: &mut [f32; NUMBERS]) {
    centred(half(block, 0), nibbles(&block[2..]), 8, numbers);
}

pub(super) fn q4_1(block: &[u8; 20], numbers: &mut [f32; NUMBERS]) {
    shifted(half(block, 0), half(block, 2), nibbles(&block[4..]), numbers);
}

pub(super) fn q5_0(block: &[u8; 22], numbers: &mut [f32; NUMBERS]) {
    centred(half(block, 0), five_bits(&block[2..6], &block[6..]), 16, numbers);
}

pub(super) fn q5_1(block: &[u8; 24], numbers: &mut [f32; NUMBERS]) {
    shifted(half(block, 0), half(block, 2), five_bits(&block[4..8], &block[8..]), numbers);
}

pub(super) fn q8_0(block: &[u8; 34], numbers: &mut [f32; NUMBERS]) {
    let scale = half(block, 0);
    for (number, byte) in numbers.iter_mut().zip(&block[2..]) {
        *number = scale * f32::from(*byte as i8);
    }
}
