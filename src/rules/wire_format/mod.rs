//! How a pass over a batch is written: as JSON or as protobuf, and to which path.
//!
//! Servers of 2025 take JSON, the newest take protobuf only, some take both. No response says which, except the refusal of a
//! request: 415 for its format, 404 or 405 for a path that the server lacks. Such a refusal comes before anything is run, so the
//! same request can go out again in the other format. Status 500, with which a server of 2025 responds to protobuf, does not say
//! that: so JSON comes first wherever protobuf is not known to be taken.
//!
//! A service may say in its settings whether it wants protobuf (`proto_write_fwdbwd`, for clients until 0.24, which sent it then).
//! If it does not, and sends the result of a pass in JSON as protobuf, the next pass is tried in protobuf. If that fails, it goes out
//! at once in JSON, under the same number: as with any retry, the first request may have been run, and the number tells the server.
//! A forward pass is not tried: a server that knows protobuf may not know `forward_only`, and would train.

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

/// What is known before the first pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FormatSettings {
    /// What the user chose, if anything.
    pub(crate) fixed: Option<WireFormat>,
    /// The format for a service that has not shown anything yet.
    pub(crate) first: WireFormat,
    /// `proto_write_fwdbwd`: whether the service wants protobuf, if it says so.
    pub(crate) wants_protobuf: Option<bool>,
    /// `fwd_via_fwdbwd`: whether it says that it knows `forward_only`.
    pub(crate) knows_forward_only: bool,
}

/// Whether a service that takes JSON takes protobuf, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TakesProtobuf {
    #[default]
    Unknown,
    /// It has sent a result in protobuf.
    Likely,
    Yes,
    /// It accepted JSON after a trial had failed.
    No,
}

/// What the responses of a service have shown so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LearnedFormats {
    /// The other one was refused, and this one taken.
    pub(crate) format: Option<WireFormat>,
    /// `POST forward` does not exist; forward passes are taken as protobuf.
    pub(crate) lacks_forward: bool,
    pub(crate) takes_protobuf: TakesProtobuf,
}

impl LearnedFormats {
    /// The result of a pass was protobuf. Servers of 2025 send none.
    pub(crate) fn result_was_protobuf(&mut self) {
        if self.takes_protobuf == TakesProtobuf::Unknown {
            self.takes_protobuf = TakesProtobuf::Likely;
        }
    }

    /// The format of a pass.
    fn of(self, pass: Pass, settings: FormatSettings) -> Choice {
        let sure = Choice::only;
        match (self.format, self.takes_protobuf, settings.wants_protobuf) {
            _ if pass == Pass::Forward && self.lacks_forward => sure(WireFormat::Protobuf),
            (Some(format), ..) => sure(format),
            _ if settings.first == WireFormat::Protobuf => sure(WireFormat::Protobuf),
            _ if pass == Pass::Forward && !settings.knows_forward_only => sure(WireFormat::Json),
            (_, TakesProtobuf::Yes, _) | (.., Some(true)) => sure(WireFormat::Protobuf),
            (_, TakesProtobuf::Likely, None) => {
                Choice { format: WireFormat::Protobuf, is_trial: true, fits_both: true }
            }
            _ => sure(WireFormat::Json),
        }
    }
}

/// What the service does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// The format, of all passes.
    Format,
    /// The path: the server has no `forward`.
    Path,
    /// What the request asks for, or the request for now.
    Request,
}

/// How sending a pass failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailedPass<'a> {
    /// The status of the response, if that was the failure.
    pub(crate) status: Option<u16>,
    pub(crate) body: &'a [u8],
    /// Some of it was written.
    pub(crate) written: bool,
    /// Its call has ended.
    pub(crate) is_cut_short: bool,
}

impl FailedPass<'_> {
    /// Reads the failure. A 404 that speaks of a model is about the model, not the path.
    fn refusal(&self, pass: Pass, format: WireFormat) -> Refusal {
        let Some(status) = self.status else { return Refusal::Request };
        let is_about_model = || error_message(status, self.body).to_ascii_lowercase().contains("model");
        match (status, pass, format) {
            (415, ..) => Refusal::Format,
            (404 | 405, Pass::Forward, WireFormat::Json) if !is_about_model() => Refusal::Path,
            _ => Refusal::Request,
        }
    }
}

/// Whether a trial that failed with this status, or without one, may have done so for its format. The key, the account, the number
/// and the moment are the same in both.
pub(crate) fn may_be_for_format(status: Option<u16>) -> bool {
    !matches!(status, Some(401 | 402 | 409 | 429))
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterRefusal {
    /// Send the same request in the other format.
    OtherFormat,
    /// Fail with the error of this response.
    Fail,
    /// The same. The user chose a format that the service does not take.
    FailForFormat,
    /// Fail with the error of the response to the first format.
    FailAsFirst,
}

/// What an accepted pass has shown for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lesson {
    /// The service takes this format only.
    Only(WireFormat),
    /// It has no `forward`.
    NoForward,
    /// It takes protobuf besides JSON.
    ProtobufToo,
    /// A trial failed, and JSON was accepted.
    NoProtobuf,
}

