//! The checks so far, and how they are printed.

use std::fmt;
use std::io;

use serde::Serialize;
use tinkex::{ConnectionFault, Error};

use crate::failure::Failure;
use crate::output::Table;
use crate::text::one_line;

pub(super) const EXIT_CODES: &str = "\
Exit codes of `doctor`, by the first check that failed:
  0    none
  1    clock or tokenizer
  2    url: it or another setting is invalid
  3    dns: the host name has no address
  4    connection: the service cannot be reached
  5    proxy: it cannot be reached, or refuses to connect
  6    tls: the certificate, or no TLS on this port
  7    key or access: there is no key, or the service rejects it
  8    server: the service does not respond as a Tinker service
  9    limit: this process may open no further file, or start no further thread";

/// What is at fault if this process is short of something, whichever check failed for it.
pub(super) const LIMIT: &str = "limit";

/// The exit code if this check is the first that failed.
pub(super) fn exit_code(check: &str) -> u8 {
    match check {
        "url" => 2,
        "dns" => 3,
        "connection" => 4,
        "proxy" => 5,
        "tls" => 6,
        "key" | "access" => 7,
        "server" => 8,
        LIMIT => 9,
        _ => 1,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Ok,
    Failed,
    Skipped,
}

#[derive(Debug, Serialize)]
pub(super) struct Check {
    check: &'static str,
    status: Status,
    detail: String,
    /// What to do about it.
    hint: Option<String>,
    /// Whether only a limit of this process is known to be at fault.
    #[serde(skip)]
    is_limit: bool,
}

/// How a check ends without passing.
#[derive(Debug)]
pub(super) enum NotPassed {
    Failed { detail: String, hint: String, is_limit: bool },
    Skipped(String),
}

pub(super) fn failed<T>(detail: impl Into<String>, hint: impl Into<String>) -> Result<T, NotPassed> {
    Err(NotPassed::Failed { detail: detail.into(), hint: hint.into(), is_limit: false })
}

/// The request of a check failed.
pub(super) fn failed_request<T>(error: &Error, hint: impl Into<String>) -> Result<T, NotPassed> {
    let is_limit = error.connection_fault() == Some(ConnectionFault::LocalLimit);
    let failure = Failure::from(error.clone());
    let hint = if is_limit { failure.hint_text().to_owned() } else { hint.into() };
    Err(NotPassed::Failed { detail: failure.message().to_owned(), hint, is_limit })
}

/// Fails for a limit of this process.
pub(super) fn limited<T>(why: &io::Error) -> Result<T, NotPassed> {
    let hint = "raise the limit of open files (ulimit -n) and of memory (ulimit -v)".to_owned();
    Err(NotPassed::Failed { detail: why.to_string(), hint, is_limit: true })
}

pub(super) fn skipped<T>(why: impl Into<String>) -> Result<T, NotPassed> {
    Err(NotPassed::Skipped(why.into()))
}

/// The checks so far. After a failed one, all further ones are skipped, since they would fail for the same reason; but most of
/// them need no key.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) ok: bool,
    checks: Vec<Check>,
}

impl Report {
    pub(super) fn new() -> Self {
        Report { ok: true, checks: Vec::new() }
    }

    /// Runs a check, which returns a value for later checks and a detail to print. `None` if it fails or is skipped.
    pub(super) fn check<T>(
        &mut self,
        check: &'static str,
        run: impl FnOnce() -> Result<(T, String), NotPassed>,
    ) -> Option<T> {
        let needs_key = matches!(check, "access" | "tokenizer");
        let failed_check = self.failed_checks().find(|failed| needs_key || *failed != "key");
        let result = match failed_check {
            Some(failed_check) => skipped(format!("not checked, since {failed_check} failed")),
            None => run(),
        };
        let (value, status, detail, hint, is_limit) = match result {
            Ok((value, detail)) => (Some(value), Status::Ok, detail, None, false),
            Err(NotPassed::Failed { detail, hint, is_limit }) => (None, Status::Failed, detail, Some(hint), is_limit),
            Err(NotPassed::Skipped(why)) => (None, Status::Skipped, why, None, false),
        };
        self.ok &= status != Status::Failed;
        self.checks.push(Check { check, status, detail, hint, is_limit });
        value
    }

    /// What is at fault: the first check that failed, or a limit of this process.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let check = self.checks.iter().find(|check| check.status == Status::Failed)?;
        Some(if check.is_limit { LIMIT } else { check.check })
    }

    pub(super) fn failed_checks(&self) -> impl Iterator<Item = &'static str> {
        self.checks.iter().filter(|check| check.status == Status::Failed).map(|check| check.check)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = if self.ok { "All checks passed" } else { "A check failed" };
        let mut table = Table::new(title, ["Check", "Status", "Detail"]);
        for check in &self.checks {
            let status = match check.status {
                Status::Ok => "ok",
                Status::Failed => "failed",
                Status::Skipped => "skipped",
            };
            table.row([check.check, status, &check.detail]);
        }
        table.fmt(f)?;
        let hints = self.checks.iter().filter_map(|check| Some((check.check, check.hint.as_ref()?)));
        hints
            .filter(|(_, hint)| !hint.is_empty())
            .try_for_each(|(check, hint)| write!(f, "\n{check}: {}", one_line(hint)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_skips_the_others() {
        let mut report = Report::new();
        assert_eq!(report.check("a", || Ok((1, "fine".into()))), Some(1));
        assert_eq!(report.check("b", || skipped::<((), _)>("not here")), None);
        assert!(report.ok);
        assert_eq!(report.check("c", || failed::<((), _)>("broken", "repair it")), None);
        assert_eq!(report.check("d", || -> Result<((), _), _> { unreachable!("the check ran") }), None);
        assert!(!report.ok);
        let statuses: Vec<_> = report.checks.iter().map(|check| (check.check, check.status)).collect();
        let expected = [("a", Status::Ok), ("b", Status::Skipped), ("c", Status::Failed), ("d", Status::Skipped)];
        assert_eq!(statuses, expected);
        assert_eq!(report.checks[3].detail, "not checked, since c failed");
        assert_eq!(report.failed_checks().collect::<Vec<_>>(), ["c"]);
        assert_eq!(report.fault(), Some("c"));
    }

    #[test]
    fn a_limit_is_at_fault_whichever_check_failed() {
        let mut report = Report::new();
        assert_eq!(report.fault(), None);
        assert_eq!(report.check("dns", || limited::<((), _)>(&io::Error::from_raw_os_error(24))), None);
        assert_eq!((report.fault(), exit_code(LIMIT)), (Some(LIMIT), 9));
    }

    #[test]
    fn a_missing_key_skips_what_needs_one() {
        let mut report = Report::new();
        report.check("key", || failed::<((), _)>("none", "set one"));
        assert_eq!(report.check("server", || Ok((1, "fine".into()))), Some(1));
        assert_eq!(report.check("access", || -> Result<((), _), _> { unreachable!("the check ran") }), None);
        assert_eq!(report.checks[2].detail, "not checked, since key failed");
    }

    #[test]
    fn each_fault_has_its_exit_code() {
        for line in EXIT_CODES.lines().skip(2) {
            let (code, checks) = line.trim().split_once(' ').unwrap();
            let checks = checks.split(':').next().unwrap();
            for check in checks.split(" or ").map(str::trim) {
                assert_eq!(exit_code(check).to_string(), code, "{check}");
            }
        }
    }
}
