//! Compressed bodies.

use std::io::Read;

use super::{Request, Response};

/// Replaces a compressed body by what it contains, which may have at most `max_body` bytes: 413 if it has more, 415 for
/// another encoding than zstd, 400 for damaged content. On failure the body stays as it is.
pub(crate) fn decode_content(request: &mut Request, max_body: usize) -> Result<(), Response> {
    match request.header("content-encoding").map(str::to_ascii_lowercase).as_deref() {
        None | Some("" | "identity") => Ok(()),
        Some("zstd") => {
            request.body = decompress(&request.body, max_body)?;
            Ok(())
        }
        Some(other) => Err(Response::error(
            415,
            &format!("the content-encoding {other:?} is not supported: send zstd, or no content-encoding"),
        )),
    }
}

/// The content of zstd frames.
fn decompress(frames: &[u8], max_body: usize) -> Result<Vec<u8>, Response> {
    let damaged =
        |error| Response::error(400, &format!("the body is no zstd frame, as content-encoding says: {error}"));
    let mut content = Vec::new();
    // One byte more than allowed, which shows that there is more.
    let mut decoder = zstd::Decoder::with_buffer(frames).map_err(damaged)?.take((max_body as u64).saturating_add(1));
    decoder.read_to_end(&mut content).map_err(damaged)?;
    match content.len() > max_body {
        true => Err(Response::error(413, &format!("the body is longer than {max_body} bytes when decompressed"))),
        false => Ok(content),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(encoding: &str, body: Vec<u8>) -> Request {
        Request {
            method: "POST".to_owned(),
            path: String::new(),
            query: String::new(),
            headers: vec![("content-encoding".to_owned(), encoding.to_owned())],
            body,
            keep_alive: true,
            takes_chunks: true,
        }
    }

    fn frame(content: &[u8]) -> Vec<u8> {
        zstd::encode_all(content, 0).unwrap()
    }

    #[test]
    fn only_zstd_within_the_limit_is_decoded() {
        let (content, most) = (b"some content".as_slice(), 12);
        for (encoding, body, expected) in [
            ("zstd", frame(content), Ok(content)),
            ("ZSTD", frame(content), Ok(content)),
            ("zstd", [frame(b"some "), frame(b"content")].concat(), Ok(content)),
            ("zstd", frame(b""), Ok(b"".as_slice())),
            ("identity", content.to_vec(), Ok(content)),
            ("", content.to_vec(), Ok(content)),
            ("zstd", frame(b"some contents"), Err(413)),
            ("zstd", frame(&[0; 1 << 20]), Err(413)),
            ("zstd", content.to_vec(), Err(400)),
            ("zstd", Vec::new(), Err(400)),
            ("zstd", frame(content)[..10].to_vec(), Err(400)),
            ("gzip", content.to_vec(), Err(415)),
            ("zstd, gzip", content.to_vec(), Err(415)),
        ] {
            let mut request = request(encoding, body);
            let decoded = decode_content(&mut request, most);
            let decoded = decoded.map(|()| request.body.as_slice()).map_err(|response| response.status);
            assert_eq!(decoded, expected, "{encoding:?}");
        }
    }
}
