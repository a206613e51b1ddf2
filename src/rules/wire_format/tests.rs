use quickcheck::quickcheck;

use super::*;
use AfterRefusal::{Fail, FailAsFirst, FailForFormat, OtherFormat};
use Pass::{Forward, ForwardBackward};
use WireFormat::{Json, Protobuf};

const MISSING: &[u8] = br#"{"detail":"Not Found"}"#;

#[test]
fn refusals_are_told_by_status_and_path() {
    let needs_protobuf = br#"{"detail":"forward_backward requires a application/x-protobuf body"}"#;
    for (pass, format, status, body, expected) in [
        (ForwardBackward, Json, 415, &needs_protobuf[..], Refusal::Format),
        (ForwardBackward, Protobuf, 415, b"", Refusal::Format),
        (Forward, Json, 415, b"", Refusal::Format),
        (Forward, Json, 404, MISSING, Refusal::Path),
        (Forward, Json, 404, b"<html>", Refusal::Path),
        (Forward, Json, 405, br#"{"detail":"Method Not Allowed"}"#, Refusal::Path),
        (Forward, Json, 404, br#"{"detail":"Model not found"}"#, Refusal::Request),
        (Forward, Protobuf, 404, MISSING, Refusal::Request),
        (ForwardBackward, Json, 404, MISSING, Refusal::Request),
        (ForwardBackward, Json, 400, needs_protobuf, Refusal::Request),
        (ForwardBackward, Protobuf, 422, b"", Refusal::Request),
        (ForwardBackward, Protobuf, 500, b"", Refusal::Request),
    ] {
        let failed = FailedPass { status: Some(status), body, written: true, is_cut_short: false };
        assert_eq!(failed.refusal(pass, format), expected, "{pass:?} {format:?} {status}");
    }
}

/// A service that says nothing of itself.
fn settings(first: WireFormat) -> FormatSettings {
    FormatSettings { fixed: None, first, wants_protobuf: None, knows_forward_only: false }
}

fn sure(format: WireFormat) -> Choice {
    Choice::only(format)
}

const TRIAL: Choice = Choice { format: Protobuf, is_trial: true, fits_both: true };

fn failed(status: u16) -> FailedPass<'static> {
    FailedPass { status: Some(status), body: MISSING, written: true, is_cut_short: false }
}

/// What a server responds to JSON on forward_backward, JSON on forward, and protobuf: 0 stands for a promise, 1 for none. Then
/// whether its results are protobuf.
#[derive(Clone, Copy, Debug)]
struct Server(u16, u16, u16, bool);

/// How a pass ended, with the formats in which it was sent.
type Played = (Vec<WireFormat>, u16, Option<AfterRefusal>);

impl Server {
    fn play(&self, pass: Pass, settings: FormatSettings, learned: &mut LearnedFormats) -> Played {
        let (mut negotiation, mut sent) = (Negotiation::new(pass, settings), Vec::new());
        loop {
            let choice = negotiation.choice(*learned);
            sent.push(choice.format);
            let status = match (choice.format, pass) {
                (Json, ForwardBackward) => self.0,
                (Json, Forward) => self.1,
                (Protobuf, _) => self.2,
            };
            if status == 0 {
                negotiation.accepted(choice.format, learned);
                if self.3 {
                    learned.result_was_protobuf();
                }
                return (sent, status, None);
            }
            let failed = FailedPass { status: (status > 1).then_some(status), ..failed(status) };
            match negotiation.failed(choice, &failed, learned) {
                OtherFormat => {}
                after => return (sent, status, Some(after)),
            }
        }
    }
}

#[test]
fn each_server_is_asked_once_for_its_format() {
    let (json, protobuf, both, trial) = (vec![Json], vec![Protobuf], vec![Json, Protobuf], vec![Protobuf, Json]);
    for (name, server, first, expected) in [
        ("SkyRL 0.3.0", Server(0, 0, 500, false), Json, [&json; 4]),
        ("SkyRL 0.4.0", Server(415, 404, 0, true), Json, [&both, &protobuf, &protobuf, &protobuf]),
        ("TuFT", Server(415, 404, 0, false), Json, [&both, &protobuf, &protobuf, &protobuf]),
        ("both, results in JSON", Server(0, 0, 0, false), Json, [&json; 4]),
        ("tinker-cloud, open-rl", Server(0, 0, 0, true), Json, [&json, &json, &protobuf, &json]),
        ("miles", Server(0, 404, 0, true), Json, [&json, &both, &protobuf, &protobuf]),
        ("results alone, 500", Server(0, 0, 500, true), Json, [&json, &json, &trial, &json]),
        ("results alone, 415", Server(0, 0, 415, true), Json, [&json, &json, &trial, &json]),
        ("results alone, 422", Server(0, 0, 422, true), Json, [&json, &json, &trial, &json]),
        ("results alone, no response", Server(0, 0, 1, true), Json, [&json, &json, &trial, &json]),
        ("the official service", Server(415, 404, 0, true), Protobuf, [&protobuf; 4]),
        ("the official service of 2025", Server(0, 0, 415, false), Protobuf, [&trial, &json, &json, &json]),
    ] {
        let mut learned = LearnedFormats::default();
        for (pass, expected) in [ForwardBackward, Forward, ForwardBackward, Forward].into_iter().zip(expected) {
            let played = server.play(pass, settings(first), &mut learned);
            assert_eq!(played, (expected.clone(), 0, None), "{name}: {pass:?}");
        }
        let again = server.play(ForwardBackward, settings(first), &mut learned);
        assert_eq!(again.0.len(), 1, "{name}");
    }
}

#[test]
fn a_service_may_say_what_it_wants() {
    let both = Server(0, 0, 0, true);
    for (wants_protobuf, knows_forward_only, passes, forward) in [
        (Some(false), false, Json, Json),
        (Some(false), true, Json, Json),
        (Some(true), false, Protobuf, Json),
        (Some(true), true, Protobuf, Protobuf),
        (None, true, Protobuf, Protobuf),
    ] {
        let settings = FormatSettings { wants_protobuf, knows_forward_only, ..settings(Json) };
        let mut learned = LearnedFormats { takes_protobuf: TakesProtobuf::Likely, ..LearnedFormats::default() };
        for (pass, format) in [(ForwardBackward, passes), (Forward, forward)] {
            assert_eq!(both.play(pass, settings, &mut learned), (vec![format], 0, None), "{settings:?} {pass:?}");
        }
    }
}

#[test]
fn a_trial_fails_for_its_format_alone() {
    let likely = LearnedFormats { takes_protobuf: TakesProtobuf::Likely, ..LearnedFormats::default() };
    for (status, follows) in [
        (None, true),
        (Some(200), true),
        (Some(400), true),
        (Some(401), false),
        (Some(402), false),
        (Some(403), true),
        (Some(404), true),
        (Some(408), true),
        (Some(409), false),
        (Some(413), true),
        (Some(415), true),
        (Some(422), true),
        (Some(429), false),
        (Some(500), true),
        (Some(503), true),
    ] {
        for (written, is_cut_short) in [(true, false), (false, false), (true, true)] {
            let (mut negotiation, mut learned) = (Negotiation::new(ForwardBackward, settings(Json)), likely);
            let trial = negotiation.choice(learned);
            assert_eq!(trial, TRIAL);
            let failed = FailedPass { status, body: b"", written, is_cut_short };
            let after = negotiation.failed(trial, &failed, &mut learned);
            let follows = follows && !is_cut_short;
            assert_eq!(after == OtherFormat, follows || status == Some(415), "{status:?} {written} {is_cut_short}");
            assert_eq!(learned, likely, "nothing is known before JSON is accepted");
            if follows {
                assert_eq!(negotiation.choice(learned), TRIAL.as_json());
                let lesson = negotiation.accepted(Json, &mut learned);
                assert_eq!(lesson, written.then_some(Lesson::NoProtobuf), "{status:?}");
            }
        }
    }
}

#[test]
fn what_both_formats_refuse_shows_nothing() {
    let likely = LearnedFormats { takes_protobuf: TakesProtobuf::Likely, ..LearnedFormats::default() };
    for (server, sent, ended) in [
        (Server(400, 400, 400, true), vec![Protobuf, Json], (400, Some(Fail))),
        (Server(503, 503, 503, true), vec![Protobuf, Json], (503, Some(Fail))),
        // It was replaced, or takes JSON no more.
        (Server(415, 404, 503, true), vec![Protobuf, Json, Protobuf], (503, Some(Fail))),
    ] {
        let mut learned = likely;
        let played = server.play(ForwardBackward, settings(Json), &mut learned);
        assert_eq!(played, (sent, ended.0, ended.1), "{server:?}");
        assert_eq!(learned, likely);
    }
}

#[test]
fn an_earlier_calls_request_keeps_its_format() {
    let learned = LearnedFormats { takes_protobuf: TakesProtobuf::Yes, ..LearnedFormats::default() };
    let mut negotiation = Negotiation::new(ForwardBackward, settings(Json));
    assert_eq!(negotiation.choice(learned), sure(Protobuf));
    for earlier in [sure(Json), TRIAL.as_json()] {
        negotiation.keep(earlier);
        assert_eq!(negotiation.choice(learned), earlier);
        let mut other = negotiation;
        assert_eq!(other.failed(earlier, &failed(415), &mut learned.clone()), OtherFormat);
        assert_eq!(other.choice(learned), Choice { format: Protobuf, ..earlier });
    }
}

#[test]
fn json_holds_what_protobuf_cannot() {
    let (json, known) = (settings(Json), LearnedFormats::default());
    let lacks = LearnedFormats { lacks_forward: true, ..known };
    let only = LearnedFormats { format: Some(Protobuf), ..known };
    let fixed = FormatSettings { fixed: Some(Protobuf), ..json };
    for (pass, settings, learned, expected) in [
        (ForwardBackward, json, known, true),
        (Forward, json, known, true),
        (ForwardBackward, json, lacks, true),
        (Forward, json, lacks, false),
        (ForwardBackward, json, only, false),
        (ForwardBackward, fixed, known, false),
        (ForwardBackward, settings(Protobuf), known, false),
    ] {
        let negotiation = Negotiation::new(pass, settings);
        assert_eq!(negotiation.may_be_json(Protobuf, learned), expected, "{pass:?} {settings:?} {learned:?}");
        assert!(!negotiation.may_be_json(Json, learned));
    }
}

#[test]
fn lessons_are_told_once() {
    let mut learned = LearnedFormats { takes_protobuf: TakesProtobuf::Likely, ..LearnedFormats::default() };
    let negotiation = Negotiation::new(ForwardBackward, settings(Json));
    assert_eq!(negotiation.accepted(Json, &mut learned), None);
    assert_eq!(negotiation.accepted(Protobuf, &mut learned), Some(Lesson::ProtobufToo));
    assert_eq!(negotiation.accepted(Protobuf, &mut learned), None);

    let official = Negotiation::new(ForwardBackward, settings(Protobuf));
    assert_eq!(official.accepted(Protobuf, &mut LearnedFormats::default()), None);

    for (pass, status, lesson) in [(ForwardBackward, 415, Lesson::Only(Protobuf)), (Forward, 404, Lesson::NoForward)] {
        let (mut negotiation, mut learned) = (Negotiation::new(pass, settings(Json)), LearnedFormats::default());
        assert_eq!(negotiation.failed(sure(Json), &failed(status), &mut learned), OtherFormat);
        assert_eq!(negotiation.accepted(Protobuf, &mut learned), Some(lesson));
    }
}

#[test]
fn a_pass_that_both_formats_refuse_fails_once() {
    for (server, pass, status, after) in [
        (Server(415, 415, 415, false), ForwardBackward, 415, Fail),
        (Server(0, 404, 404, false), Forward, 404, FailAsFirst),
        (Server(0, 404, 415, false), Forward, 415, FailAsFirst),
        (Server(0, 404, 400, false), Forward, 400, Fail),
        (Server(415, 404, 503, false), ForwardBackward, 503, Fail),
        (Server(400, 400, 0, false), ForwardBackward, 400, Fail),
    ] {
        let mut learned = LearnedFormats::default();
        let (sent, ended, decided) = server.play(pass, settings(Json), &mut learned);
        assert!(sent.len() <= 2, "{sent:?}");
        assert_eq!((ended, decided), (status, Some(after)));
        assert_eq!(learned, LearnedFormats::default());
    }
    let mut learned = LearnedFormats::default();
    let server = Server(415, 404, 400, false);
    assert_eq!(server.play(ForwardBackward, settings(Json), &mut learned).0, [Json, Protobuf]);
    assert_eq!(learned.format, Some(Protobuf), "the request was refused, not its format");
}

#[test]
fn a_server_that_was_replaced_is_learned_anew() {
    let server = Server(0, 0, 415, false);
    let mut learned = LearnedFormats { format: Some(Protobuf), ..LearnedFormats::default() };
    assert_eq!(server.play(ForwardBackward, settings(Json), &mut learned).0, [Protobuf, Json]);
    assert_eq!(learned.format, Some(Json));

    let mut learned = LearnedFormats { takes_protobuf: TakesProtobuf::Yes, ..LearnedFormats::default() };
    assert_eq!(server.play(ForwardBackward, settings(Json), &mut learned).0, [Protobuf, Json]);
    assert_eq!(learned.format, Some(Json));

    let mut learned = LearnedFormats { lacks_forward: true, ..LearnedFormats::default() };
    assert_eq!(server.play(Forward, settings(Json), &mut learned).0, [Protobuf, Json]);
    assert_eq!(server.play(Forward, settings(Json), &mut learned).0, [Json], "it has `forward` after all");
}

#[test]
fn a_chosen_format_stays() {
    for (pass, fixed, status, expected) in [
        (ForwardBackward, Json, 415, FailForFormat),
        (Forward, Json, 404, FailForFormat),
        (ForwardBackward, Json, 404, Fail),
        (ForwardBackward, Protobuf, 415, FailForFormat),
        (ForwardBackward, Protobuf, 500, Fail),
        (Forward, Protobuf, 404, Fail),
    ] {
        let mut learned = LearnedFormats {
            format: Some(fixed.other()),
            lacks_forward: fixed == Json,
            takes_protobuf: TakesProtobuf::Likely,
        };
        let settings = FormatSettings { fixed: Some(fixed), ..settings(fixed.other()) };
        let mut negotiation = Negotiation::new(pass, settings);
        assert_eq!(negotiation.choice(learned), sure(fixed));
        assert_eq!(negotiation.failed(sure(fixed), &failed(status), &mut learned), expected);
    }
}

/// One of the statuses that servers respond with.
fn status(seed: u8) -> u16 {
    [0, 0, 0, 1, 400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 500, 503][usize::from(seed % 16)]
}

quickcheck! {
    fn no_pass_is_sent_for_ever(seeds: Vec<(u8, u8, u8, bool, bool)>, official: bool) -> bool {
        let (mut learned, first) = (LearnedFormats::default(), if official { Protobuf } else { Json });
        seeds.iter().all(|&(json, forward, protobuf, results, is_forward)| {
            let server = Server(status(json), status(forward), status(protobuf), results);
            let pass = if is_forward { Forward } else { ForwardBackward };
            let (sent, ..) = server.play(pass, settings(first), &mut learned);
            // Each format once, and a trial before them.
            sent.len() <= 3 && sent.iter().filter(|format| **format == Json).count() <= 1
        })
    }

    fn a_server_that_takes_json_runs_every_pass(seeds: Vec<(u8, bool, bool)>) -> bool {
        let mut learned = LearnedFormats::default();
        // Whatever it responds to protobuf, besides what has nothing to do with formats.
        seeds.iter().all(|&(protobuf, results, is_forward)| {
            let protobuf = if learned.takes_protobuf == TakesProtobuf::Yes { 0 } else { status(protobuf) };
            let server = Server(0, 0, if [401, 409, 429].contains(&protobuf) { 0 } else { protobuf }, results);
            let pass = if is_forward { Forward } else { ForwardBackward };
            server.play(pass, settings(Json), &mut learned).1 == 0
        })
    }

    fn protobuf_is_tried_once(protobuf: u8, passes: u8) -> bool {
        let (server, mut learned) = (Server(0, 0, status(protobuf).max(1), true), LearnedFormats::default());
        let sent = (0..passes).flat_map(|_| server.play(ForwardBackward, settings(Json), &mut learned).0);
        let tried = sent.filter(|format| *format == Protobuf).count();
        tried <= 1 || !may_be_for_format(Some(status(protobuf)))
    }
}
