//! What must not be shown: the key, the gateway's login, and the tokens that the service gives.

use std::cell::RefCell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use log::{Log, Metadata, Record};
use serde_json::json;

use crate::faults::INVALID_TOKEN;
use crate::support::double::Fault;
use crate::support::{self, KEY, RecordedRequest, Reply};

/// The login at the gateway: an id and a secret.
pub const GATEWAY: [&str; 2] = ["id-at-the-gateway", "secret-at-the-gateway"];

/// The end of every token.
const SIGNATURE: &str = "dGhlLXNpZ25hdHVyZQ";

/// Whether a text shows a secret.
pub fn has_secret(text: &str) -> bool {
    [KEY, GATEWAY[0], GATEWAY[1], SIGNATURE].into_iter().any(|secret| text.contains(secret))
}

/// The tokens that a service gives, which doubles do not.
#[derive(Default)]
pub struct Tokens {
    given: AtomicUsize,
    /// The number of the first token that is accepted.
    first: AtomicUsize,
}

impl Tokens {
    /// No token that was given is accepted any more.
    pub fn expire(&self) {
        self.first.store(self.given.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// The double's reply, changed so; or a token, or the refusal of one.
    pub fn healthy(&self, request: &RecordedRequest, change: impl FnOnce(Reply) -> Reply + 'static) -> Fault {
        if request.path == "auth/token" {
            let token = token(self.given.fetch_add(1, Ordering::SeqCst));
            return Fault::Instead(change(Reply::ok(json!({"jwt": token}))));
        }
        let key = request.header("x-api-key").unwrap_or_default();
        if (0..self.first.load(Ordering::SeqCst)).any(|number| key == token(number)) {
            return Fault::Instead(crate::faults::status(401, Some(INVALID_TOKEN)));
        }
        Fault::Changed(Box::new(change))
    }
}

fn token(number: usize) -> String {
    let claims = json!({"iat": 4_000_000_000_u64, "exp": 4_000_003_600_u64, "jti": number});
    support::token(&claims, SIGNATURE)
}

/// Counts the lines of the log that show a secret.
pub struct Watch {
    pub shown: AtomicUsize,
    pub lines: AtomicUsize,
    /// The rows of bytes on the wire.
    pub rows: AtomicUsize,
    /// The first that showed one.
    pub first: OnceLock<String>,
}

pub static WATCH: Watch =
    Watch { shown: AtomicUsize::new(0), lines: AtomicUsize::new(0), rows: AtomicUsize::new(0), first: OnceLock::new() };

thread_local! {
    /// The last bytes on the wire that this thread has logged.
    static WIRE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The bytes in a row of the log of what is on the wire.
const ROW: usize = 16;

/// How many of them are searched, which is more than a secret has.
const KEPT: usize = 8 * ROW;

impl Log for Watch {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        let is_shown = if record.target() == "ureq_proto::util" {
            self.rows.fetch_add(1, Ordering::Relaxed);
            WIRE.try_with(|wire| shows_in_rows(&mut wire.borrow_mut(), &text)).unwrap_or_default()
        } else {
            self.lines.fetch_add(1, Ordering::Relaxed);
            has_secret(&text)
        };
        if is_shown {
            self.shown.fetch_add(1, Ordering::Relaxed);
            self.first.get_or_init(|| format!("{}: {text}", record.target()));
        }
    }

    fn flush(&self) {}
}

/// Adds a row, whose end is its bytes as text, and tells whether the bytes so far show a secret.
fn shows_in_rows(wire: &mut String, row: &str) -> bool {
    let bytes = row.len().checked_sub(ROW).and_then(|start| row.get(start..)).unwrap_or_default();
    wire.push_str(bytes);
    let is_shown = has_secret(wire);
    wire.drain(..wire.len().saturating_sub(KEPT));
    is_shown
}
