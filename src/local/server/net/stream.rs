//! A response whose body is sent in pieces, while it is made.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::delivery::{Delivery, DeliveryMode};

/// As many bytes may wait for a client before whoever makes the body should keep the next piece for later.
const ROOM: usize = 64 * 1024;

/// The bytes of a body that its client has not taken yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backlog(Arc<AtomicUsize>);

impl Backlog {
    pub(super) fn has_room(&self) -> bool {
        self.0.load(Ordering::Relaxed) < ROOM
    }

    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn remove(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// How a stream goes on after a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Everything so far is written, and more will come.
    Drained,
    /// The socket accepts no more. Whether it accepted anything.
    Blocked { progress: bool },
    /// The last byte is written.
    Ended,
}

/// The output of a connection that streams.
#[derive(Debug)]
pub(super) struct Stream {
    /// Each with the number of bytes that it has in the backlog.
    pieces: VecDeque<(Vec<u8>, usize)>,
    /// Bytes of the first piece that are written.
    written: usize,
    backlog: Backlog,
    is_chunked: bool,
    ended: bool,
    mode: DeliveryMode,
    /// Until then nothing is written: an injected delay.
    withheld_until: Option<Instant>,
}

impl Stream {
    /// A stream that begins with a head. Without chunks, the end of the connection is that of the body.
    pub(super) fn new(head: Vec<u8>, is_chunked: bool, backlog: Backlog, delivery: Delivery, now: Instant) -> Self {
        Stream {
            pieces: VecDeque::from([(head, 0)]),
            written: 0,
            backlog,
            is_chunked,
            ended: false,
            mode: delivery.mode,
            withheld_until: if delivery.delay.is_zero() { None } else { now.checked_add(delivery.delay) },
        }
    }

    /// How the stream leaves the server.
    pub(super) fn mode(&self) -> DeliveryMode {
        self.mode
    }

    pub(super) fn withheld_until(&self) -> Option<Instant> {
        self.withheld_until
    }

    pub(super) fn release(&mut self) {
        self.withheld_until = None;
    }

    /// Adds a piece of the body. A fault may make it the last one.
    pub(super) fn push(&mut self, piece: &[u8]) {
        if self.ended || piece.is_empty() {
            return;
        }
        let is_cut = matches!(self.mode, DeliveryMode::Truncated | DeliveryMode::ResetDuring);
        let mut sent = Vec::with_capacity(piece.len() + 16);
        if self.mode == DeliveryMode::Malformed {
            sent.push(b'<');
        }
        sent.extend_from_slice(if is_cut { &piece[..piece.len() / 2] } else { piece });
        if self.is_chunked {
            // The size counts the whole piece: one that was cut is seen to be incomplete.
            let size = if is_cut { piece.len() } else { sent.len() };
            sent = [format!("{size:x}\r\n").as_bytes(), &sent, if is_cut { b"" } else { b"\r\n" }].concat();
        }
        self.pieces.push_back((sent, piece.len()));
        self.ended = is_cut;
    }

    /// Ends the body.
    pub(super) fn end(&mut self) {
        if !self.ended && self.is_chunked {
            self.pieces.push_back((b"0\r\n\r\n".to_vec(), 0));
        }
        self.ended = true;
    }

    /// Writes as much as the socket accepts.
    pub(super) fn write(&mut self, socket: &mut impl Write) -> io::Result<Flow> {
        let mut progress = false;
        while let Some((piece, counted)) = self.pieces.front() {
            match socket.write(&piece[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(length) => {
                    progress = true;
                    self.written += length;
                    if self.written == piece.len() {
                        self.backlog.remove(*counted);
                        self.written = 0;
                        self.pieces.pop_front();
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Flow::Blocked { progress }),
                Err(error) => return Err(error),
            }
        }
        Ok(if self.ended { Flow::Ended } else { Flow::Drained })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::server::time::now;

    /// A socket that accepts this many bytes, some at a time.
    struct Socket {
        taken: Vec<u8>,
        room: usize,
    }

    impl Write for Socket {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let length = bytes.len().min(3).min(self.room);
            if length == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.room -= length;
            self.taken.extend_from_slice(&bytes[..length]);
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn sent(mode: DeliveryMode, is_chunked: bool) -> (String, Flow) {
        let delivery = Delivery { mode, ..Delivery::default() };
        let mut stream = Stream::new(b"HEAD\n".to_vec(), is_chunked, Backlog::default(), delivery, now());
        for piece in ["data: a\n\n", "", "data: bc\n\n"] {
            stream.backlog.add(piece.len());
            stream.push(piece.as_bytes());
        }
        stream.end();
        let mut socket = Socket { taken: Vec::new(), room: usize::MAX };
        let flow = stream.write(&mut socket).unwrap();
        (String::from_utf8(socket.taken).unwrap(), flow)
    }

    #[test]
    fn pieces_are_framed_as_they_come() {
        for (mode, is_chunked, expected) in [
            (DeliveryMode::Complete, true, "HEAD\n9\r\ndata: a\n\n\r\na\r\ndata: bc\n\n\r\n0\r\n\r\n"),
            (DeliveryMode::Complete, false, "HEAD\ndata: a\n\ndata: bc\n\n"),
            (DeliveryMode::Truncated, true, "HEAD\n9\r\ndata"),
            (DeliveryMode::ResetDuring, false, "HEAD\ndata"),
            (DeliveryMode::Malformed, true, "HEAD\na\r\n<data: a\n\n\r\nb\r\n<data: bc\n\n\r\n0\r\n\r\n"),
        ] {
            assert_eq!(sent(mode, is_chunked), (expected.to_owned(), Flow::Ended), "{mode:?} {is_chunked}");
        }
    }

    #[test]
    fn a_backlog_shrinks_as_pieces_leave() {
        let backlog = Backlog::default();
        let mut stream = Stream::new(b"H".to_vec(), false, backlog.clone(), Delivery::default(), now());
        let piece = vec![b'x'; ROOM];
        backlog.add(piece.len());
        stream.push(&piece);
        assert!(!backlog.has_room());
        let mut socket = Socket { taken: Vec::new(), room: ROOM };
        assert_eq!(stream.write(&mut socket).unwrap(), Flow::Blocked { progress: true });
        assert_eq!(stream.write(&mut socket).unwrap(), Flow::Blocked { progress: false });
        assert!(!backlog.has_room());
        socket.room = 1;
        assert_eq!(stream.write(&mut socket).unwrap(), Flow::Drained);
        assert!(backlog.has_room());
        assert_eq!(backlog.0.load(Ordering::Relaxed), 0);
    }
}
