//! Writes messages straight from the caller's data: a generated message would need a copy of every tensor first.

/// Writes the fields of a message in the order of the calls. A field at its default is left out, as proto3 does.
///
/// The fields are gone through twice: first to measure the nested messages, whose sizes come before their fields.
pub(super) struct Writer {
    bytes: Vec<u8>,
    /// Instead of writing, only add up the size.
    is_measuring: bool,
    size: usize,
    /// Of the nested messages, in the order in which they begin.
    sizes: Vec<usize>,
    /// How many of them have begun to be written.
    begun: usize,
}

/// How a field's value is encoded.
#[derive(Clone, Copy)]
enum WireType {
    Varint = 0,
    Fixed64 = 1,
    Length = 2,
}

/// How many numbers are copied together.
const BLOCK: usize = 256;

impl Writer {
    /// Writes a message into this buffer, whose content is lost. `write` is called twice, and makes the same calls both times.
    pub(super) fn write_message(mut buffer: Vec<u8>, write: impl Fn(&mut Writer)) -> Vec<u8> {
        buffer.clear();
        let mut writer = Writer { bytes: buffer, is_measuring: true, size: 0, sizes: Vec::new(), begun: 0 };
        write(&mut writer);
        writer.bytes.reserve_exact(writer.size);
        writer.is_measuring = false;
        write(&mut writer);
        writer.bytes
    }

    pub(super) fn string(&mut self, tag: u32, text: &str) {
        self.bytes(tag, text.as_bytes());
    }

    pub(super) fn bytes(&mut self, tag: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.present_bytes(tag, bytes);
        }
    }

    /// Bytes that are written even if there are none.
    pub(super) fn present_bytes(&mut self, tag: u32, bytes: &[u8]) {
        self.length_prefix(tag, bytes.len());
        self.raw(bytes);
    }

    /// Numbers of `N` bytes each, which are written even if there are none.
    pub(super) fn packed<T: Copy, const N: usize>(&mut self, tag: u32, numbers: &[T], to_le: impl Fn(T) -> [u8; N]) {
        self.length_prefix(tag, numbers.len() * N);
        if self.is_measuring {
            self.size += numbers.len() * N;
            return;
        }
        // Through a block on the stack: faster than one number at a time, and nothing is filled with zeros before.
        let mut block = [[0; N]; BLOCK];
        for numbers in numbers.chunks(BLOCK) {
            for (place, &number) in block.iter_mut().zip(numbers) {
                *place = to_le(number);
            }
            self.bytes.extend_from_slice(block[..numbers.len()].as_flattened());
        }
    }

    /// A signed integer, an enum's number or a boolean.
    pub(super) fn integer(&mut self, tag: u32, value: i64) {
        if value != 0 {
            self.present_integer(tag, value);
        }
    }

    /// An integer that is written even if it is 0.
    pub(super) fn present_integer(&mut self, tag: u32, value: i64) {
        self.key(tag, WireType::Varint);
        self.varint(value as u64);
    }

    /// A list of non-negative integers.
    pub(super) fn integers(&mut self, tag: u32, values: &[usize]) {
        if !values.is_empty() {
            self.message(tag, |list| values.iter().for_each(|&value| list.varint(value as u64)));
        }
    }

    /// A float that is written even if it is 0.
    pub(super) fn present_double(&mut self, tag: u32, value: f64) {
        self.key(tag, WireType::Fixed64);
        self.raw(&value.to_le_bytes());
    }

    /// A nested message, which is written even if it has no fields.
    pub(super) fn message(&mut self, tag: u32, write: impl Fn(&mut Writer)) {
        if self.is_measuring {
            let (index, before) = (self.sizes.len(), self.size);
            self.sizes.push(0);
            write(self);
            self.sizes[index] = self.size - before;
            self.length_prefix(tag, self.sizes[index]);
        } else {
            let length = self.sizes[self.begun];
            self.begun += 1;
            self.length_prefix(tag, length);
            write(self);
        }
    }

    fn length_prefix(&mut self, tag: u32, length: usize) {
        self.key(tag, WireType::Length);
        self.varint(length as u64);
    }

    fn key(&mut self, tag: u32, wire_type: WireType) {
        self.varint(u64::from(tag << 3 | wire_type as u32));
    }

    /// Seven bits in each byte, the lowest first; the eighth says that more follow.
    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.raw(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.raw(&[value as u8]);
    }

    fn raw(&mut self, bytes: &[u8]) {
        match self.is_measuring {
            true => self.size += bytes.len(),
            false => self.bytes.extend_from_slice(bytes),
        }
    }
}
