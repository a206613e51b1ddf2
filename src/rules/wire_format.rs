//! How a pass over a batch is written: as JSON or as protobuf, and to which path.
//!
//! Servers of 2025 take JSON, the newest take protobuf only, some take both. No response says which, except the refusal of a
//! request: 415 for its format, 404 or 405 for a path that the server lacks. Such a refusal comes before anything is run, so the
//! same request can go out again in the other format. Status 500, with which a server of 2025 responds to protobuf, does not say
//! that: so JSON comes first wherever protobuf is not known to be taken.

use super::error_message::error_message;

/// A wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireFormat {
    Json,
    Protobuf,
}

impl WireFormat {
    pub(crate) fn other(self) -> Self {
        match self {
            WireFormat::Json => WireFormat::Protobuf,
            WireFormat::Protobuf => WireFormat::Json,
        }
    }
}

/// The two kinds of pass over a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    Forward,
    ForwardBackward,
}

impl Pass {
    /// The path of a request in this format. In protobuf, `forward_only` in the body distinguishes the two.
    pub(crate) fn path(self, format: WireFormat) -> &'static str {
        match (self, format) {
            (Pass::Forward, WireFormat::Json) => "forward",
            _ => "forward_backward",
        }
    }
}

/// What the refusals of a service have shown so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LearnedFormats {
    /// The other one was refused, and this one taken.
    pub(crate) format: Option<WireFormat>,
    /// `POST forward` does not exist; forward passes are taken as protobuf.
    pub(crate) lacks_forward: bool,
}

impl LearnedFormats {
    /// The format of a pass. `first` is for a service that has not refused anything yet.
    fn of(self, pass: Pass, first: WireFormat) -> WireFormat {
        match pass {
            Pass::Forward if self.lacks_forward => WireFormat::Protobuf,
            _ => self.format.unwrap_or(first),
        }
    }
}

/// What is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// The format, of all passes.
    Format,
    /// The path: the server has no `forward`.
    Path,
    /// What the request asks for, or the request for now.
    Request,
}

/// Reads the response to a pass with this status. A 404 that speaks of a model is about the model, not the path.
fn refusal(pass: Pass, format: WireFormat, status: u16, body: &[u8]) -> Refusal {
    let is_about_model = || error_message(status, body).to_ascii_lowercase().contains("model");
    match (status, pass, format) {
        (415, ..) => Refusal::Format,
        (404 | 405, Pass::Forward, WireFormat::Json) if !is_about_model() => Refusal::Path,
        _ => Refusal::Request,
    }
}

/// What to do after a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterRefusal {
    /// Send the same request in the other format. Nothing was run.
    OtherFormat,
    /// Fail with the error of this response.
    Fail,
    /// The same. The user chose a format that the service does not take.
    FailForFormat,
    /// Fail with the error of the response to the first format.
    FailAsFirst,
}

/// Finds the format of one pass, which is sent in each format at most once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Negotiation {
    pass: Pass,
    /// What the user chose, if anything.
    fixed: Option<WireFormat>,
    /// The format for a service that has not refused anything yet.
    first: WireFormat,
    refused: Option<(WireFormat, Refusal)>,
}

impl Negotiation {
    pub(crate) fn new(pass: Pass, fixed: Option<WireFormat>, first: WireFormat) -> Self {
        Negotiation { pass, fixed, first, refused: None }
    }

    /// The format to send the pass in.
    pub(crate) fn format(&self, learned: LearnedFormats) -> WireFormat {
        match (self.fixed, self.refused) {
            (Some(fixed), _) => fixed,
            (None, Some((refused, _))) => refused.other(),
            (None, None) => learned.of(self.pass, self.first),
        }
    }

    /// The service has accepted the pass in this format.
    pub(crate) fn accepted(&self, format: WireFormat, learned: &mut LearnedFormats) {
        match self.refused {
            Some((_, Refusal::Format)) => {
                learned.format = Some(format);
                learned.lacks_forward &= self.pass.path(format) != "forward";
            }
            Some((_, Refusal::Path)) => learned.lacks_forward = true,
            _ => {}
        }
    }

    /// The service has refused the pass in this format, with this status.
    pub(crate) fn refused(
        &mut self,
        format: WireFormat,
        status: u16,
        body: &[u8],
        learned: &mut LearnedFormats,
    ) -> AfterRefusal {
        let refusal = refusal(self.pass, format, status, body);
        match (self.refused, refusal) {
            (None, Refusal::Format | Refusal::Path) if self.fixed.is_some() => AfterRefusal::FailForFormat,
            (None, Refusal::Format | Refusal::Path) => {
                self.refused = Some((format, refusal));
                AfterRefusal::OtherFormat
            }
            // The path was not what it refused.
            (Some((_, Refusal::Path)), _) if matches!(status, 404 | 405 | 415) => AfterRefusal::FailAsFirst,
            (Some((_, Refusal::Format)), Refusal::Request) if (400..500).contains(&status) => {
                learned.format = Some(format);
                AfterRefusal::Fail
            }
            _ => AfterRefusal::Fail,
        }
    }
}

