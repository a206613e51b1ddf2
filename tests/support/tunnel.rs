//! A plain HTTP proxy that tunnels every CONNECT.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// The head of each CONNECT that a proxy received.
pub type Tunnels = Arc<Mutex<Vec<String>>>;

/// Starts a proxy, which resolves the target of each CONNECT (`HOST:PORT`) by this function. Returns its port.
pub fn tunnelling_proxy(resolve: impl Fn(&str) -> String + Send + Sync + 'static) -> (u16, Tunnels) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let tunnels = Tunnels::default();
    let (seen, resolve) = (Arc::clone(&tunnels), Arc::new(resolve));
    thread::spawn(move || {
        for stream in listener.incoming().map(Result::unwrap) {
            let (seen, resolve) = (Arc::clone(&seen), Arc::clone(&resolve));
            thread::spawn(move || tunnel(stream, &seen, &*resolve).ok());
        }
    });
    (port, tunnels)
}

fn tunnel(mut outside: TcpStream, seen: &Tunnels, resolve: &dyn Fn(&str) -> String) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        outside.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    let mut inside = TcpStream::connect(resolve(target.unwrap_or_else(|| panic!("not a CONNECT: {head}"))))?;
    seen.lock().unwrap().push(head);
    outside.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut from, mut to) = (outside.try_clone()?, inside.try_clone()?);
    thread::spawn(move || io::copy(&mut from, &mut to).and_then(|_| to.shutdown(Shutdown::Write)).ok());
    io::copy(&mut inside, &mut outside)?;
    outside.shutdown(Shutdown::Write)
}
