//! How the numbers of a tensor are stored, and what they are as `f32`.

mod k_quants;
mod quants;

use crate::local::kernel::f16_to_f32;

/// How the numbers of a tensor are stored. The quantised types are those of ggml: blocks of small integers, which share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

/// The numbers of types in GGUF files, and their names. The types without an [`Encoding`] are known by name only.
const GGML_TYPES: [(u32, &str, Option<Encoding>); 33] = [
    (0, "F32", Some(Encoding::F32)),
    (1, "F16", Some(Encoding::F16)),
    (2, "Q4_0", Some(Encoding::Q4_0)),
    (3, "Q4_1", Some(Encoding::Q4_1)),
    (6, "Q5_0", Some(Encoding::Q5_0)),
    (7, "Q5_1", Some(Encoding::Q5_1)),
    (8, "Q8_0", Some(Encoding::Q8_0)),
    (9, "Q8_1", None),
    (10, "Q2_K", None),
    (11, "Q3_K", None),
    (12, "Q4_K", Some(Encoding::Q4K)),
    (13, "Q5_K", Some(Encoding::Q5K)),
    (14, "Q6_K", Some(Encoding::Q6K)),
    (15, "Q8_K", None),
    (16, "IQ2_XXS", None),
    (17, "IQ2_XS", None),
    (18, "IQ3_XXS", None),
    (19, "IQ1_S", None),
    (20, "IQ4_NL", None),
    (21, "IQ3_S", None),
    (22, "IQ2_S", None),
    (23, "IQ4_XS", None),
    (24, "I8", None),
    (25, "I16", None),
    (26, "I32", None),
    (27, "I64", None),
    (28, "F64", None),
    (29, "IQ1_M", None),
    (30, "BF16", Some(Encoding::Bf16)),
    (34, "TQ1_0", None),
    (35, "TQ2_0", None),
    (39, "MXFP4", None),
    (40, "NVFP4", None),
];

impl Encoding {
    /// The encoding with this number in GGUF files; else the name of the type.
    pub(super) fn of_ggml(kind: u32) -> Result<Encoding, String> {
        match GGML_TYPES.iter().find(|(number, ..)| *number == kind) {
            Some((_, _, Some(encoding))) => Ok(*encoding),
            Some((_, name, None)) => Err((*name).to_owned()),
            None => Err(format!("number {kind}")),
        }
    }

    /// The names of the types in GGUF files that can be read.
    pub(super) fn names_of_ggml() -> impl Iterator<Item = &'static str> {
        GGML_TYPES.iter().filter(|(_, _, encoding)| encoding.is_some()).map(|(_, name, _)| *name)
    }

    /// The encoding with this name in safetensors files.
    pub(super) fn of_safetensors(dtype: &str) -> Option<Encoding> {
        match dtype {
            "F32" => Some(Encoding::F32),
            "F16" => Some(Encoding::F16),
            "BF16" => Some(Encoding::Bf16),
            _ => None,
        }
    }

    /// The numbers of a block, and its bytes.
    pub(super) fn block(self) -> (usize, usize) {
        match self {
            Encoding::F32 => (1, 4),
            Encoding::F16 | Encoding::Bf16 => (1, 2),
            Encoding::Q4_0 => (32, 18),
            Encoding::Q4_1 => (32, 20),
            Encoding::Q5_0 => (32, 22),
            Encoding::Q5_1 => (32, 24),
            Encoding::Q8_0 => (32, 34),
            Encoding::Q4K => (256, 144),
            Encoding::Q5K => (256, 176),
            Encoding::Q6K => (256, 210),
        }
    }

    /// The bytes of a tensor of this shape; `None` if its rows are not whole blocks, or there is no such number.
    pub(crate) fn bytes(self, shape: &[usize]) -> Option<u64> {
        let (numbers, bytes) = self.block();
        let (columns, rows) = shape.split_last().map_or((1, shape), |(columns, rows)| (*columns, rows));
        if columns % numbers != 0 {
            return None;
        }
        let row = (columns / numbers).checked_mul(bytes)?;
        let total = rows.iter().try_fold(row, |total, &size| total.checked_mul(size))?;
        u64::try_from(total).ok()
    }

    /// Whether each number has 16 bits, so that half precision holds it.
    pub(crate) fn has_16_bits(self) -> bool {
        matches!(self, Encoding::F16 | Encoding::Bf16)
    }

    /// Appends the numbers of whole blocks.
    pub(super) fn decode(self, bytes: &[u8], numbers: &mut Vec<f32>) {
        match self {
            Encoding::F32 => extend(numbers, bytes, f32::from_le_bytes),
            Encoding::F16 => extend(numbers, bytes, |bytes| f16_to_f32(u16::from_le_bytes(bytes))),
            Encoding::Bf16 => {
                extend(numbers, bytes, |bytes| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16));
            }
            Encoding::Q4_0 => blocks(numbers, bytes, quants::q4_0),
            Encoding::Q4_1 => blocks(numbers, bytes, quants::q4_1),
            Encoding::Q5_0 => blocks(numbers, bytes, quants::q5_0),
            Encoding::Q5_1 => blocks(numbers, bytes, quants::q5_1),
            Encoding::Q8_0 => blocks(numbers, bytes, quants::q8_0),
            Encoding::Q4K => blocks(numbers, bytes, k_quants::q4_k),
            Encoding::Q5K => blocks(numbers, bytes, k_quants::q5_k),
            Encoding::Q6K => blocks(numbers, bytes, k_quants::q6_k),
        }
    }
}

