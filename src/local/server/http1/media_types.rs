//! Media types: which wire format a header names.

use crate::rules::wire_format::WireFormat;
use crate::types::wire::protobuf;

const JSON: &str = "application/json";
/// Weights have three decimals.
const MAX_WEIGHT: u16 = 1000;

/// The format of a body of this media type: JSON unless it is protobuf.
pub(super) fn format_of(media_type: &str) -> WireFormat {
    match name(media_type).eq_ignore_ascii_case(protobuf::CONTENT_TYPE) {
        true => WireFormat::Protobuf,
        false => WireFormat::Json,
    }
}

/// The format that a client prefers which accepts these media types, by their weights (RFC 9110, 12.5.1). Protobuf only if it is
/// named: those who accept anything know JSON. Of equal weights, protobuf.
pub(super) fn preferred<'a>(accepted: impl Iterator<Item = &'a str>) -> WireFormat {
    let (mut protobuf, mut json) = (0, None::<(usize, u16)>);
    for range in accepted.flat_map(|value| value.split(',')) {
        let (name, weight) = (name(range), weight(range));
        // The most specific name counts.
        let precision = [JSON, "application/*", "*/*"].iter().position(|json| name.eq_ignore_ascii_case(json));
        if name.eq_ignore_ascii_case(protobuf::CONTENT_TYPE) {
            protobuf = weight;
        } else if let Some(precision) = precision {
            json = Some((precision, weight)).into_iter().chain(json).min_by_key(|(precision, _)| *precision);
        }
    }
    match protobuf > 0 && protobuf >= json.map_or(0, |(_, weight)| weight) {
        true => WireFormat::Protobuf,
        false => WireFormat::Json,
    }
}

/// The media type without its parameters.
fn name(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// The weight of a media type, in thousandths. A malformed one counts like none.
fn weight(media_type: &str) -> u16 {
    let parameters = media_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let mut weights = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    let weight = weights.next().and_then(|(_, weight)| weight.trim().parse::<f32>().ok());
    let weight = weight.filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or(1.0);
    (weight * f32::from(MAX_WEIGHT)).round() as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_alone_names_the_format() {
        for (media_type, is_protobuf) in [
            ("application/x-protobuf", true),
            ("Application/X-Protobuf ; charset=binary", true),
            ("application/x-protobuffer", false),
            ("application/json; note=application/x-protobuf", false),
            ("", false),
        ] {
            assert_eq!(format_of(media_type) == WireFormat::Protobuf, is_protobuf, "{media_type}");
        }
    }

    #[test]
    fn the_greater_weight_is_preferred() {
        for (accepted, is_protobuf) in [
            (&["application/x-protobuf"][..], true),
            (&["application/json, application/x-protobuf"], true),
            (&["application/json", "application/x-protobuf"], true),
            (&["APPLICATION/X-PROTOBUF;Q=0.001"], true),
            (&["application/x-protobuf;q=many"], true),
            (&["application/x-protobuf, application/json;q=0.9"], true),
            (&["application/x-protobuf;q=0.5, */*;q=0.1"], true),
            (&["application/x-protobuf;q=0.5, application/json;q=0.2, */*"], true),
            (&["*/*, application/json;q=0.2, application/x-protobuf;q=0.5"], true),
            (&["application/x-protobuf;q=0"], false),
            (&["application/x-protobuf;q=0.000, text/plain"], false),
            (&["application/json, application/x-protobuf;q=0.5"], false),
            (&["application/x-protobuf;q=0.5, */*"], false),
            (&["application/x-protobuf; v=2 ; q=0.5, application/*"], false),
            (&["*/*"], false),
            (&["application/*"], false),
            (&["application/x-protobuffer"], false),
            (&[], false),
        ] {
            let preferred = preferred(accepted.iter().copied());
            assert_eq!(preferred == WireFormat::Protobuf, is_protobuf, "{accepted:?}");
        }
    }
}
