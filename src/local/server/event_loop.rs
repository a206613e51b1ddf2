//! The one thread that owns all sockets: it accepts, reads, writes and keeps the deadlines, and never waits for
//! anything else.
//!
//! Complete requests leave through a channel to the handlers; answers come back through the [`Mailbox`]. A held poll is
//! one entry in a table here, so a thousand of them need no thread.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

use super::activity::Monitor;
use super::connection::{Connection, Limits, Next};
use super::faults::Delivery;
use super::http::{Request, Response};
use super::reply::{Address, Mailbox, Message, Reply};
use super::{now, wall};

const LISTENER: Token = Token(0);
pub(super) const WAKER: Token = Token(usize::MAX);
/// The system's own limit cuts it where it is lower.
const BACKLOG: i32 = 1024;
/// How long to wait when a connection cannot be accepted, for want of file descriptors in most cases.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// A request on its way to a handler.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) request: Request,
    pub(super) reply: Reply,
}

#[derive(Debug)]
pub(super) struct EventLoop {
    poll: Poll,
    door: Door,
    address: SocketAddr,
    connections: HashMap<usize, Connection>,
    accepted: usize,
    max_connections: usize,
    limits: Limits,
    /// The deadlines of the connections, and of the listener's next attempt.
    deadlines: BTreeSet<(Instant, Token)>,
    held: usize,
    mailbox: Arc<Mailbox>,
    jobs: Sender<Job>,
    monitor: Arc<Monitor>,
}

/// The listening socket.
#[derive(Debug)]
enum Door {
    Open(TcpListener),
    /// Bound but not listening: connections are refused, and nobody else is given the port.
    Shut(Socket),
    /// Neither could be had.
    Lost,
}

