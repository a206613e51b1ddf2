//! Traces in Perfetto's format, as far as spans need it: <https://perfetto.dev/docs/reference/synthetic-track-event>.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message;

use super::TimedSpan;
use super::lanes::lanes;
use crate::local::server::state::PromiseId;

const SLICE_BEGIN: i32 = 1;
const SLICE_END: i32 = 2;

/// All events are from one writer.
const WRITER: u32 = 1;

/// The track of the whole session; those of its lanes have the numbers after it.
const SESSION_TRACK: u64 = 1;

#[derive(Clone, PartialEq, Message)]
struct Trace {
    #[prost(message, repeated, tag = "1")]
    packet: Vec<TracePacket>,
}

#[derive(Clone, PartialEq, Message)]
struct TracePacket {
    /// Nanoseconds.
    #[prost(uint64, optional, tag = "8")]
    timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "10")]
    trusted_packet_sequence_id: Option<u32>,
    #[prost(message, optional, tag = "11")]
    track_event: Option<TrackEvent>,
    #[prost(message, optional, tag = "60")]
    track_descriptor: Option<TrackDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct TrackDescriptor {
    #[prost(uint64, optional, tag = "1")]
    uuid: Option<u64>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
    #[prost(message, optional, tag = "3")]
    process: Option<ProcessDescriptor>,
    #[prost(uint64, optional, tag = "5")]
    parent_uuid: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct ProcessDescriptor {
    #[prost(int32, optional, tag = "1")]
    pid: Option<i32>,
    #[prost(string, optional, tag = "6")]
    process_name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct TrackEvent {
    #[prost(message, repeated, tag = "4")]
    debug_annotations: Vec<DebugAnnotation>,
    #[prost(int32, optional, tag = "9")]
    r#type: Option<i32>,
    #[prost(uint64, optional, tag = "11")]
    track_uuid: Option<u64>,
    #[prost(string, repeated, tag = "22")]
    categories: Vec<String>,
    #[prost(string, optional, tag = "23")]
    name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct DebugAnnotation {
    #[prost(uint64, optional, tag = "3")]
    uint_value: Option<u64>,
    #[prost(string, optional, tag = "6")]
    string_value: Option<String>,
    #[prost(string, optional, tag = "10")]
    name: Option<String>,
}

/// The trace of a session: one process, one track for each training run and sampling session, or several if its requests
/// overlap. A request is a slice from its submission to its result, and its computation a slice within.
pub(super) fn trace<'a>(session_id: &str, spans: impl Iterator<Item = (&'a PromiseId, &'a TimedSpan)>) -> Vec<u8> {
    let mut subjects: BTreeMap<&str, Vec<(&PromiseId, &TimedSpan)>> = BTreeMap::new();
    for (id, span) in spans {
        subjects.entry(&span.span.subject).or_default().push((id, span));
    }
    let process = ProcessDescriptor { pid: Some(1), process_name: Some(session_id.to_owned()) };
    let session = TrackDescriptor { uuid: Some(SESSION_TRACK), process: Some(process), ..TrackDescriptor::default() };
    let (mut packet, mut tracks) = (vec![descriptor(session)], SESSION_TRACK);
    for (subject, mut spans) in subjects {
        spans.sort_by_key(|(_, span)| span.submitted);
        let lanes = lanes(spans.iter().map(|(_, span)| (span.submitted, span.finished)));
        let first = tracks + 1;
        tracks = lanes.iter().map(|&lane| first + lane as u64).max().unwrap_or(tracks);
        for uuid in first..=tracks {
            let name = if uuid == first { subject.to_owned() } else { format!("{subject} ({})", uuid - first + 1) };
            let parent_uuid = Some(SESSION_TRACK);
            packet.push(descriptor(TrackDescriptor { uuid: Some(uuid), name: Some(name), process: None, parent_uuid }));
        }
        for ((id, span), lane) in spans.into_iter().zip(lanes) {
            packet.extend(slices(*id, span, first + lane as u64));
        }
    }
    Trace { packet }.encode_to_vec()
}

/// The slices of a request. What has not happened yet has no end.
fn slices(
    id: PromiseId,
    TimedSpan { span, submitted, started, finished, has_failed }: &TimedSpan,
    track: u64,
) -> Vec<TracePacket> {
    let text = |name: &str, value: &str| DebugAnnotation {
        name: Some(name.to_owned()),
        string_value: Some(value.to_owned()),
        uint_value: None,
    };
    let mut request = begin(track, "request", &span.name);
    request.debug_annotations.push(text("request_id", &id.to_string()));
    let seq = span.seq.map(|seq| DebugAnnotation {
        uint_value: Some(seq),
        name: Some("seq_id".to_owned()),
        string_value: None,
    });
    request.debug_annotations.extend(seq);
    if *has_failed {
        request.debug_annotations.push(text("outcome", "failed"));
    }
    let mut events = vec![event(*submitted, request)];
    if let Some(started) = started {
        events.push(event(*started, begin(track, "compute", "compute")));
    }
    if let Some(finished) = finished {
        let slices = 1 + usize::from(started.is_some());
        events.extend((0..slices).map(|_| event(*finished, end(track))));
    }
    events
}

fn begin(track: u64, category: &str, name: &str) -> TrackEvent {
    TrackEvent {
        r#type: Some(SLICE_BEGIN),
        track_uuid: Some(track),
        categories: vec![category.to_owned()],
        name: Some(name.to_owned()),
        debug_annotations: Vec::new(),
    }
}

fn end(track: u64) -> TrackEvent {
    TrackEvent { r#type: Some(SLICE_END), track_uuid: Some(track), ..TrackEvent::default() }
}

fn event(time: Duration, event: TrackEvent) -> TracePacket {
    TracePacket {
        timestamp: Some(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
        trusted_packet_sequence_id: Some(WRITER),
        track_event: Some(event),
        track_descriptor: None,
    }
}

fn descriptor(track: TrackDescriptor) -> TracePacket {
    let trusted_packet_sequence_id = Some(WRITER);
    TracePacket { trusted_packet_sequence_id, track_descriptor: Some(track), ..TracePacket::default() }
}

#[cfg(test)]
mod tests {
    use super::super::Span;
    use super::*;
    use crate::local::server::state::{Owner, PromiseSettings, PromiseTable};

    /// Begins and ends of the slices in the order of the trace: time, track, name.
    fn events(trace: &[u8]) -> Vec<(u64, u64, Option<String>)> {
        let packets = Trace::decode(trace).unwrap().packet.into_iter();
        let events = packets.filter_map(|packet| Some((packet.timestamp?, packet.track_event?)));
        events.map(|(time, event)| (time, event.track_uuid.unwrap(), event.name)).collect()
    }

    fn span(subject: &str, name: &str, times: [Option<u64>; 3]) -> TimedSpan {
        let span =
            Span { session_id: "s".to_owned(), subject: subject.to_owned(), name: name.to_owned(), seq: Some(4) };
        let [submitted, started, finished] = times.map(|time| time.map(Duration::from_nanos));
        TimedSpan { span, submitted: submitted.unwrap(), started, finished, has_failed: false }
    }

    #[test]
    fn requests_are_slices_on_tracks_of_their_own() {
        let (promises, owner) = (PromiseTable::new(PromiseSettings::default(), 0), Owner::of_key("tml-test"));
        let spans: Vec<_> = [
            span("s:train:0", "optim_step", [Some(10), Some(11), Some(20)]),
            span("s:train:0", "save_weights", [Some(15), Some(20), Some(30)]),
            span("s:sample:0", "asample", [Some(12), None, None]),
        ]
        .into_iter()
        .map(|span| (promises.create(&owner), span))
        .collect();
        let trace = trace("s", spans.iter().map(|(id, span)| (id, span)));
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(
            events(&trace),
            [
                (12, 2, name("asample")),
                (10, 3, name("optim_step")),
                (11, 3, name("compute")),
                (20, 3, None),
                (20, 3, None),
                (15, 4, name("save_weights")),
                (20, 4, name("compute")),
                (30, 4, None),
                (30, 4, None),
            ]
        );
        let packets = Trace::decode(&*trace).unwrap().packet.into_iter();
        let tracks: Vec<_> = packets.filter_map(|packet| packet.track_descriptor).collect();
        assert_eq!(tracks[0].process.as_ref().unwrap().process_name, name("s"));
        let names: Vec<_> = tracks[1..].iter().map(|track| track.name.clone().unwrap()).collect();
        assert_eq!(names, ["s:sample:0", "s:train:0", "s:train:0 (2)"]);
    }
}
