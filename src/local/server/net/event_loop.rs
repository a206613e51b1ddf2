//! The one thread that owns all sockets: it accepts, reads, writes and keeps the deadlines, and never blocks on anything
//! else.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::connection::{Connection, Limits, NextStep};
use super::delivery::Delivery;
use super::listener::{Listener, Spare};
use super::mailbox::{ExchangeId, Mailbox, Message, Responder};
use crate::local::server::activity::{ActivityTracker, Traffic};
use crate::local::server::http1::{Request, Response};
use crate::local::server::time::{now, wall_clock};

const LISTENER: Token = Token(0);
/// The token of the waker in the [`Mailbox`]; connections have the numbers between this and the listener's.
pub(crate) const WAKER: Token = Token(usize::MAX);
/// Pause after a failed accept: the listener would report itself ready again at once, and the loop would spin.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// A complete request, with the means to respond to it.
#[derive(Debug)]
pub(crate) struct IncomingRequest {
    pub(crate) request: Request,
    pub(crate) responder: Responder,
}

#[derive(Debug)]
pub(crate) struct EventLoop {
    poll: Poll,
    listener: Listener,
    address: SocketAddr,
    connections: HashMap<usize, Connection>,
    max_connections: usize,
    /// What is given up to refuse a connection when the process has no more file descriptors.
    spare: Spare,
    /// Whether the last connection was refused for want of descriptors, which is logged once.
    is_short: bool,
    limits: Limits,
    /// The deadlines of the connections, and of the next accept after a failed one.
    deadlines: BTreeSet<(Instant, Token)>,
    held_polls: usize,
    traffic: Traffic,
    mailbox: Arc<Mailbox>,
    requests: Sender<IncomingRequest>,
    activity: Arc<ActivityTracker>,
}

impl EventLoop {
    pub(crate) fn new(
        poll: Poll,
        mut listener: TcpListener,
        max_connections: usize,
        limits: Limits,
        mailbox: Arc<Mailbox>,
        requests: Sender<IncomingRequest>,
        activity: Arc<ActivityTracker>,
    ) -> io::Result<Self> {
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(EventLoop {
            poll,
            address: listener.local_addr()?,
            listener: Listener::Listening(listener),
            connections: HashMap::new(),
            max_connections,
            spare: Spare::new(),
            is_short: false,
            limits,
            deadlines: BTreeSet::new(),
            held_polls: 0,
            traffic: Traffic::default(),
            mailbox,
            requests,
            activity,
        })
    }

