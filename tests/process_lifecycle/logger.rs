//! A logger that tests hook into.

use super::*;

/// Does something when a line with a certain text is logged, on the thread that logs it.
pub(super) fn on_log(text: &'static str, run: impl FnOnce() + Send + 'static) {
    LOGGER.1.call_once(|| {
        log::set_logger(&LOGGER).unwrap();
        log::set_max_level(log::LevelFilter::Debug);
    });
    LOGGER.0.lock().unwrap().push((text, Box::new(run)));
}

type Hooks = Mutex<Vec<(&'static str, Box<dyn FnOnce() + Send>)>>;

struct Logger(Hooks, Once);

static LOGGER: Logger = Logger(Mutex::new(Vec::new()), Once::new());

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("tinkex")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = record.args().to_string();
            let mut hooks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let place = hooks.iter().position(|(text, _)| line.contains(text));
            let hook = place.map(|place| hooks.swap_remove(place));
            drop(hooks);
            if let Some((_, run)) = hook {
                run();
            }
        }
    }

    fn flush(&self) {}
}
