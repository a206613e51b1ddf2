//! The log of the library, for the program's callback or stderr.

use std::ffi::{c_char, c_void};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{PoisonError, RwLock};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::border::{self, Caller};
use crate::error::{Error, Status};

/// `tinkex_log_function`.
pub type LogFunction = Option<
    unsafe extern "C-unwind" fn(context: *mut c_void, level: i32, target: *const c_char, message: *const c_char),
>;

#[derive(Clone, Copy)]
struct Sink {
    function: LogFunction,
    context: *mut c_void,
}

// SAFETY: the header asks for a function and a context that any thread may use.
unsafe impl Send for Sink {}
// SAFETY: as above.
unsafe impl Sync for Sink {}

struct Logger(RwLock<Sink>);

static LOGGER: Logger = Logger(RwLock::new(Sink { function: None, context: std::ptr::null_mut() }));

fn number(level: Level) -> i32 {
    match level {
        Level::Error => 1,
        Level::Warn => 2,
        Level::Info => 3,
        Level::Debug => 4,
        Level::Trace => 5,
    }
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // Not held while the program's function runs: it may log, or set another function.
        let Sink { function, context } = *self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(function) = function else {
            // A stderr that cannot be written to is no reason to fail.
            writeln!(io::stderr().lock(), "{} {}: {}", record.level(), record.target(), record.args()).ok();
            return;
        };
        let (target, message) = (border::c_text(record.target()), border::c_text(&record.args().to_string()));
        // SAFETY: the program gave a function of this type, and a context for it that lives as long as the process.
        let write = || unsafe { function(context, number(record.level()), target.as_ptr(), message.as_ptr()) };
        catch_unwind(AssertUnwindSafe(write)).ok();
    }

    fn flush(&self) {}
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn tinkex_set_log(
    level: i32,
    function: LogFunction,
    context: *mut c_void,
    error: *mut *mut Error,
) -> Status {
    let set = |_: Caller| {
        let filter = usize::try_from(level).ok().and_then(|level| LevelFilter::iter().nth(level));
        let filter = filter.ok_or_else(|| Error::invalid(format!("level is {level}; it must be between 0 and 5")))?;
        *LOGGER.0.write().unwrap_or_else(PoisonError::into_inner) = Sink { function, context };
        // Fails if it is set already, be it by an earlier call.
        log::set_logger(&LOGGER).ok();
        log::set_max_level(filter);
        Ok(())
    };
    // SAFETY: the header says what the pointers are.
    unsafe { border::call(error, set) }
}
