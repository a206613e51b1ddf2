//! How an error looks in `{:?}`: `main() -> Result<(), Error>`, `unwrap` and `expect` print it for a person.

use std::fmt;

use super::Error;
use super::text::line;

/// `{:?}` is the text of [`Display`](fmt::Display), and one line for each cause that it does not name yet. `{:#?}` shows the
/// fields.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return self.fmt_fields(f);
        }
        let mut shown = self.to_string();
        f.write_str(&shown)?;
        for cause in self.sources() {
            let cause = line(cause.to_string());
            if !shown.contains(&*cause) {
                write!(f, "\ncaused by: {cause}")?;
                shown.push('\n');
                shown.push_str(&cause);
            }
        }
        Ok(())
    }
}

impl Error {
    fn fmt_fields(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.0.kind).field("message", &self.to_string());
        if let Some(status) = self.0.status {
            out.field("status", &status);
        }
        if let Some(category) = &self.0.category {
            out.field("category", category);
        }
        if let Some(body) = &self.0.body {
            out.field("body", body);
        }
        if let Some(source) = &self.0.source {
            out.field("source", source);
        }
        out.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::{ErrorKind, Limit};
    use super::*;

    #[test]
    fn debug_names_each_cause_once() {
        let refused = Error::new(ErrorKind::Connect, "cannot connect to http://127.0.0.1:1 (connection refused)")
            .with_source(io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused"));
        let error = Error::timeout(Limit::Submit)
            .with_operation("optim_step")
            .with_hint("raise it to \"10 min\"")
            .with_source(refused);
        assert_eq!(
            format!("{error:?}"),
            "optim_step: the server did not accept the request in time (timeout_submit); raise it to \"10 min\"\n\
             caused by: cannot connect to http://127.0.0.1:1 (connection refused)"
        );
    }

    #[test]
    fn alternate_debug_shows_the_fields() {
        let error = Error::new(ErrorKind::Status, "refused").with_status(404).with_body(b"{\"detail\":\"no\"}");
        let text = format!("{error:#?}");
        for part in ["kind: Status", "status: 404", "message: \"refused\"", "body: "] {
            assert!(text.contains(part), "{text}");
        }
    }
}
