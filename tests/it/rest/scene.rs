//! A service that redirects to a storage on another origin, archives to serve from there, and a directory to download to.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tar::{EntryType, Header};
use tempfile::{TempDir, tempdir};
use tinkex::{ConfigBuilder, RestClient};

use crate::support::{RecordedRequest, Reply, Service};

/// The secret part of a link.
pub const SIGNATURE: &str = "Sig7Hidden";

/// A directory that is removed on drop.
pub struct Directory(TempDir);

impl Directory {
    pub fn new() -> Self {
        Directory(tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// All files and directories, hidden ones too, with the files' contents.
    pub fn tree(&self) -> BTreeMap<String, Option<Vec<u8>>> {
        let mut tree = BTreeMap::new();
        let mut folders = vec![self.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(self.path()).unwrap().to_str().unwrap().to_owned();
                if path.is_dir() {
                    tree.insert(name, None);
                    folders.push(path);
                } else {
                    tree.insert(name, Some(fs::read(path).unwrap()));
                }
            }
        }
        tree
    }
}

/// A tar member of any name and kind.
pub fn member(name: &[u8], kind: EntryType, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    if matches!(kind, EntryType::Symlink | EntryType::Link) {
        header.set_link_name("/etc/passwd").unwrap();
    }
    header.set_cksum();
    let padding = vec![0; content.len().next_multiple_of(512) - content.len()];
    [header.as_bytes(), content, &padding].concat()
}

pub fn file(name: &str, content: &[u8]) -> Vec<u8> {
    member(name.as_bytes(), EntryType::Regular, content)
}

pub fn tar(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Incompressible bytes.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A checkpoint of two files and a directory.
pub fn archive() -> Vec<u8> {
    static ARCHIVE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        gzip(&tar(&[
            file("adapter_config.json", b"{}"),
            member(b"sub/", EntryType::Directory, b""),
            file("sub/adapter_model.safetensors", &noise(300_000)),
        ]))
    });
    ARCHIVE.clone()
}

/// The content of [`archive`], below a directory with this name.
pub fn unpacked(name: &str) -> BTreeMap<String, Option<Vec<u8>>> {
    BTreeMap::from([
        (name.to_owned(), None),
        (format!("{name}/adapter_config.json"), Some(b"{}".to_vec())),
        (format!("{name}/sub"), None),
        (format!("{name}/sub/adapter_model.safetensors"), Some(noise(300_000))),
    ])
}

/// A service that redirects all requests to a storage, and the storage.
pub struct Scene {
    pub service: Service,
    pub storage: Service,
    pub directory: Directory,
}

impl Scene {
    /// `storage` makes the storage's responses; it gets the number of the request, from 0.
    pub fn new(storage: impl Fn(usize, &RecordedRequest) -> Reply + Send + Sync + 'static) -> Self {
        Scene::with(|_| None, storage)
    }

    /// `before` may make the service's response to the request with this number, from 0, in place of the redirect.
    pub fn with(
        before: impl Fn(usize) -> Option<Reply> + Send + Sync + 'static,
        storage: impl Fn(usize, &RecordedRequest) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let downloads = AtomicUsize::new(0);
        let storage = Service::start(move |request| storage(downloads.fetch_add(1, Ordering::SeqCst), request));
        let (url, requests) = (storage.url(), AtomicUsize::new(0));
        let service = Service::start(move |_| {
            let number = requests.fetch_add(1, Ordering::SeqCst);
            let link = format!("{url}/archive-{number}?sig={SIGNATURE}");
            before(number).unwrap_or_else(|| Reply::with_headers(302, &[("location", &link)], &json!(null)))
        });
        Scene { service, storage, directory: Directory::new() }
    }

    pub fn config(&self) -> ConfigBuilder {
        self.service.config().retry_base(std::time::Duration::from_millis(1)).max_retries(2)
    }

    pub fn rest(&self) -> RestClient {
        RestClient::new(self.config().build_with(|_| None).unwrap()).unwrap()
    }

    /// The destination of a download.
    pub fn out(&self) -> PathBuf {
        self.directory.join("out")
    }
}

/// A complete response with an entity tag.
pub fn whole(bytes: Vec<u8>, tag: &str) -> Reply {
    Reply::Full { status: 200, headers: vec![("etag", tag.to_owned())], body: bytes }
}

/// A response that announces this many bytes and is truncated after these.
pub fn cut(status: &str, headers: &str, announced: usize, bytes: &[u8]) -> Reply {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {announced}\r\n{headers}\r\n");
    Reply::Raw([head.as_bytes(), bytes].concat())
}