/// The format to send a pass in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) format: WireFormat,
    /// Protobuf is tried: any failure that may be for the format is followed by JSON.
    pub(crate) is_trial: bool,
    /// The request has as many datums as fit one of either format: under its number, the server may have run it in the other one.
    pub(crate) fits_both: bool,
}

impl Choice {
    /// A format that is no trial, for a request that was sent in no other.
    pub(crate) fn only(format: WireFormat) -> Self {
        Choice { format, is_trial: false, fits_both: false }
    }

    /// The same request as JSON.
    pub(crate) fn as_json(self) -> Self {
        Choice { format: WireFormat::Json, is_trial: false, ..self }
    }
}

/// Finds the format of one pass, which is sent in each format at most once, besides a trial.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Negotiation {
    pass: Pass,
    settings: FormatSettings,
    /// How it was sent by an earlier call.
    earlier: Option<Choice>,
    /// The trial failed, and whether the service has seen it.
    failed_trial: Option<bool>,
    refused: Option<(WireFormat, Refusal)>,
}

impl Negotiation {
    pub(crate) fn new(pass: Pass, settings: FormatSettings) -> Self {
        Negotiation { pass, settings, earlier: None, failed_trial: None, refused: None }
    }

    /// Keeps to the form in which the same request may have been run already.
    pub(crate) fn keep(&mut self, choice: Choice) {
        self.earlier = Some(choice);
    }

    /// The format to send the pass in.
    pub(crate) fn choice(&self, learned: LearnedFormats) -> Choice {
        let Negotiation { pass, settings, earlier, failed_trial, refused } = *self;
        let fits_both = failed_trial.is_some() || earlier.is_some_and(|earlier| earlier.fits_both);
        match (settings.fixed, refused, earlier) {
            (Some(fixed), ..) => Choice::only(fixed),
            (None, Some((refused, _)), _) => Choice { fits_both, ..Choice::only(refused.other()) },
            (None, None, Some(earlier)) => earlier,
            (None, None, None) if fits_both => Choice { fits_both, ..Choice::only(WireFormat::Json) },
            (None, None, None) => learned.of(pass, settings),
        }
    }

    /// Whether a pass that this format cannot hold may be sent as JSON: nothing says that the service does not take that.
    pub(crate) fn may_be_json(&self, format: WireFormat, learned: LearnedFormats) -> bool {
        let Negotiation { pass, settings, earlier, refused, .. } = *self;
        let is_open = settings.fixed.is_none() && settings.first == WireFormat::Json && learned.format.is_none();
        let has_path = pass == Pass::ForwardBackward || !learned.lacks_forward;
        format == WireFormat::Protobuf && is_open && has_path && refused.is_none() && earlier.is_none()
    }

    /// The service has accepted the pass in this format. Returns what that shows.
    pub(crate) fn accepted(&self, format: WireFormat, learned: &mut LearnedFormats) -> Option<Lesson> {
        let before = *learned;
        match (self.refused, format, learned.takes_protobuf) {
            (Some((_, Refusal::Format)), ..) => {
                learned.format = Some(format);
                learned.lacks_forward &= self.pass.path(format) != "forward";
            }
            (_, WireFormat::Json, _) if self.failed_trial == Some(true) => learned.takes_protobuf = TakesProtobuf::No,
            (_, WireFormat::Protobuf, TakesProtobuf::Unknown | TakesProtobuf::Likely) => {
                learned.takes_protobuf = TakesProtobuf::Yes;
            }
            _ => {}
        }
        learned.lacks_forward |= matches!(self.refused, Some((_, Refusal::Path)));
        let is_first = self.settings.fixed.is_none() && *learned != before;
        match (learned.format, learned.takes_protobuf) {
            _ if !is_first => None,
            (Some(format), _) if before.format != learned.format => Some(Lesson::Only(format)),
            _ if learned.lacks_forward && !before.lacks_forward => Some(Lesson::NoForward),
            (None, TakesProtobuf::No) => Some(Lesson::NoProtobuf),
            (None, TakesProtobuf::Yes) if self.settings.first == WireFormat::Json => Some(Lesson::ProtobufToo),
            _ => None,
        }
    }

    /// Sending the pass has failed.
    pub(crate) fn failed(
        &mut self,
        sent: Choice,
        failed: &FailedPass<'_>,
        learned: &mut LearnedFormats,
    ) -> AfterRefusal {
        let Choice { format, is_trial, .. } = sent;
        if is_trial && !failed.is_cut_short && may_be_for_format(failed.status) {
            self.failed_trial = Some(failed.written);
            return AfterRefusal::OtherFormat;
        }
        let Some(status) = failed.status else { return AfterRefusal::Fail };
        let refusal = failed.refusal(self.pass, format);
        match (self.refused, refusal) {
            (None, Refusal::Format | Refusal::Path) if self.settings.fixed.is_some() => AfterRefusal::FailForFormat,
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
mod tests;
