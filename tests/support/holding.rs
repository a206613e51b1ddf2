//! A service that holds the polls of thousands of results and keeps nothing of them itself.
//!
//! It promises each sample (`sample SAMPLER NUMBER`) and step (`step NUMBER`) at once, and is asked for them with real hold
//! times. It refuses samples of two sequences and the unloading of a model, so that a test learns when the queue before one
//! is sent; the result of the promise `there` is always there.
#![allow(dead_code, reason = "a bench and a test each use their part")]
#![allow(clippy::disallowed_methods, reason = "the hold times are real")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// How long the service holds a poll of a result that is not there.
const HOLD: Duration = Duration::from_secs(1);

/// A service on loopback that promises every result at once and holds the polls until the result is there.
#[derive(Default)]
pub struct Holding {
    state: Mutex<State>,
    changed: Condvar,
    submitted: AtomicUsize,
}

#[derive(Default)]
pub struct State {
    /// Whether every result is there.
    pub open: bool,
    /// The one that is there before.
    pub wanted: String,
    /// The polls that are held.
    pub held: usize,
    /// The results delivered since all are there, in order.
    pub delivered: Vec<String>,
}

impl Holding {
    pub fn start() -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let service = Arc::<Holding>::default();
        let accepting = Arc::clone(&service);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let service = Arc::clone(&accepting);
                thread::spawn(move || service.serve(stream).ok());
            }
        });
        (service, url)
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let (mut reader, mut writer) = (BufReader::new(stream.try_clone()?), stream);
        loop {
            let (mut path, mut length, mut line) = (String::new(), 0, String::new());
            while reader.read_line(&mut line)? > 2 {
                if path.is_empty() {
                    path = line.split(' ').nth(1).unwrap_or_default().replace("/api/v1/", "");
                } else if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
                line.clear();
            }
            if path.is_empty() {
                return Ok(());
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            let (status, answer) = self.answer(&path, &String::from_utf8_lossy(&body));
            let head = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n\r\n", answer.len());
            writer.write_all((head + &answer).as_bytes())?;
        }
    }

    fn answer(&self, path: &str, body: &str) -> (u16, String) {
        let value = |key: &str| {
            let rest = body.split(&format!("\"{key}\":")).nth(1).unwrap_or_default();
            rest.split([',', '}']).next().unwrap_or_default().trim_matches('"').to_owned()
        };
        let answer = match path {
            "create_session" => r#"{"session_id":"session"}"#.to_owned(),
            "create_model" => r#"{"request_id":"model"}"#.to_owned(),
            "create_sampling_session" => format!(r#"{{"sampling_session_id":"{}"}}"#, value("sampling_session_seq_id")),
            "asample" if value("num_samples") == "2" => return (400, "{}".to_owned()),
            "unload_model" => return (400, "{}".to_owned()),
            "asample" => {
                self.submitted.fetch_add(1, Ordering::Relaxed);
                format!(r#"{{"request_id":"sample {} {}"}}"#, value("sampling_session_id"), value("seq_id"))
            }
            "optim_step" => {
                self.submitted.fetch_add(1, Ordering::Relaxed);
                format!(r#"{{"request_id":"step {}"}}"#, value("seq_id"))
            }
            "retrieve_future" => return self.poll(&value("request_id")),
            _ => "{}".to_owned(),
        };
        (200, answer)
    }

    fn poll(&self, id: &str) -> (u16, String) {
        match id {
            "model" => return (200, r#"{"model_id":"model"}"#.to_owned()),
            "there" => return (200, "{}".to_owned()),
            _ => {}
        }
        let mut state = self.state.lock().expect("no panic");
        let is_there = |state: &State| state.open || state.wanted == id;
        if !is_there(&state) {
            state.held += 1;
            self.changed.notify_all();
            let waits = |state: &mut State| !is_there(state);
            state = self.changed.wait_timeout_while(state, HOLD, waits).expect("no panic").0;
            state.held -= 1;
        }
        if !is_there(&state) {
            return (408, r#"{"queue_state":"active"}"#.to_owned());
        }
        if state.open {
            state.delivered.push(id.to_owned());
        }
        let result = if id.starts_with("step") {
            r#"{"metrics":{}}"#
        } else {
            r#"{"sequences":[{"stop_reason":"stop","tokens":[1]}]}"#
        };
        (200, result.to_owned())
    }

    /// How many promises were given.
    pub fn submitted(&self) -> usize {
        self.submitted.load(Ordering::Relaxed)
    }

    /// The state now.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// Changes what is there.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().expect("no panic"));
        self.changed.notify_all();
    }

    /// Waits until it is so.
    pub fn until(&self, ready: impl Fn(&State) -> bool) {
        let mut state = self.state.lock().expect("no panic");
        while !ready(&state) {
            state = self.changed.wait_timeout(state, Duration::from_millis(5)).expect("no panic").0;
        }
    }
}
