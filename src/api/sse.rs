//! A sketch of a decoder for server-sent events, behind the feature `sse`. **Not for production**: no endpoint of the protocol
//! 0.4.1 sends events, no client of this crate uses the module, and it is outside semantic versioning.
//!
//! [`Decoder`] takes bytes as they arrive and does no I/O; [`EventStream`] reads them from anything that is [`Read`]. Both follow
//! the [HTML standard](https://html.spec.whatwg.org/multipage/server-sent-events.html) with one exception: an event at the end
//! of the stream is returned even without the empty line after it.

use std::io::{self, Read};
use std::mem;
use std::time::Duration;

/// The maximum size of an event or line in [`EventStream`], in bytes.
const MAX_EVENT: usize = if cfg!(test) { 64 << 10 } else { 64 << 20 };

/// One event. [`Decoder`] has an example.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamEvent {
    /// Its type; empty if the server gave none.
    pub event: String,
    /// Its data, with lines joined by `\n`.
    pub data: String,
    /// The last id that the server gave, with this event or an earlier one.
    pub id: String,
    /// The wait before reconnecting, if the server set it in this event.
    pub retry: Option<Duration>,
}

/// Decodes events from bytes that arrive in chunks of any size.
///
/// # Examples
///
/// ```
/// use tinkex::api::sse::Decoder;
///
/// let mut decoder = Decoder::new();
/// assert!(decoder.push(b"event: token\nda").is_empty());
/// let events = decoder.push(b"ta: {\"id\": 7}\n\n");
/// assert_eq!((&*events[0].event, &*events[0].data), ("token", "{\"id\": 7}"));
/// assert_eq!(decoder.finish(), None);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    /// The current line, incomplete.
    line: Vec<u8>,
    /// The last byte was a carriage return: a following line feed belongs to the same line end.
    after_return: bool,
    began: bool,
    next: StreamEvent,
    has_fields: bool,
}

impl Decoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Decoder::default()
    }

    /// Takes the next bytes, and returns the events that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<StreamEvent> {
        let mut events = Vec::new();
        for &byte in bytes {
            match byte {
                b'\n' if mem::take(&mut self.after_return) => {}
                b'\r' | b'\n' => {
                    self.after_return = byte == b'\r';
                    events.extend(self.end_line());
                }
                other => {
                    self.after_return = false;
                    self.line.push(other);
                }
            }
        }
        events
    }

    /// Ends the stream, and returns the last event if no empty line ended it.
    pub fn finish(&mut self) -> Option<StreamEvent> {
        let last = if self.line.is_empty() { None } else { self.end_line() };
        self.after_return = false;
        last.or_else(|| self.end_event())
    }

    /// The number of bytes of the incomplete event.
    fn held(&self) -> usize {
        self.line.len() + self.next.data.len()
    }

    fn end_line(&mut self) -> Option<StreamEvent> {
        let line = mem::take(&mut self.line);
        let line = if mem::replace(&mut self.began, true) { &*line } else { without_mark(&line) };
        if line.is_empty() {
            return self.end_event();
        }
        let line = String::from_utf8_lossy(line);
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => self.next.event = value.to_owned(),
            "data" => {
                self.next.data.push_str(value);
                self.next.data.push('\n');
            }
            "id" if !value.contains('\0') => self.next.id = value.to_owned(),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.next.retry = value.parse().ok().map(Duration::from_millis);
            }
            // A comment, which starts with the colon, or an unknown field.
            _ => return None,
        }
        self.has_fields = true;
        None
    }

    /// An event without data is dropped, but its id stays.
    fn end_event(&mut self) -> Option<StreamEvent> {
        if !mem::take(&mut self.has_fields) {
            return None;
        }
        let mut event = StreamEvent { id: self.next.id.clone(), ..StreamEvent::default() };
        mem::swap(&mut event, &mut self.next);
        event.data.pop().map(|_| event)
    }
}

/// Without the byte order mark that a stream may start with.
fn without_mark(line: &[u8]) -> &[u8] {
    line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
}

/// An iterator over the events of a reader. Ends with the reader, or with its first error. Blocks as the reader does.
///
/// # Examples
///
/// ```
/// use tinkex::api::sse::EventStream;
///
/// let stream = "data: a\n\n: a comment\ndata: b\ndata: c\n\n";
/// let data: Vec<_> = EventStream::new(stream.as_bytes()).map(|event| event.map(|event| event.data)).collect::<Result<_, _>>()?;
/// assert_eq!(data, ["a", "b\nc"]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct EventStream<R> {
    /// `None` after its end.
    reader: Option<R>,
    decoder: Decoder,
    decoded: std::collections::VecDeque<StreamEvent>,
}

impl<R: Read> EventStream<R> {
    /// Reads from the start of a stream.
    pub fn new(reader: R) -> Self {
        EventStream { reader: Some(reader), decoder: Decoder::new(), decoded: Default::default() }
    }

    fn read_more(&mut self) -> io::Result<()> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        let mut buffer = [0; 8 * 1024];
        match reader.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => {
                self.reader = None;
                Err(error)
            }
            Ok(0) => {
                self.reader = None;
                self.decoded.extend(self.decoder.finish());
                Ok(())
            }
            Ok(read) => {
                self.decoded.extend(self.decoder.push(&buffer[..read]));
                if self.decoder.held() > MAX_EVENT {
                    self.reader = None;
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "an event is larger than 64 MiB"));
                }
                Ok(())
            }
        }
    }
}

