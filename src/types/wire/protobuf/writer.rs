//! Writes messages straight from the caller's data: a generated message would need a copy of every tensor first.

/// Writes the fields of a message in the order of the calls. A field at its default is left out, as proto3 does.
pub(super) struct Writer {
    bytes: Vec<u8>,
    /// Instead of writing, only add up the size here.
    size: Option<usize>,
}

/// How a field's value is encoded.
#[derive(Clone, Copy)]
enum WireType {
    Varint = 0,
    Fixed64 = 1,
    Length = 2,
}

impl Writer {
    /// The message that this function writes. It is called twice: for the size, and to write.
    pub(super) fn message_to_vec(write: impl Fn(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer { bytes: Vec::with_capacity(Writer::size_of(&write)), size: None };
        write(&mut writer);
        writer.bytes
    }

    fn size_of(write: &impl Fn(&mut Writer)) -> usize {
        let mut writer = Writer { bytes: Vec::new(), size: Some(0) };
        write(&mut writer);
        writer.size.unwrap_or_default()
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
    pub(super) fn packed<T: Copy, const N: usize>(&mut self, tag: u32, numbers: &[T], to_le: fn(T) -> [u8; N]) {
        let length = numbers.len() * N;
        self.length_prefix(tag, length);
        match &mut self.size {
            Some(size) => *size += length,
            None => {
                let start = self.bytes.len();
                self.bytes.resize(start + length, 0);
                for (place, &number) in self.bytes[start..].chunks_exact_mut(N).zip(numbers) {
                    place.copy_from_slice(&to_le(number));
                }
            }
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
        let length = Writer::size_of(&write);
        self.length_prefix(tag, length);
        match &mut self.size {
            Some(size) => *size += length,
            None => write(self),
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
        match &mut self.size {
            Some(size) => *size += bytes.len(),
            None => self.bytes.extend_from_slice(bytes),
        }
    }
}