impl EventLoop {
    pub(super) fn new(
        poll: Poll,
        mut listener: TcpListener,
        max_connections: usize,
        limits: Limits,
        mailbox: Arc<Mailbox>,
        jobs: Sender<Job>,
        monitor: Arc<Monitor>,
    ) -> io::Result<Self> {
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(EventLoop {
            poll,
            address: listener.local_addr()?,
            door: Door::Open(listener),
            connections: HashMap::new(),
            accepted: 0,
            max_connections,
            limits,
            deadlines: BTreeSet::new(),
            held: 0,
            mailbox,
            jobs,
            monitor,
        })
    }

    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        let mut running = true;
        while running {
            let timeout = self.deadlines.first().map(|(when, _)| when.saturating_duration_since(now()));
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    log::error!("the local server ends, as it cannot wait for its sockets: {error}");
                    running = false;
                }
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    WAKER => {}
                    token => {
                        if event.is_writable() {
                            self.with(token, Connection::on_writable);
                        }
                        if event.is_readable() || event.is_read_closed() || event.is_error() {
                            self.with(token, Connection::on_readable);
                        }
                    }
                }
            }
            for message in self.mailbox.take() {
                running &= self.obey(message);
            }
            self.meet_deadlines();
            self.publish();
        }
        self.close_all();
        self.publish();
    }

    fn obey(&mut self, message: Message) -> bool {
        match message {
            Message::Answer { to, response, delivery } => {
                self.with_exchange(to, |connection, exchange, now| {
                    connection.on_answer(exchange, response, delivery, now)
                });
            }
            Message::Hold { to, until, otherwise, delivery } => {
                self.with_exchange(to, |connection, exchange, _| {
                    connection.on_hold(exchange, until, otherwise, delivery)
                });
            }
            Message::Pause(done) => {
                let result = self.pause();
                self.publish();
                let _ = done.send(result);
            }
            Message::Resume(done) => {
                let _ = done.send(self.resume());
            }
            Message::Stop => return false,
        }
        true
    }

    fn with_exchange(&mut self, to: Address, act: impl FnOnce(&mut Connection, u64, Instant) -> Next) {
        self.with(Token(to.connection), |connection, now| act(connection, to.exchange, now));
    }

    /// Lets a connection act, if it is still there, and does what it asks for.
    fn with(&mut self, token: Token, act: impl FnOnce(&mut Connection, Instant) -> Next) {
        let Some(connection) = self.connections.get_mut(&token.0) else { return };
        let (deadline, held) = (connection.deadline, connection.is_held());
        let next = act(connection, now());
        if connection.deadline != deadline {
            deadline.map(|deadline| self.deadlines.remove(&(deadline, token)));
            connection.deadline.map(|deadline| self.deadlines.insert((deadline, token)));
        }
        self.held = self.held + usize::from(connection.is_held()) - usize::from(held);
        match next {
            Next::Wait => {}
            Next::Dispatch(request) => {
                let reply = Reply {
                    mailbox: self.mailbox.clone(),
                    to: Address { connection: token.0, exchange: connection.exchange },
                    delivery: Delivery::default(),
                    awaited: connection.awaited(),
                };
                // The handlers are gone only when the server is stopping.
                let _ = self.jobs.send(Job { request, reply });
            }
            Next::Close => self.close(token),
        }
    }

    fn close(&mut self, token: Token) {
        let Some(mut connection) = self.connections.remove(&token.0) else { return };
        connection.deadline.map(|deadline| self.deadlines.remove(&(deadline, token)));
        self.held -= usize::from(connection.is_held());
        if let Err(error) = self.poll.registry().deregister(connection.stream()) {
            log::debug!("connection {}: {error}", token.0);
        }
    }

    fn close_all(&mut self) {
        let tokens: Vec<usize> = self.connections.keys().copied().collect();
        tokens.into_iter().for_each(|id| self.close(Token(id)));
    }

    fn meet_deadlines(&mut self) {
        let now = now();
        while let Some(&(when, token)) = self.deadlines.first() {
            if when > now {
                break;
            }
            if token == LISTENER {
                self.deadlines.remove(&(when, token));
                self.accept();
            } else {
                self.with(token, Connection::on_deadline);
            }
        }
    }

    fn accept(&mut self) {
        while let Door::Open(listener) = &self.door {
            match listener.accept() {
                Ok((stream, _)) => self.welcome(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(error) => {
                    log::warn!("no connection can be accepted: {error}");
                    self.deadlines.insert((now() + ACCEPT_AGAIN, LISTENER));
                    return;
                }
            }
        }
    }

    fn welcome(&mut self, mut stream: TcpStream) {
        if self.connections.len() >= self.max_connections {
            let refusal = Response::detail(503, "too many connections");
            // The few bytes fit into a fresh socket; if not, the client sees the connection end.
            let _ = stream.write_all(&[refusal.head(false, wall()), refusal.body.to_vec()].concat());
            return;
        }
        self.accepted += 1;
        let token = Token(self.accepted);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let ready = stream.set_nodelay(true).and_then(|()| self.poll.registry().register(&mut stream, token, interest));
        if let Err(error) = ready {
            log::debug!("connection {}: {error}", token.0);
            return;
        }
        let connection = Connection::new(stream, self.limits.clone(), now());
        connection.deadline.map(|deadline| self.deadlines.insert((deadline, token)));
        self.connections.insert(token.0, connection);
    }

    fn pause(&mut self) -> io::Result<()> {
        let Door::Open(mut listener) = std::mem::replace(&mut self.door, Door::Lost) else {
            return Err(io::Error::other("the server is paused already"));
        };
        self.poll.registry().deregister(&mut listener)?;
        drop(listener);
        self.close_all();
        self.door = Door::Shut(bind(self.address)?);
        Ok(())
    }

    fn resume(&mut self) -> io::Result<()> {
        let socket = match std::mem::replace(&mut self.door, Door::Lost) {
            Door::Shut(socket) => socket,
            Door::Lost => bind(self.address)?,
            open @ Door::Open(_) => {
                self.door = open;
                return Err(io::Error::other("the server is not paused"));
            }
        };
        let mut listener = listen(socket)?;
        self.poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        self.door = Door::Open(listener);
        Ok(())
    }

    fn publish(&self) {
        let (connections, held_polls) = (self.connections.len(), self.held);
        if self.monitor.view(|seen| (seen.connections, seen.held_polls)) != (connections, held_polls) {
            self.monitor.change(|seen| {
                seen.connections = connections;
                seen.held_polls = held_polls;
            });
        }
    }
}

/// A socket with this address, which refuses connections until it listens.
pub(super) fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Elsewhere than on Windows this means: although connections of an earlier listener are still being wound up.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

pub(super) fn listen(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}