impl<R: Read> Iterator for EventStream<R> {
    type Item = io::Result<StreamEvent>;

    fn next(&mut self) -> Option<io::Result<StreamEvent>> {
        loop {
            if let Some(event) = self.decoded.pop_front() {
                return Some(Ok(event));
            }
            self.reader.as_ref()?;
            if let Err(error) = self.read_more() {
                return Some(Err(error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> StreamEvent {
        StreamEvent { event: name.into(), data: data.into(), ..StreamEvent::default() }
    }

    fn decode(stream: &[u8]) -> Vec<StreamEvent> {
        let mut decoder = Decoder::new();
        let mut events = decoder.push(stream);
        events.extend(decoder.finish());
        events
    }

    #[test]
    fn events_are_decoded_by_the_standard() {
        for (stream, expected) in [
            ("", vec![]),
            ("data: a\n\n", vec![event("", "a")]),
            ("event: token\ndata: a\n\ndata: b\n\n", vec![event("token", "a"), event("", "b")]),
            ("data: a\ndata:b\ndata:  c\ndata\n\n", vec![event("", "a\nb\n c\n")]),
            ("data\n\n", vec![event("", "")]),
            (": hello\n\n:\ndata: a\n: and\ndata: b\n\n", vec![event("", "a\nb")]),
            ("event: only\n\ndata: a\n\n", vec![event("", "a")]),
            ("data: x: y\nother: 1\n\n", vec![event("", "x: y")]),
            ("\u{feff}data: a\n\ndata: ✓\n\n", vec![event("", "a"), event("", "✓")]),
            ("\n\n\ndata: a\n\n\n\n", vec![event("", "a")]),
            ("data: [DONE]\r\n\r\n", vec![event("", "[DONE]")]),
            ("data: a\r\rdata: b\n\r\n", vec![event("", "a"), event("", "b")]),
            ("event: a\r\ndata: b\r\ndata: c\r\n\r\n", vec![event("a", "b\nc")]),
        ] {
            assert_eq!(decode(stream.as_bytes()), expected, "{stream:?}");
        }
    }

    #[test]
    fn the_last_event_needs_no_empty_line() {
        for stream in ["data: a\n\ndata: b\n", "data: a\n\ndata: b", "data: a\r\n\r\ndata: b\r"] {
            assert_eq!(decode(stream.as_bytes()), [event("", "a"), event("", "b")], "{stream:?}");
        }
        assert_eq!(decode(b"data: a\n\n: bye"), [event("", "a")]);
        assert_eq!(decode(b"event: none"), []);
    }

    #[test]
    fn an_id_lasts_but_retry_does_not() {
        let events =
            decode(b"id: 7\nretry: 1500\ndata: a\n\nretry: soon\ndata: b\n\nid: x\0\ndata: c\n\nid\ndata: d\n\n");
        let seen: Vec<_> = events.iter().map(|event| (&*event.id, event.retry)).collect();
        assert_eq!(seen, [("7", Some(Duration::from_millis(1500))), ("7", None), ("7", None), ("", None)]);
    }

    #[test]
    fn invalid_utf_8_is_replaced() {
        assert_eq!(decode(b"data: \xff\n\n"), [event("", "\u{fffd}")]);
    }

    #[test]
    fn splitting_makes_no_difference() {
        let stream = "\u{feff}event: ü\r\ndata: ✓\r\n\r\n: c\rdata: a\n\nid: 1\r\ndata: b\r\n".as_bytes();
        let expected = decode(stream);
        assert_eq!(expected.len(), 3);
        for size in 1..stream.len() {
            let mut decoder = Decoder::new();
            let mut events: Vec<_> = stream.chunks(size).flat_map(|chunk| decoder.push(chunk)).collect();
            events.extend(decoder.finish());
            assert_eq!(events, expected, "chunks of {size}");
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic() {
        quickcheck::quickcheck(
            (|bytes: Vec<u8>, at: usize| {
                let (one, two) = bytes.split_at(at % (bytes.len() + 1));
                let mut decoder = Decoder::new();
                let mut events = decoder.push(one);
                events.extend(decoder.push(two));
                events.extend(decoder.finish());
                events == decode(&bytes)
            }) as fn(_, _) -> bool,
        );
    }

    /// One byte at a time, interrupted before each, and an error at the end.
    struct Failing(Vec<u8>, bool);

    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if self.0.is_empty() {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            buffer[0] = self.0.remove(0);
            Ok(1)
        }
    }

    #[test]
    fn events_precede_the_readers_error() {
        let mut events = EventStream::new(Failing(b"data: a\n\ndata: b".to_vec(), false));
        assert_eq!(events.next().unwrap().unwrap(), event("", "a"));
        assert_eq!(events.next().unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert!(events.next().is_none());
    }

    #[test]
    fn an_endless_event_is_an_error() {
        let mut events = EventStream::new(io::repeat(b'x').take(2 * MAX_EVENT as u64));
        assert_eq!(events.next().unwrap().unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(events.next().is_none());
    }
}
