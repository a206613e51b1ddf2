//! ggml's blocks of 256 numbers: scales of scales, and small integers.

use super::half;

const NUMBERS: usize = 256;

/// The scale and the offset of 32 numbers, of six bits each, the `index`th of eight pairs in twelve bytes: four pairs in the low
/// six bits of eight bytes; of the others, four bits in the last four bytes and two in the high bits of the first eight.
fn scale_and_offset(packed: &[u8], index: usize) -> (f32, f32) {
    let (scale, offset) = if index < 4 {
        (packed[index] & 63, packed[index + 4] & 63)
    } else {
        (packed[index + 4] & 15 | packed[index - 4] >> 6 << 4, packed[index + 4] >> 4 | packed[index] >> 6 << 4)
    };
    (f32::from(scale), f32::from(offset))
}

pub(super) fn q4_k(block: &[u8; 144], numbers: &mut [f32; NUMBERS]) {
    let (header, low) = block.split_at(16);
    with_offsets(header, &[0; 32], low, numbers);
}

pub(super) fn q5_k(block: &[u8; 176], numbers: &mut [f32; NUMBERS]) {
    let (header, bits) = block.split_at(16);
    let (high, low) = bits.split_at(32);
    with_offsets(header, high, low, numbers);
}

/// Numbers of four bits in `low`, and a fifth in `high`: bit `part` of each of its 32 bytes belongs to the part of that number.
fn with_offsets(header: &[u8], high: &[u8], low: &[u8], numbers: &mut [f32; NUMBERS]) {
    let (scale_of_scales, scale_of_offsets) = (half(header, 0), half(header, 2));
    for (part, numbers) in numbers.chunks_exact_mut(32).enumerate() {
        let (scale, offset) = scale_and_offset(&header[4..], part);
        let (scale, offset) = (scale_of_scales * scale, scale_of_offsets * offset);
        // Two parts share 32 bytes: the first has their low bits, the second their high ones.
        let bytes = &low[part / 2 * 32..][..32];
        let shift = part % 2 * 4;
        for ((number, byte), high) in numbers.iter_mut().zip(bytes).zip(high) {
            let integer = byte >> shift & 15 | (high >> part & 1) << 4;
            *number = scale * f32::from(integer) - offset;
        }
    }
}

pub(super) fn q6_k(block: &[u8; 210], numbers: &mut [f32; NUMBERS]) {
    let (low, rest) = block.split_at(128);
    let (high, scales) = rest.split_at(64);
    let scale_of_scales = half(scales, 16);
    for (part, numbers) in numbers.chunks_exact_mut(32).enumerate() {
        // Four parts share 64 bytes of low bits and 32 bytes of high ones.
        let (group, part_of_group) = (part / 4, part % 4);
        let low = &low[group * 64 + part_of_group % 2 * 32..][..32];
        let low_shift = part_of_group / 2 * 4;
        let high = &high[group * 32..][..32];
        let high_shift = part_of_group * 2;
        for (index, ((number, low), high)) in numbers.iter_mut().zip(low).zip(high).enumerate() {
            let scale = f32::from(scales[part * 2 + index / 16] as i8);
            let integer = (low >> low_shift & 15 | (high >> high_shift & 3) << 4) as i8 - 32;
            *number = scale_of_scales * scale * f32::from(integer);
        }
    }
}
