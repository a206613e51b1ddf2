//! The tokenizers' files of the models as the Hugging Face hub has them, so that any program for the hub finds them with
//! `HF_ENDPOINT`: files with their digests as entity tags, and what is listed of a repository.
//!
//! They need no API key unless the server checks keys; then `x-api-key` or `authorization: Bearer`, as `HF_TOKEN` is sent, has it.

use serde_json::json;

use super::call::{ApiContext, HandlerOutcome, HandlerResult, ok};
use crate::local::server::http1::{Request, Response};
use crate::local::server::path_segment;
use crate::local::server::tokenizer_packages::ServedPackage;

/// The name of the only revision.
const MAIN: &str = "main";
const LISTINGS: &str = "/api/models/";

/// What a path asks of a repository.
#[derive(Debug, PartialEq)]
struct HubPath {
    id: String,
    revision: String,
    what: Wanted,
}

#[derive(Debug, PartialEq)]
enum Wanted {
    /// A file.
    File(String),
    /// The description of the repository.
    Description,
    /// The files in a folder, which is empty for the uppermost one.
    Folder(String),
}

/// Responds to a request whose path is one of the hub's; `None` for any other path. The paths of Tinker's API are not for it: a
/// checkpoint may be named `resolve`.
pub(super) fn handle(context: &ApiContext, request: &Request) -> Option<HandlerResult> {
    HubPath::parse(&request.path).map(|path| respond(context, request, &path))
}

fn respond(context: &ApiContext, request: &Request, path: &HubPath) -> HandlerResult {
    if !matches!(&*request.method, "GET" | "HEAD") {
        return Err(Response::error(405, "Method Not Allowed"));
    }
    if context.key_check.is_some() {
        let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        context.authenticate(request.header("x-api-key").or(bearer).unwrap_or_default())?;
    }
    let mut packages = context.state.tokenizers.with_id(&path.id).peekable();
    if packages.peek().is_none() {
        return Err(missing("RepoNotFound", &format!("there is no tokenizer {:?}", path.id)));
    }
    let has_revision = |served: &&ServedPackage| [MAIN, &served.revision].contains(&&*path.revision);
    let served = packages.find(has_revision).ok_or_else(|| {
        missing("RevisionNotFound", &format!("the tokenizer {} has no revision {:?}", path.id, path.revision))
    })?;
    match &path.what {
        Wanted::File(name) => file(request, served, name),
        Wanted::Description => {
            let siblings: Vec<_> = served.package.files.keys().map(|name| json!({ "rfilename": name })).collect();
            ok(&json!({
                "id": path.id, "modelId": path.id, "sha": served.revision, "private": false, "disabled": false,
                "gated": false, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings,
            }))
        }
        Wanted::Folder(folder) if folder.is_empty() => {
            let entry = |(name, digest): (&String, &String)| {
                let size = served.file(name).map_or(0, <[u8]>::len);
                json!({ "type": "file", "path": name, "oid": &digest[..40], "size": size })
            };
            ok(&served.package.files.iter().map(entry).collect::<Vec<_>>())
        }
        Wanted::Folder(folder) => Err(no_file(served, folder)),
    }
}

/// A file, or the part of it that a `range` names.
fn file(request: &Request, served: &ServedPackage, name: &str) -> HandlerResult {
    let (content, digest) =
        served.file(name).zip(served.package.files.get(name)).ok_or_else(|| no_file(served, name))?;
    let length = content.len();
    let response = match request.header("range").and_then(|range| byte_range(range, length)) {
        None => Response::new(200, content),
        Some(Ok((first, last))) => {
            Response::new(206, &content[first..=last]).header("content-range", format!("bytes {first}-{last}/{length}"))
        }
        Some(Err(())) => Response::error(416, &format!("{name} has {length} bytes"))
            .header("content-range", format!("bytes */{length}")),
    };
    let media_type = if name.ends_with(".json") { "application/json" } else { "application/octet-stream" };
    let response = response
        .header("content-type", media_type)
        .header("etag", format!("\"{digest}\""))
        .header("accept-ranges", "bytes")
        .header("x-repo-commit", &served.revision);
    Ok(HandlerOutcome::Respond(response))
}

