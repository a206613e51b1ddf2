//! The listening socket, which can be paused and resumed on the same port.

use std::io;
use std::net::SocketAddr;

use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Socket, Type};

/// The system's own limit applies where it is lower.
const BACKLOG: i32 = 1024;

#[derive(Debug)]
pub(super) enum Listener {
    Listening(TcpListener),
    /// Bound but not listening: connections are refused, and no other process gets the port.
    Paused(Socket),
    /// A pause or resume failed half-way; the next resume binds again.
    Unbound,
}

impl Listener {
    /// Stops listening and keeps the port. Call [`reserve`](Listener::reserve) once the connections are closed.
    pub(super) fn close(&mut self, registry: &Registry) -> io::Result<()> {
        let mut listener = match std::mem::replace(self, Listener::Unbound) {
            Listener::Listening(listener) => listener,
            other => {
                *self = other;
                return Err(io::Error::other("the server is already paused"));
            }
        };
        registry.deregister(&mut listener)
    }

    /// Binds the port without listening.
    pub(super) fn reserve(&mut self, address: SocketAddr) -> io::Result<()> {
        *self = Listener::Paused(bind(address)?);
        Ok(())
    }

    /// Listens again.
    pub(super) fn resume(&mut self, registry: &Registry, token: Token, address: SocketAddr) -> io::Result<()> {
        let socket = match std::mem::replace(self, Listener::Unbound) {
            Listener::Paused(socket) => socket,
            Listener::Unbound => bind(address)?,
            listening @ Listener::Listening(_) => {
                *self = listening;
                return Err(io::Error::other("the server is not paused"));
            }
        };
        let mut listener = listen(socket)?;
        registry.register(&mut listener, token, Interest::READABLE)?;
        *self = Listener::Listening(listener);
        Ok(())
    }
}

/// A descriptor that is held for the time when the process has no more of them.
#[derive(Debug)]
pub(super) struct Spare(Option<Socket>);

impl Spare {
    pub(super) fn new() -> Self {
        Spare(Socket::new(Domain::IPV4, Type::STREAM, None).ok())
    }

    /// Returns whether there was one.
    pub(super) fn give_up(&mut self) -> bool {
        self.0.take().is_some()
    }
}

/// A listening socket on this address.
pub(crate) fn bind_and_listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = listen(bind(address)?)?;
    if !address.ip().to_canonical().is_loopback() {
        log::warn!(
            "other machines can reach this server at {address}: it uses plain HTTP, and accepts any API key by default"
        );
    }
    Ok(listener)
}

/// A socket with this address, which refuses connections until it listens.
fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Lets the port be bound while connections of an earlier listener are in TIME_WAIT. On Windows the option means
    // something else: that two processes may share the port.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listen(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}
