//! The network: one event loop owns all sockets.
//!
//! Complete requests leave through a channel to the handler threads; responses return through the [`Mailbox`].
//!
//! The event loop is written on mio and httparse instead of taken from an HTTP server crate for two reasons. A held poll
//! must cost a table entry, not a thread; and the faults need control of single bytes: a response cut in the middle, a
//! reset instead of a close, a reset on the next use of a connection. `tiny_http` has a thread per connection and neither
//! control; async servers would bring their runtime into the library.

#[cfg_attr(not(feature = "pretrained"), allow(dead_code, reason = "only OpenAI's API streams its responses"))]
mod awaited;
mod connection;
mod counted;
mod delivery;
mod event_loop;
mod listener;
#[cfg_attr(not(feature = "pretrained"), allow(dead_code, reason = "only OpenAI's API streams its responses"))]
mod mailbox;
#[cfg_attr(not(feature = "pretrained"), allow(dead_code, reason = "only OpenAI's API streams its responses"))]
mod stream;

pub(crate) use self::connection::Limits;
pub(crate) use self::delivery::{Delivery, DeliveryMode};
pub(crate) use self::event_loop::{EventLoop, IncomingRequest, WAKER};
pub(crate) use self::listener::bind_and_listen;
#[cfg(feature = "pretrained")]
pub(crate) use self::mailbox::StreamResponder;
pub(crate) use self::mailbox::{Mailbox, Message, Responder};
