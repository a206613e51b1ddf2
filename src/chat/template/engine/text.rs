//! The text between tags, as prints: so that all that a template writes passes the formatter, which counts it.

/// How a tag takes the white space beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    /// A block or comment without a sign: the line break after it goes, and the spaces before it on its line.
    Line,
    /// All goes.
    All,
    /// All stays.
    Nothing,
}

/// Text that is being read.
#[derive(Debug)]
pub(super) struct Text {
    text: String,
    before: Option<Edge>,
    is_raw: bool,
}

impl Text {
    /// The text from the start of the source.
    pub(super) fn at_start() -> Self {
        Text { text: String::new(), before: None, is_raw: false }
    }

    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Writes the text up to this tag, and begins with the text after it.
    pub(super) fn end_at(&mut self, out: &mut String, tag: &str) {
        self.write(out, Some(start_edge(tag)));
        self.before = Some(end_edge(tag));
        self.is_raw = false;
    }

    /// Writes the text up to this tag of `raw`, and begins with what it holds, whose first line break stays.
    pub(super) fn end_at_raw(&mut self, out: &mut String, tag: &str) {
        self.end_at(out, tag);
        self.before = self.before.map(|edge| if edge == Edge::Line { Edge::Nothing } else { edge });
        self.is_raw = true;
    }

    /// Writes the text as it is.
    pub(super) fn end_unchanged(&mut self, out: &mut String) {
        out.push_str(&std::mem::take(&mut self.text));
    }

    /// Writes the text up to the end of the source.
    pub(super) fn end(mut self, out: &mut String) {
        self.write(out, None);
    }

    fn write(&mut self, out: &mut String, after: Option<Edge>) {
        let whole = std::mem::take(&mut self.text);
        let text = match self.before {
            Some(Edge::All) => whole.trim_start(),
            Some(Edge::Line) => whole.strip_prefix('\n').unwrap_or(&whole),
            _ => &whole,
        };
        let spaces = whole.trim_end_matches(|character: char| character.is_whitespace() && character != '\n');
        let starts_line = spaces.ends_with('\n') || (spaces.is_empty() && (self.before.is_none() || self.is_raw));
        let text = match after {
            Some(Edge::All) => text.trim_end(),
            Some(Edge::Line) if starts_line => {
                text.trim_end_matches(|character: char| character.is_whitespace() && character != '\n')
            }
            _ => text,
        };
        // The lines keep their numbers.
        let lines = "\n".repeat(whole.matches('\n').count() - text.matches('\n').count());
        if !text.is_empty() {
            out.push_str("{{");
            out.push_str(&lines);
            out.push('"');
            out.push_str(&text.replace('\\', "\\\\").replace('"', "\\\""));
            out.push_str("\"}}");
        } else if !lines.is_empty() {
            out.push_str("{#");
            out.push_str(&lines);
            out.push_str("#}");
        }
    }
}

fn start_edge(tag: &str) -> Edge {
    match tag.as_bytes().get(2) {
        Some(b'-') => Edge::All,
        Some(b'+') => Edge::Nothing,
        _ if tag.starts_with("{{") => Edge::Nothing,
        _ => Edge::Line,
    }
}

fn end_edge(tag: &str) -> Edge {
    match tag.len().checked_sub(3).and_then(|index| tag.as_bytes().get(index)) {
        Some(b'-') => Edge::All,
        Some(b'+') => Edge::Nothing,
        _ if tag.starts_with("{{") => Edge::Nothing,
        _ => Edge::Line,
    }
}