/// The first and the last byte that a `range` header names, of a content of this length. `None` for forms that a server may ignore
/// (RFC 9110, section 14.2), an error for a range beyond the end.
fn byte_range(header: &str, length: usize) -> Option<Result<(usize, usize), ()>> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let first: usize = first.parse().ok()?;
    let last = if last.is_empty() { usize::MAX } else { last.parse().ok()? };
    if first > last {
        return None;
    }
    Some(if first < length { Ok((first, last.min(length - 1))) } else { Err(()) })
}

fn no_file(served: &ServedPackage, name: &str) -> Response {
    let files: Vec<_> = served.package.files.keys().map(String::as_str).collect();
    missing("EntryNotFound", &format!("the tokenizer {} has no {name:?}, but {}", served.package.id, files.join(", ")))
}

/// Programs for the hub tell what is missing by a header.
fn missing(code: &'static str, detail: &str) -> Response {
    Response::error(404, detail).header("x-error-code", code)
}

impl HubPath {
    /// `/{id}/resolve/{revision}/{file}`, and below `/api/models`: `/{id}`, `/{id}/revision/{revision}` and
    /// `/{id}/tree/{revision}/{folder}`. An id and a folder may have several segments.
    fn parse(path: &str) -> Option<HubPath> {
        let (is_listing, rest) = match path.strip_prefix(LISTINGS) {
            Some(rest) => (true, rest),
            None => (false, path.strip_prefix('/')?),
        };
        let segments: Vec<&str> = rest.split('/').collect();
        let verbs: &[&str] = if is_listing { &["revision", "tree"] } else { &["resolve"] };
        let decoded = |segments: &[&str]| {
            let segments: Option<Vec<String>> = segments.iter().map(|segment| path_segment::decode(segment)).collect();
            segments.map(|segments| segments.join("/"))
        };
        let Some(verb) = segments.iter().skip(1).position(|segment| verbs.contains(segment)).map(|skipped| skipped + 1)
        else {
            let whole = HubPath { id: decoded(&segments)?, revision: MAIN.to_owned(), what: Wanted::Description };
            return is_listing.then_some(whole);
        };
        let (id, revision) = (decoded(&segments[..verb])?, decoded(segments.get(verb + 1..=verb + 1)?)?);
        let rest = decoded(&segments[verb + 2..])?;
        let what = match segments[verb] {
            "resolve" => Wanted::File(rest),
            "tree" => Wanted::Folder(rest),
            _ => Wanted::Description,
        };
        Some(HubPath { id, revision, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_hub_are_told_apart() {
        let path =
            |id: &str, revision: &str, what| Some(HubPath { id: id.to_owned(), revision: revision.to_owned(), what });
        let file = |name: &str| Wanted::File(name.to_owned());
        for (text, expected) in [
            ("/smollm2/resolve/main/tokenizer.json", path("smollm2", "main", file("tokenizer.json"))),
            ("/a/b/resolve/refs%2Fpr%2F1/x.json", path("a/b", "refs/pr/1", file("x.json"))),
            ("/a%2Fb/resolve/main/a%20b", path("a/b", "main", file("a b"))),
            ("/a/resolve/main/folder/file", path("a", "main", file("folder/file"))),
            ("/a/resolve/main", path("a", "main", file(""))),
            ("/api/models/a/b", path("a/b", "main", Wanted::Description)),
            ("/api/models/a/b/revision/0123", path("a/b", "0123", Wanted::Description)),
            ("/api/models/a/tree/main", path("a", "main", Wanted::Folder(String::new()))),
            ("/api/models/a/tree/main/more", path("a", "main", Wanted::Folder("more".to_owned()))),
            ("/api/models/resolve/resolve", path("resolve/resolve", "main", Wanted::Description)),
            ("/resolve/main/tokenizer.json", None),
            ("/a/resolve", None),
            ("/a/%zz/resolve/main/x", None),
            ("/api/v1/healthz", None),
            ("/v1/models", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(HubPath::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn ranges_end_with_the_content() {
        for (header, expected) in [
            ("bytes=0-0", Some(Ok((0, 0)))),
            ("bytes=2-", Some(Ok((2, 9)))),
            ("bytes=2-99", Some(Ok((2, 9)))),
            ("bytes=10-", Some(Err(()))),
            ("bytes=5-4", None),
            ("bytes=-3", None),
            ("bytes=0-1,3-4", None),
            ("items=0-1", None),
        ] {
            assert_eq!(byte_range(header, 10), expected, "{header}");
        }
        assert_eq!(byte_range("bytes=0-0", 0), Some(Err(())));
    }
}
