//! What a person types.

use std::io::{self, BufRead};

/// The line before and after a message of several lines.
const FENCE: &str = "\"\"\"";

/// A terminal of Linux passes on no more bytes of a line, and drops the rest without a word.
const LONGEST_LINE: usize = if cfg!(target_os = "linux") { 4095 } else { usize::MAX };

/// What was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Message(String),
    Command(Command),
    /// Text that begins as a command, and why it is none.
    Unknown(String),
    /// An empty line, or a message that was given up.
    Nothing,
    /// Ctrl-D.
    End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Reset,
    Save(String),
    Quit,
}

pub(super) const HELP: &str = "\
/reset      forget the conversation, but for the system message
/save FILE  write the conversation to a new file, as a line of JSON that
            `tinkex train` and `tinkex chat` read
/help       show this
/quit       end, as Ctrl-D does
\"\"\"         begin and end a message of several lines, or one that begins
            with /
Ctrl-C      stop the reply, or give up what is typed";

/// Reads what is typed next. `more` is called before each further line of a message, and `is_given_up` after each line: whether
/// what was typed before it no longer counts.
///
/// The error is [`InvalidData`](io::ErrorKind::InvalidData) for a line that cannot be used; the message that has it has then been read.
pub(super) fn next(
    keyboard: &mut impl BufRead,
    mut more: impl FnMut(),
    mut is_given_up: impl FnMut() -> bool,
) -> io::Result<Entry> {
    let Some(first) = line(keyboard)? else { return Ok(Entry::End) };
    is_given_up();
    if first.trim() != FENCE {
        return Ok(entry(&first));
    }
    let (mut lines, mut unusable): (Vec<String>, _) = (Vec::new(), None);
    loop {
        more();
        let next = line(keyboard);
        if is_given_up() {
            return Ok(next?.map_or(Entry::End, |next| entry(&next)));
        }
        match next {
            Ok(None) => return Ok(Entry::End),
            Ok(Some(next)) if next.trim() == FENCE => break,
            Ok(Some(next)) => lines.push(next),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => unusable = Some(error),
            Err(error) => return Err(error),
        }
    }
    if let Some(error) = unusable {
        return Err(error);
    }
    Ok(if lines.is_empty() { Entry::Nothing } else { Entry::Message(lines.join("\n")) })
}

/// The next line without its end; `None` after the last.
fn line(keyboard: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if keyboard.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    let unusable = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let line = String::from_utf8(line).map_err(|_| unusable("a line is not UTF-8".to_owned()))?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    if line.len() >= LONGEST_LINE {
        return Err(unusable(format!(
            "a terminal cuts a line after {LONGEST_LINE} bytes; send several lines between {FENCE}, or a file: tinkex chat MODEL < FILE"
        )));
    }
    Ok(Some(line.strip_suffix('\r').unwrap_or(line).to_owned()))
}

/// What a line means by itself.
fn entry(line: &str) -> Entry {
    let Some(command) = line.strip_prefix('/') else {
        return if line.trim().is_empty() { Entry::Nothing } else { Entry::Message(line.to_owned()) };
    };
    let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let rest = rest.trim();
    match (name, rest) {
        ("help", "") => Entry::Command(Command::Help),
        ("reset", "") => Entry::Command(Command::Reset),
        ("quit", "") => Entry::Command(Command::Quit),
        ("save", "") => Entry::Unknown("/save needs the name of a file".to_owned()),
        ("save", file) => Entry::Command(Command::Save(file.to_owned())),
        ("help" | "reset" | "quit", _) => Entry::Unknown(format!("/{name} stands alone")),
        _ => Entry::Unknown(format!("there is no command /{name}; /help lists them")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(typed: &str) -> Vec<Entry> {
        let mut keyboard = typed.as_bytes();
        let mut all = Vec::new();
        while let Some(entry) = Some(next(&mut keyboard, || {}, || false).unwrap()).filter(|entry| *entry != Entry::End)
        {
            all.push(entry);
        }
        all
    }

    fn message(text: &str) -> Entry {
        Entry::Message(text.to_owned())
    }

    #[test]
    fn a_line_is_a_message() {
        assert_eq!(
            entries("hi\r\n\n  a \\\nlast"),
            [message("hi"), Entry::Nothing, message("  a \\"), message("last")]
        );
    }

    #[test]
    fn a_fence_holds_several_lines() {
        assert_eq!(entries("\"\"\"\n/a\n\n b\n\"\"\"\nc\n"), [message("/a\n\n b"), message("c")]);
        assert_eq!(entries("\"\"\"\n\"\"\"\n"), [Entry::Nothing]);
        assert_eq!(entries("\"\"\"\nnever sent\n"), []);
    }

    #[test]
    fn commands_are_told_from_messages() {
        let unknown = |why: &str| Entry::Unknown(why.to_owned());
        assert_eq!(
            entries("/help\n/reset \n/quit\n/save my file.json\n"),
            [
                Entry::Command(Command::Help),
                Entry::Command(Command::Reset),
                Entry::Command(Command::Quit),
                Entry::Command(Command::Save("my file.json".to_owned())),
            ]
        );
        assert_eq!(
            entries("/save\n/reset all\n/nope\n/\n"),
            [
                unknown("/save needs the name of a file"),
                unknown("/reset stands alone"),
                unknown("there is no command /nope; /help lists them"),
                unknown("there is no command /; /help lists them"),
            ]
        );
    }

    #[test]
    fn what_is_given_up_does_not_count() {
        let mut keyboard = "\"\"\"\na\nb\n".as_bytes();
        let mut lines = 0;
        let given_up = || {
            lines += 1;
            lines == 3
        };
        assert_eq!(next(&mut keyboard, || {}, given_up).unwrap(), message("b"));
    }

    #[test]
    fn an_unusable_line_spoils_its_message() {
        let long = "a".repeat(if cfg!(target_os = "linux") { LONGEST_LINE } else { 0 });
        let typed = [b"\"\"\"\na\n\xff\nb\n\"\"\"\n".as_slice(), long.as_bytes(), b"\nlast\n"].concat();
        let mut keyboard = typed.as_slice();
        let mut next = || next(&mut keyboard, || {}, || false);
        assert_eq!(next().unwrap_err().to_string(), "a line is not UTF-8");
        if cfg!(target_os = "linux") {
            let why = next().unwrap_err().to_string();
            assert!(why.starts_with("a terminal cuts a line after 4095 bytes; "), "{why}");
        } else {
            assert_eq!(next().unwrap(), Entry::Nothing);
        }
        assert_eq!(next().unwrap(), message("last"));
    }

    #[test]
    fn a_line_must_be_utf_8() {
        let mut keyboard: &[u8] = b"\xff\nok\n";
        assert_eq!(next(&mut keyboard, || {}, || false).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(next(&mut keyboard, || {}, || false).unwrap(), message("ok"));
    }
}
