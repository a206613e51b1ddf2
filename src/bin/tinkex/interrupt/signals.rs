//! SIGINT, SIGTERM and SIGHUP, unless they are ignored.

use std::fs;
use std::io;
use std::process::{Command, Stdio};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

const STOPPING: [(i32, &str); 3] = [(SIGHUP, "HUP"), (SIGINT, "INT"), (SIGTERM, "TERM")];

/// Calls the function on each signal that asks the program to stop, on a thread of its own, with whether it is that of Ctrl-C.
pub(super) fn on_each(mut act: impl FnMut(bool) + Send + 'static) -> io::Result<()> {
    let status = fs::read_to_string("/proc/self/status").ok();
    let ignored = status.as_deref().and_then(ignored_signals);
    let is_ignored = |signal, name| ignored.map_or_else(|| survives(name), |mask| is_in(mask, signal));
    let caught: Vec<i32> =
        STOPPING.into_iter().filter(|(signal, name)| !is_ignored(*signal, name)).map(|(signal, _)| signal).collect();
    if caught.is_empty() {
        return Ok(());
    }
    let mut signals = Signals::new(caught)?;
    let wait = move || signals.forever().for_each(|signal| act(signal == SIGINT));
    thread::Builder::new().name("tinkex-signals".to_owned()).spawn(wait).map(drop)
}

/// The set of ignored signals in the text of `/proc/self/status`.
fn ignored_signals(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// Signals count from 1.
fn is_in(mask: u64, signal: i32) -> bool {
    mask >> (signal - 1) & 1 == 1
}

/// Whether a shell survives this signal: a child process ignores what this one ignored at its start. It needs no `/proc`.
fn survives(name: &str) -> bool {
    let script = format!("kill -{name} $$; exit 0");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    shell.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status() {
        let status = "Name:\ttinkex\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0000000180004002\n";
        let mask = ignored_signals(status).unwrap();
        assert_eq!([SIGHUP, SIGINT, SIGTERM].map(|signal| is_in(mask, signal)), [true, false, false]);
        assert!(is_in(ignored_signals("SigIgn: 4002").unwrap(), SIGINT) && is_in(0x4000, SIGTERM));
        assert_eq!((ignored_signals("Name:\tx\n"), ignored_signals("SigIgn:\tx\n")), (None, None));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_shell_finds_the_same_signals() {
        let mask = ignored_signals(&fs::read_to_string("/proc/self/status").unwrap()).unwrap();
        for (signal, name) in STOPPING {
            assert_eq!(survives(name), is_in(mask, signal), "{name}");
        }
    }
}
