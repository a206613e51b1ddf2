//! Requests of clients, as a server reads them.

use crate::local::server::http1::{Parsed, Parser, decode_content};

/// The longest body, in bytes, also when it is decompressed.
const MAX_BODY: usize = 1 << 16;

/// The requests of a connection, up to what is none. It does not matter in which pieces they come.
pub(super) fn http_requests(bytes: &[u8]) -> bool {
    let read = |parts: &[&[u8]]| {
        let (mut parser, mut requests) = (Parser::new(MAX_BODY), Vec::new());
        for part in parts {
            parser.push(part);
            loop {
                match parser.next() {
                    Ok(Some(Parsed::Request(request))) => requests.push(request),
                    Ok(Some(Parsed::ExpectContinue)) => {}
                    Ok(None) => break,
                    Err(_) => return (requests, true),
                }
            }
        }
        (requests, false)
    };
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let (mut requests, is_refused) = read(&[bytes]);
    assert_eq!(format!("{:?}", read(&[first, second])), format!("{:?}", (&requests, is_refused)));
    for request in &mut requests {
        if decode_content(request, MAX_BODY).is_ok() {
            assert!(request.body.len() <= MAX_BODY, "{}", request.body.len());
        }
    }
    !requests.is_empty()
}

/// Requests for answers, of both endpoints.
#[cfg(feature = "pretrained")]
pub(super) fn openai_requests(bytes: &[u8]) -> bool {
    use crate::local::openai::Request;

    let requests = [Request::chat(bytes), Request::completion(bytes)];
    for refusal in requests.iter().filter_map(|request| request.as_ref().err()) {
        assert!(refusal.to_json()["error"]["message"].is_string(), "{refusal:?}");
    }
    requests.iter().any(Result::is_ok)
}
