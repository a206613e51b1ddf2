//! The program's log, on stderr.

use env_logger::{Builder, Env, Logger};
use log::{Level, Log, Metadata, Record};

/// Starts the log, filtered by TINKER_LOG or else this.
pub(crate) fn start(default_filter: &str) {
    let logger = Builder::from_env(Env::new().filter_or("TINKER_LOG", default_filter)).build();
    log::set_max_level(logger.filter());
    // Fails only if there is a logger already.
    let _ = log::set_boxed_logger(Box::new(WithoutTraffic(logger)));
}

/// Leaves out what ureq logs at trace: the bytes that it receives, and URLs. There may be tokens among them.
struct WithoutTraffic(Logger);

impl Log for WithoutTraffic {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !(metadata.level() == Level::Trace && metadata.target().starts_with("ureq")) && self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}