#[cfg(test)]
mod tests {
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
            assert_eq!(refusal(pass, format, status, body), expected, "{pass:?} {format:?} {status}");
        }
    }

    /// What a server responds to JSON on forward_backward, JSON on forward, and protobuf. 0 stands for a promise.
    struct Server(u16, u16, u16);

    impl Server {
        /// The formats in which a pass is sent, and how it ends: a status, with what follows from it.
        fn play(
            &self,
            pass: Pass,
            first: WireFormat,
            learned: &mut LearnedFormats,
        ) -> (Vec<WireFormat>, u16, Option<AfterRefusal>) {
            let (mut negotiation, mut sent) = (Negotiation::new(pass, None, first), Vec::new());
            loop {
                let format = negotiation.format(*learned);
                sent.push(format);
                let status = match (format, pass) {
                    (Json, ForwardBackward) => self.0,
                    (Json, Forward) => self.1,
                    (Protobuf, _) => self.2,
                };
                if status == 0 {
                    negotiation.accepted(format, learned);
                    return (sent, status, None);
                }
                match negotiation.refused(format, status, MISSING, learned) {
                    OtherFormat => {}
                    after => return (sent, status, Some(after)),
                }
            }
        }
    }

    #[test]
    fn each_server_is_asked_once_for_its_format() {
        let (json, protobuf, both) = (vec![Json], vec![Protobuf], vec![Json, Protobuf]);
        for (name, server, first, expected) in [
            ("SkyRL 0.3.0", Server(0, 0, 500), Json, [&json; 4]),
            ("SkyRL 0.4.0, TuFT", Server(415, 404, 0), Json, [&both, &protobuf, &protobuf, &protobuf]),
            ("SkyRL between, tinker-cloud, open-rl", Server(0, 0, 0), Json, [&json; 4]),
            ("miles", Server(0, 404, 0), Json, [&json, &both, &json, &protobuf]),
            ("the official service", Server(415, 404, 0), Protobuf, [&protobuf; 4]),
            ("the official service of 2025", Server(0, 0, 415), Protobuf, [&vec![Protobuf, Json], &json, &json, &json]),
        ] {
            let mut learned = LearnedFormats::default();
            for (pass, expected) in [ForwardBackward, Forward, ForwardBackward, Forward].into_iter().zip(expected) {
                assert_eq!(server.play(pass, first, &mut learned), (expected.clone(), 0, None), "{name}: {pass:?}");
            }
        }
    }

    #[test]
    fn a_pass_that_both_formats_refuse_fails_once() {
        for (server, pass, status, after) in [
            (Server(415, 415, 415), ForwardBackward, 415, Fail),
            (Server(0, 404, 404), Forward, 404, FailAsFirst),
            (Server(0, 404, 415), Forward, 415, FailAsFirst),
            (Server(0, 404, 400), Forward, 400, Fail),
            (Server(415, 404, 503), ForwardBackward, 503, Fail),
            (Server(400, 400, 0), ForwardBackward, 400, Fail),
        ] {
            let mut learned = LearnedFormats::default();
            let (sent, ended, decided) = server.play(pass, Json, &mut learned);
            assert!(sent.len() <= 2, "{sent:?}");
            assert_eq!((ended, decided), (status, Some(after)));
            assert_eq!(learned, LearnedFormats::default());
        }
        let mut learned = LearnedFormats::default();
        assert_eq!(Server(415, 404, 400).play(ForwardBackward, Json, &mut learned).0, [Json, Protobuf]);
        assert_eq!(learned.format, Some(Protobuf), "the request was refused, not its format");
    }

    #[test]
    fn a_server_that_was_replaced_is_learned_anew() {
        let mut learned = LearnedFormats { format: Some(Protobuf), lacks_forward: false };
        assert_eq!(Server(0, 0, 415).play(ForwardBackward, Json, &mut learned).0, [Protobuf, Json]);
        assert_eq!(learned.format, Some(Json));

        let mut learned = LearnedFormats { format: None, lacks_forward: true };
        assert_eq!(Server(0, 0, 415).play(Forward, Json, &mut learned).0, [Protobuf, Json]);
        assert_eq!(Server(0, 0, 415).play(Forward, Json, &mut learned).0, [Json], "it has `forward` after all");
    }

    #[test]
    fn a_chosen_format_stays() {
        for (pass, fixed, status, expected) in [
            (ForwardBackward, Json, 415, FailForFormat),
            (Forward, Json, 404, FailForFormat),
            (ForwardBackward, Json, 404, Fail),
            (ForwardBackward, Protobuf, 415, FailForFormat),
            (Forward, Protobuf, 404, Fail),
        ] {
            let mut learned = LearnedFormats { format: Some(fixed.other()), lacks_forward: fixed == Json };
            let mut negotiation = Negotiation::new(pass, Some(fixed), fixed.other());
            assert_eq!(negotiation.format(learned), fixed);
            assert_eq!(negotiation.refused(fixed, status, MISSING, &mut learned), expected);
        }
    }
}
