//! Gives an event its index, its id and its time.

use std::time::SystemTime;

use super::report::EventData;
use crate::process::unique_bits;
use crate::types::wire::TelemetryEvent;

pub(super) fn stamped((kind, severity): EventData, index: u64, now: SystemTime) -> TelemetryEvent {
    TelemetryEvent { kind, event_id: random_id(), event_session_index: index, severity, timestamp: now.into() }
}

/// A random UUID (version 4), by which the service recognizes an event that it receives twice.
fn random_id() -> String {
    let bits = unique_bits() & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_random_uuids() {
        for _ in 0..100 {
            let id = random_id();
            let lengths: Vec<_> = id.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
            assert!(&id[14..15] == "4" && "89ab".contains(&id[19..20]), "{id}");
        }
        assert_ne!(random_id(), random_id());
    }
}