fn extend<const BYTES: usize>(numbers: &mut Vec<f32>, bytes: &[u8], number: impl Fn([u8; BYTES]) -> f32) {
    numbers.extend(bytes.chunks_exact(BYTES).filter_map(|bytes| bytes.try_into().ok()).map(number));
}

fn blocks<const BYTES: usize, const NUMBERS: usize>(
    numbers: &mut Vec<f32>,
    bytes: &[u8],
    block: impl Fn(&[u8; BYTES], &mut [f32; NUMBERS]),
) {
    let mut values = [0.0; NUMBERS];
    for bytes in bytes.chunks_exact(BYTES).filter_map(|bytes| bytes.try_into().ok()) {
        block(bytes, &mut values);
        numbers.extend_from_slice(&values);
    }
}

/// The half-precision number at a place of a block.
fn half(block: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([block[at], block[at + 1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Encoding; 11] = [
        Encoding::F32,
        Encoding::F16,
        Encoding::Bf16,
        Encoding::Q4_0,
        Encoding::Q4_1,
        Encoding::Q5_0,
        Encoding::Q5_1,
        Encoding::Q8_0,
        Encoding::Q4K,
        Encoding::Q5K,
        Encoding::Q6K,
    ];

    #[test]
    fn bytes_of_a_shape_are_whole_blocks() {
        for encoding in ALL {
            let (numbers, bytes) = encoding.block();
            assert_eq!(encoding.bytes(&[3, 2 * numbers]), Some(6 * bytes as u64), "{encoding:?}");
            assert_eq!(encoding.bytes(&[3, 2 * numbers + 1]).is_some(), numbers == 1, "{encoding:?}");
            assert_eq!(encoding.bytes(&[usize::MAX, 256]), None, "{encoding:?}");
            assert_eq!(encoding.bytes(&[0, 256]), Some(0), "{encoding:?}");
        }
    }

    #[test]
    fn every_byte_of_a_block_decodes() {
        quickcheck::quickcheck(
            (|seed: u64| {
                let mut random = fastrand::Rng::with_seed(seed);
                for encoding in ALL {
                    let (numbers, bytes) = encoding.block();
                    let block: Vec<u8> = (0..2 * bytes).map(|_| random.u8(..)).collect();
                    let mut decoded = Vec::new();
                    encoding.decode(&block, &mut decoded);
                    assert_eq!(decoded.len(), 2 * numbers, "{encoding:?}");
                }
            }) as fn(_),
        );
    }

    #[test]
    fn types_that_cannot_be_read_have_names() {
        assert_eq!(Encoding::of_ggml(14), Ok(Encoding::Q6K));
        assert_eq!(Encoding::of_ggml(10), Err("Q2_K".to_owned()));
        assert_eq!(Encoding::of_ggml(u32::MAX), Err("number 4294967295".to_owned()));
        assert_eq!(Encoding::of_safetensors("F8_E4M3"), None);
    }
}
