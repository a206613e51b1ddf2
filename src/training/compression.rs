//! Compresses the bodies of passes for services that ask for it.

use crate::error::Result;

/// The body as one zstd frame, with its size in the header, and the name of the compression.
#[cfg(feature = "zstd")]
pub(super) fn compressed(body: Vec<u8>) -> Result<(Vec<u8>, Option<&'static str>)> {
    use crate::error::{Error, ErrorKind};
    let frame = zstd::bulk::compress(&body, zstd::DEFAULT_COMPRESSION_LEVEL);
    let failed = |error| Error::new(ErrorKind::Io, "the request cannot be compressed").with_source(error);
    Ok((frame.map_err(failed)?, Some("zstd")))
}

/// The body as it is: this build cannot compress it.
#[cfg(not(feature = "zstd"))]
pub(super) fn compressed(body: Vec<u8>) -> Result<(Vec<u8>, Option<&'static str>)> {
    static TOLD: std::sync::Once = std::sync::Once::new();
    TOLD.call_once(|| {
        log::info!("the service takes compressed batches; a build with the feature `zstd` would send them that way");
    });
    Ok((body, None))
}
