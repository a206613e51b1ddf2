//! Proxies: one that tunnels every CONNECT, one that refuses, and one that speaks SOCKS5.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
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

/// Starts a proxy that responds to every CONNECT with this status and reason. Returns its port.
pub fn refusing_proxy(response: &'static str) -> (u16, Tunnels) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let tunnels = Tunnels::default();
    let seen = Arc::clone(&tunnels);
    thread::spawn(move || {
        for stream in listener.incoming().map(Result::unwrap) {
            let refuse = |mut stream: TcpStream| -> io::Result<()> {
                seen.lock().unwrap().push(read_head(&mut stream)?);
                write!(stream, "HTTP/1.1 {response}\r\ncontent-length: 0\r\n\r\n")
            };
            refuse(stream).ok();
        }
    });
    (port, tunnels)
}

/// The login (`USER:PASSWORD`, or empty) and the target of each connection through a SOCKS5 proxy.
pub type SocksTargets = Arc<Mutex<Vec<(String, String)>>>;

/// Starts a SOCKS5 proxy that asks for a login if one is offered, and connects everything to this address. Returns its port.
pub fn socks_proxy(address: String) -> (u16, SocksTargets) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let targets = SocksTargets::default();
    let seen = Arc::clone(&targets);
    thread::spawn(move || {
        for stream in listener.incoming().map(Result::unwrap) {
            let (address, seen) = (address.clone(), Arc::clone(&seen));
            thread::spawn(move || socks(stream, &address, &seen).ok());
        }
    });
    (port, targets)
}

fn read_bytes(stream: &mut TcpStream, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Bytes after their length in one byte.
fn read_text(stream: &mut TcpStream) -> io::Result<String> {
    let length = read_bytes(stream, 1)?[0];
    Ok(String::from_utf8(read_bytes(stream, length.into())?).unwrap())
}

/// RFC 1928 and 1929.
fn socks(mut outside: TcpStream, address: &str, seen: &SocksTargets) -> io::Result<()> {
    let greeting = read_bytes(&mut outside, 2)?;
    let methods = read_bytes(&mut outside, greeting[1].into())?;
    let mut login = String::new();
    if methods.contains(&2) {
        outside.write_all(&[5, 2])?;
        read_bytes(&mut outside, 1)?;
        let (user, password) = (read_text(&mut outside)?, read_text(&mut outside)?);
        login = format!("{user}:{password}");
        outside.write_all(&[1, 0])?;
    } else {
        outside.write_all(&[5, 0])?;
    }
    let host = match read_bytes(&mut outside, 4)?[3] {
        1 => Ipv4Addr::from(<[u8; 4]>::try_from(read_bytes(&mut outside, 4)?).unwrap()).to_string(),
        3 => read_text(&mut outside)?,
        _ => format!("[{}]", Ipv6Addr::from(<[u8; 16]>::try_from(read_bytes(&mut outside, 16)?).unwrap())),
    };
    let port = u16::from_be_bytes(read_bytes(&mut outside, 2)?.try_into().unwrap());
    seen.lock().unwrap().push((login, format!("{host}:{port}")));
    let inside = TcpStream::connect(address)?;
    outside.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    relay(outside, inside)
}

fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(read_bytes(stream, 1)?);
    }
    Ok(String::from_utf8(head).unwrap())
}

fn tunnel(mut outside: TcpStream, seen: &Tunnels, resolve: &dyn Fn(&str) -> String) -> io::Result<()> {
    let head = read_head(&mut outside)?;
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    let inside = TcpStream::connect(resolve(target.unwrap_or_else(|| panic!("not a CONNECT: {head}"))))?;
    seen.lock().unwrap().push(head);
    outside.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    relay(outside, inside)
}

fn relay(mut outside: TcpStream, mut inside: TcpStream) -> io::Result<()> {
    let (mut from, mut to) = (outside.try_clone()?, inside.try_clone()?);
    thread::spawn(move || io::copy(&mut from, &mut to).and_then(|_| to.shutdown(Shutdown::Write)).ok());
    io::copy(&mut inside, &mut outside)?;
    outside.shutdown(Shutdown::Write)
}
