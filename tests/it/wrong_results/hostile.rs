//! Results that are made to harm: deep, huge, of no encoding.

use tinkex::types::{AdamParams, LossFn, RequestKind};

use super::*;
use crate::support::{batch, service_with_polls};

/// What an optimizer step makes of a result with this body.
fn step(body: Vec<u8>) -> Result<Option<f64>, Error> {
    let service = with_result("optim_step", body);
    let response = trainer(&service, Wire::Json).optim_step(AdamParams::default())?;
    Ok(response.metrics.and_then(|metrics| metrics.get("norm").copied()))
}

fn nested(open: &str, close: &str, levels: usize) -> String {
    format!("{}1{}", open.repeat(levels), close.repeat(levels))
}

/// What is kept is read on the stack of a poll thread.
#[test]
fn deep_values_and_refusals_are_errors() {
    for levels in [30, 100, 127, 20_000] {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let deep = nested(open, close, levels);
            for (status, body) in [
                (200, format!(r#"{{"value": {deep}}}"#)),
                (200, format!(r#"{{"value": {deep}, "x": NaN}}"#)),
                (200, format!(r#"{{"status": "failed", "detail": {deep}}}"#)),
                (404, format!(r#"{{"detail": {deep}}}"#)),
                (409, deep.clone()),
            ] {
                let service = service_with_polls(move |_| Reply::Full {
                    status,
                    headers: vec![("content-type", "application/json".to_owned())],
                    body: body.clone().into(),
                });
                let pending = connect(service.config()).pending::<Value>("deep", RequestKind::OptimStep);
                match pending.wait() {
                    Ok(value) => assert!(levels == 30 && value["value"] != Value::Null, "{levels}"),
                    Err(error) => assert_eq!(error.request_id(), Some("deep"), "{levels}: {error}"),
                }
            }
        }
    }
}

#[test]
fn deep_nesting_never_overflows_the_stack() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let deep = nested(open, close, 20_000);
        // The word makes it a response that is read part by part.
        for norm in ["2", "NaN", "1e400", "null"] {
            let beside = format!(r#"{{"later": {deep}, "metrics": {{"norm": {norm}}}}}"#);
            assert!(step(beside.into()).unwrap().is_some(), "{norm}");
            let error = step(format!(r#"{{"metrics": {{"norm": {norm}, "deep": {deep}}}}}"#).into()).unwrap_err();
            assert_wrong(&error, "wrong-0", "optim_step", "");
        }
        // An object without metrics is a result, too.
        assert!(
            step(deep.clone().into()).map_or_else(|error| open == "[" && error.request_id().is_some(), |_| open != "[")
        );
        let error = step(format!(r#"{{"error": {deep}, "category": {deep}}}"#).into()).unwrap_err();
        assert_eq!((error.kind(), error.request_id()), (ErrorKind::RequestFailed, Some("wrong-0")));
        assert!(error.to_string().len() < 10_000, "{}", error.to_string().len());
    }
}

#[test]
fn huge_numbers_and_many_keys_are_read() {
    let digits = "9".repeat(100_000);
    assert_eq!(step(format!(r#"{{"metrics": {{"norm": {digits}}}}}"#).into()).unwrap(), Some(f64::INFINITY));
    assert_eq!(step(format!(r#"{{"metrics": {{"norm": 0.{digits}}}}}"#).into()).unwrap(), Some(1.0));
    assert_eq!(step(format!(r#"{{"metrics": {{"norm": 1e-{digits}}}}}"#).into()).unwrap(), Some(0.0));
    let keys: Vec<_> = (0..300_000).map(|key| format!(r#""{key}": 1"#)).collect();
    assert_eq!(step(format!(r#"{{{}, "metrics": {{"norm": 2}}}}"#, keys.join(",")).into()).unwrap(), Some(2.0));
    // The last of two equal keys counts for what a poll says, and serde refuses them in a result.
    assert!(step(br#"{"metrics": {"norm": 1}, "metrics": {"norm": 2}}"#.to_vec()).is_err());
}

#[test]
fn bytes_of_no_encoding_are_errors() {
    for body in [b"{\"metrics\": {\"n\xff\": 1}}".to_vec(), b"{\"metrics\": {\"\\ud800\": 1}}".to_vec()] {
        match step(body.clone()) {
            Err(error) => assert_wrong(&error, "wrong-0", "optim_step", ""),
            Ok(norm) => panic!("{body:?} is {norm:?}"),
        }
    }
}

#[test]
fn a_failure_with_control_characters_is_one_line() {
    let long = "x".repeat(1_000_000);
    for error in [r"a\u001b[31m\nb\r\u0000c", &long] {
        let error = step(format!(r#"{{"error": "{error}", "category": "user"}}"#).into()).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.len() < 20_000 && !text.contains(['\u{1b}', '\r', '\0']), "{}", text.len());
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn protobuf_that_is_none_is_an_error() {
    let bodies: [(&[u8], &str); 6] = [
        (b"", "0 outputs for 1 datums"),
        (b"{\"error\": \"no\"}", "the content-type says protobuf"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "not valid"),
        (b"\x12\xff\xff\xff\xff\x0f", "not valid"),
        (b"\x0a\x02\xff\xfe", "not valid"),
        (b"<html>", "not valid"),
    ];
    for (body, why) in bodies {
        let service = with_bodies(move |request| (request.path == "forward").then(|| protobuf_body(body.to_vec())));
        let client = connect(service.config());
        let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
        let error = trainer.forward(batch(), LossFn::CrossEntropy).unwrap_err();
        assert_wrong(&error, "wrong-0", "forward", why);
    }
}

#[cfg(feature = "gzip")]
#[test]
fn a_gzip_bomb_ends_at_the_limit() {
    use std::io::Write;

    // 64 MB in 64 kB.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(br#"{"metrics": {"norm": 1}, "later": ""#).unwrap();
    for _ in 0..64 {
        bomb.write_all(&vec![b'0'; 1 << 20]).unwrap();
    }
    bomb.write_all(br#""}"#).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 100_000);
    let headers = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let headers = headers.map(|(name, value)| (name, value.to_owned()));
    let reply = move || Reply::Full { status: 200, headers: headers.clone().into(), body: bomb.clone() };
    let service = with_bodies(move |request| (request.path == "optim_step").then(&reply));
    let client = connect(service.config().max_response_bytes(1 << 20));
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let error = trainer.optim_step(AdamParams::default()).unwrap_err();
    assert_eq!((error.kind(), error.request_id()), (ErrorKind::Decode, Some("wrong-0")), "{error}");
    assert!(error.to_string().contains("larger than 1048576 bytes") && error.may_have_taken_effect(), "{error}");
}
