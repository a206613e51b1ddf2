//! A socket that counts its bytes.

use std::io::{self, IoSlice, Read, Write};

use mio::net::TcpStream;

use crate::local::server::activity::Traffic;

#[derive(Debug)]
pub(super) struct Counted {
    pub(super) stream: TcpStream,
    /// Since it was last taken.
    pub(super) traffic: Traffic,
}

impl Counted {
    pub(super) fn new(stream: TcpStream) -> Self {
        Counted { stream, traffic: Traffic::default() }
    }
}

fn count(total: &mut u64, bytes: &io::Result<usize>) {
    *total += bytes.as_ref().map_or(0, |&bytes| bytes as u64);
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer);
        count(&mut self.traffic.received, &read);
        read
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = self.stream.write_vectored(pieces);
        count(&mut self.traffic.sent, &written);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
