//! What to do when the system has no more of something: space on a disk, threads, files.

use std::io;

/// The hint for an error of the system, if it is clear what it means. For files: connections have rules of their own.
pub(crate) fn hint(error: &io::Error) -> Option<&'static str> {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    Some(match error.kind() {
        StorageFull => "free space on this disk, or use a path on another one",
        QuotaExceeded => "free space within the quota of this user, or use a path on another disk",
        FileTooLarge => "raise the limit of the size of files (ulimit -f), or use a path on another disk",
        ReadOnlyFilesystem => "use a path on a file system that can be written",
        _ if is_out_of_files(error) => "raise the limit of open files (ulimit -n)",
        _ => return None,
    })
}

/// The same where threads or processes are started. Elsewhere, the error that says there are no more of them has another meaning.
pub(crate) fn start_hint(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Some("raise the limit of threads (ulimit -u) or of memory (ulimit -v)"),
        _ => hint(error),
    }
}

/// EMFILE or ENFILE, which have no kind.
fn is_out_of_files(error: &io::Error) -> bool {
    cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24))
}

#[cfg(test)]
mod tests {
    use super::super::{Error, ErrorKind};
    use super::*;

    #[test]
    fn an_exhausted_system_gives_the_hint() {
        let error = |source: io::Error| Error::new(ErrorKind::Io, "x").with_source(source);
        for (source, words) in [
            (io::ErrorKind::StorageFull.into(), "free space"),
            (io::ErrorKind::QuotaExceeded.into(), "quota"),
            (io::ErrorKind::FileTooLarge.into(), "ulimit -f"),
            (io::ErrorKind::ReadOnlyFilesystem.into(), "can be written"),
            #[cfg(unix)]
            (io::Error::from_raw_os_error(24), "ulimit -n"),
        ] {
            let error = error(source);
            assert!(error.hint().unwrap().contains(words), "{error}");
            assert_eq!(error.with_hint("z").hint(), Some("z"));
        }
        assert_eq!(error(io::ErrorKind::NotFound.into()).hint(), None);
        assert_eq!(error(io::ErrorKind::WouldBlock.into()).hint(), None, "it may be a write");
        for (kind, words) in [(io::ErrorKind::WouldBlock, "ulimit -u"), (io::ErrorKind::StorageFull, "free space")] {
            assert!(start_hint(&kind.into()).unwrap().contains(words), "{kind}");
        }
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(Error::new(ErrorKind::Io, "x").with_hint("z").with_source(full()).hint(), Some("z"));
        assert_eq!(Error::new(ErrorKind::Decode, "x").with_source(full()).hint(), None, "that of another kind");
    }
}