    /// Runs until [`Message::Stop`] arrives or the sockets can't be polled.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        let mut running = true;
        while running {
            let timeout = self.deadlines.first().map(|(when, _)| when.saturating_duration_since(now()));
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    log::error!("the local server stops: polling its sockets failed: {error}");
                    running = false;
                }
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    WAKER => {}
                    token => {
                        if event.is_writable() {
                            self.update(token, Connection::on_writable);
                        }
                        if event.is_readable() || event.is_read_closed() || event.is_error() {
                            self.update(token, Connection::on_readable);
                        }
                    }
                }
            }
            for message in self.mailbox.take() {
                running &= self.handle(message);
            }
            self.expire_deadlines();
            self.publish_activity();
        }
        self.close_all();
        self.publish_activity();
    }

    /// Handles a message; returns `false` when the loop is to end.
    fn handle(&mut self, message: Message) -> bool {
        match message {
            Message::Respond { to, response, delivery } => {
                self.update(Token(to.connection), |connection, now| {
                    connection.on_response(to.request, response, delivery, now)
                });
            }
            Message::Hold { to, until, fallback, delivery } => {
                self.update(Token(to.connection), |connection, _| {
                    connection.on_hold(to.request, until, fallback, delivery)
                });
            }
            Message::Watch { to } => {
                self.update(Token(to.connection), |connection, _| connection.on_watch(to.request));
            }
            Message::Begin { to, response, backlog, delivery } => {
                self.update(Token(to.connection), |connection, now| {
                    connection.on_begin(to.request, &response, backlog, delivery, now)
                });
            }
            Message::Piece { to, piece } => {
                self.update(Token(to.connection), |connection, now| {
                    connection.on_piece(to.request, piece.as_deref(), now)
                });
            }
            Message::Pause(result) => {
                let paused = self.pause();
                // Before the result: the caller of `pause` must see no open connection afterwards.
                self.publish_activity();
                let _ = result.send(paused);
            }
            Message::Resume(result) => {
                let resumed = self.listener.resume(self.poll.registry(), LISTENER, self.address);
                let _ = result.send(resumed);
            }
            Message::Stop => return false,
        }
        true
    }

    /// Calls a connection, if it is still open, and carries out the next step that it returns. Keeps the deadlines and the
    /// number of held polls in step with the connection.
    fn update(&mut self, token: Token, act: impl FnOnce(&mut Connection, Instant) -> NextStep) {
        let Some(connection) = self.connections.get_mut(&token.0) else { return };
        let (deadline, held) = (connection.deadline, connection.is_held());
        let next = act(connection, now());
        self.traffic += connection.take_traffic();
        if connection.deadline != deadline {
            deadline.map(|deadline| self.deadlines.remove(&(deadline, token)));
            connection.deadline.map(|deadline| self.deadlines.insert((deadline, token)));
        }
        self.held_polls = self.held_polls + usize::from(connection.is_held()) - usize::from(held);
        match next {
            NextStep::Wait => {}
            NextStep::Dispatch(request) => {
                let responder = Responder {
                    mailbox: self.mailbox.clone(),
                    to: ExchangeId { connection: token.0, request: connection.request_number },
                    delivery: Delivery::default(),
                    headers: Vec::new(),
                    awaited: connection.awaited(),
                };
                // Fails only once the handler threads have ended, which happens when the server stops.
                let _ = self.requests.send(IncomingRequest { request, responder });
            }
            NextStep::Close => self.close(token),
        }
    }

    fn close(&mut self, token: Token) {
        let Some(mut connection) = self.connections.remove(&token.0) else { return };
        connection.deadline.map(|deadline| self.deadlines.remove(&(deadline, token)));
        self.held_polls -= usize::from(connection.is_held());
        if let Err(error) = self.poll.registry().deregister(connection.stream()) {
            log::debug!("connection {}: {error}", token.0);
        }
    }

    fn close_all(&mut self) {
        let tokens: Vec<usize> = self.connections.keys().copied().collect();
        tokens.into_iter().for_each(|id| self.close(Token(id)));
    }

    fn expire_deadlines(&mut self) {
        let now = now();
        while let Some(&(when, token)) = self.deadlines.first() {
            if when > now {
                break;
            }
            if token == LISTENER {
                self.deadlines.remove(&(when, token));
                self.accept();
            } else {
                self.update(token, Connection::on_deadline);
            }
        }
    }

    fn accept(&mut self) {
        while let Listener::Listening(listener) = &self.listener {
            match listener.accept() {
                Ok((stream, _)) => {
                    self.is_short = false;
                    self.add_connection(stream);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(error) => {
                    if !std::mem::replace(&mut self.is_short, true) {
                        log::warn!("failed to accept a connection, and refusing others until it succeeds: {error}");
                    }
                    if !self.refuse_one() {
                        self.deadlines.insert((now() + ACCEPT_RETRY_DELAY, LISTENER));
                        return;
                    }
                }
            }
        }
    }

    /// Refuses a connection with the spare descriptor. Returns whether there was one of each.
    fn refuse_one(&mut self) -> bool {
        let Listener::Listening(listener) = &self.listener else { return false };
        let refused = self.spare.give_up() && listener.accept().map(|(stream, _)| refuse(stream)).is_ok();
        self.spare = Spare::new();
        refused
    }

    fn add_connection(&mut self, mut stream: TcpStream) {
        if self.connections.len() >= self.max_connections {
            return refuse(stream);
        }
        self.traffic.accepted += 1;
        let token = Token(self.traffic.accepted);
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
        self.listener.close(self.poll.registry())?;
        self.close_all();
        self.listener.reserve(self.address)
    }

    fn publish_activity(&self) {
        let (connections, held_polls, traffic) = (self.connections.len(), self.held_polls, self.traffic);
        // Only a change wakes those who wait for one.
        let published = self.activity.read(|activity| (activity.connections, activity.held_polls, activity.traffic));
        if published != (connections, held_polls, traffic) {
            self.activity.update(|activity| {
                activity.connections = connections;
                activity.held_polls = held_polls;
                activity.traffic = traffic;
            });
        }
    }
}

/// Refuses a connection beyond the limit.
fn refuse(mut stream: TcpStream) {
    let response = Response::temporary(503, "too many connections");
    // So few bytes fit into the send buffer of a new socket; if not, the client sees the connection close.
    let _ = stream.write_all(&[response.head(false, wall_clock()), response.body.to_vec()].concat());
    // Closing with unread bytes would reset the connection, perhaps before the client has read the response. A client that goes on
    // sending must not hold up the others.
    let mut unread = [0; 16 * 1024];
    for _ in 0..16 {
        if !stream.read(&mut unread).is_ok_and(|length| length > 0) {
            break;
        }
    }
}
