use std::time::SystemTime;

use super::parser::{MAX_HEAD, MAX_HEADERS};
use super::*;

type Summary = (String, String, Vec<u8>);

/// Feeds the bytes in pieces of `size`; returns the requests and the status of the first error.
fn parse(bytes: &[u8], size: usize) -> (Vec<Summary>, Option<u16>) {
    let mut parser = Parser::new(20);
    let mut requests = Vec::new();
    for piece in bytes.chunks(size) {
        parser.push(piece);
        loop {
            match parser.next() {
                Ok(None) => break,
                Ok(Some(Parsed::ExpectContinue)) => {}
                Ok(Some(Parsed::Request(request))) => requests.push((request.method, request.path, request.body)),
                Err(error) => return (requests, Some(error.status)),
            }
        }
    }
    (requests, None)
}

#[test]
fn parsing_does_not_depend_on_chunk_boundaries() {
    let bytes = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n\
        POST /d HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\
        POST /e HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nT: t\r\n\r\n\
        POST /f HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let expected = [("GET", "/a", ""), ("POST", "/d", "abc"), ("POST", "/e", "abc"), ("POST", "/f", "")]
        .map(|(method, path, body)| (method.to_owned(), path.to_owned(), body.as_bytes().to_vec()));
    for size in 1..bytes.len() {
        assert_eq!(parse(bytes, size), (expected.to_vec(), None), "pieces of {size}");
    }
}

#[test]
fn bad_requests_are_rejected_with_their_status() {
    let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(MAX_HEAD));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS + 1));
    for (bytes, status) in [
        ("nonsense\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\na", 400),
        ("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        ("POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nContent-Length: 21\r\n\r\n", 413),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n15\r\n", 413),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", 413),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", 400),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc", 400),
        (&long, 431),
        (&many, 431),
    ] {
        assert_eq!(parse(bytes.as_bytes(), 4096), (Vec::new(), Some(status)), "{}", &bytes[..bytes.len().min(90)]);
    }
}

#[test]
fn long_lines_of_chunks_are_refused_also_whole() {
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let extension = format!("{head}1;{}\r\na\r\n0\r\n\r\n", "x".repeat(1024));
    let trailer = format!("{head}0\r\nt: {}\r\n\r\n", "x".repeat(MAX_HEAD));
    for (bytes, status) in [(extension, 400), (trailer, 431)] {
        for size in [100, bytes.len()] {
            assert_eq!(parse(bytes.as_bytes(), size), (Vec::new(), Some(status)), "{status} in pieces of {size}");
        }
    }
}

#[test]
fn expect_100_continue_is_reported() {
    let mut parser = Parser::new(20);
    parser.push(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
    assert!(matches!(parser.next(), Ok(Some(Parsed::ExpectContinue))));
    assert!(matches!(parser.next(), Ok(None)));
    parser.push(b"x");
    assert!(matches!(parser.next(), Ok(Some(Parsed::Request(request))) if request.body == b"x"));
}

#[test]
fn keep_alive_follows_the_version_and_the_header() {
    for (head, expected) in [
        ("GET / HTTP/1.1\r\n", true),
        ("GET / HTTP/1.0\r\n", false),
        ("GET / HTTP/1.1\r\nConnection: Close\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n", true),
    ] {
        let mut parser = Parser::new(20);
        parser.push(format!("{head}\r\n").as_bytes());
        let Ok(Some(Parsed::Request(request))) = parser.next() else { panic!("{head:?}") };
        assert_eq!((request.keep_alive, request.takes_chunks), (expected, head.contains("HTTP/1.1")), "{head:?}");
    }
}

#[test]
fn response_head_has_date_length_and_type_once() {
    let response = Response { headers: vec![("Content-Type".into(), "text/plain".into())], ..Response::new(200, "ab") };
    assert_eq!(
        String::from_utf8(response.head(false, SystemTime::UNIX_EPOCH)).unwrap(),
        "HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: text/plain\r\n\
         content-length: 2\r\nconnection: close\r\n\r\n"
    );
}
