//! A conversation at the terminal.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anstream::stderr;
use clap::builder::styling::Style;
use tinkex::SampleOptions;
use tinkex::chat::{Conversation, Message, Role, Tool, ToolCall};

use super::Partner;
use super::entry::{self, Command, Entry, HELP};
use super::replying::Replying;
use crate::app::App;
use crate::chat_format;
use crate::conversation_options::Beginning;
use crate::failure::Failure;
use crate::human::counted;
use crate::reply::{Page, ReadReply, call_text};
use crate::screen::{self, Status};
use crate::text::one_line;

const PROMPT: Style = Style::new().bold();

/// A conversation that goes on.
struct Talk<'a> {
    app: &'a App,
    partner: Partner,
    beginning: &'a Beginning,
    conversation: Conversation,
    /// Calls of tools whose results are asked for, and those that are there.
    calls: VecDeque<ToolCall>,
    results: Vec<Message>,
    /// The files that this conversation was saved to.
    saved: BTreeSet<PathBuf>,
    /// The messages of which the person knows that the template leaves out calls.
    without_calls: BTreeSet<usize>,
    replying: Replying,
}

pub(super) fn run(app: &App, model: &str, partner: Partner, beginning: &Beginning) -> Result<(), Failure> {
    let replying = Replying::default();
    app.output.note(format_args!("{model}, using {}", partner.format.origin));
    if !beginning.tools().is_empty() {
        let names: Vec<&str> = beginning.tools().iter().filter_map(Tool::name).collect();
        app.output.note(format_args!("the model may call {}; you are asked for the results", names.join(", ")));
    }
    app.output.note("/help lists the commands; Ctrl-C stops a reply, Ctrl-D ends");
    let mut talk = Talk {
        app,
        partner,
        beginning,
        conversation: beginning.conversation(Vec::new()),
        calls: VecDeque::new(),
        results: Vec::new(),
        saved: BTreeSet::new(),
        without_calls: BTreeSet::new(),
        replying: replying.clone(),
    };
    app.interrupt.on_ctrl_c(move || {
        if replying.stop() {
            // The terminal shows `^C` at the start of the line.
            write("\ngiven up; Ctrl-D ends\n", "> ");
        }
    });
    talk.run()
}

/// Asks for input.
fn write(before: &str, prompt: &str) {
    let mut err = stderr().lock();
    write!(err, "{before}{PROMPT}{prompt}{PROMPT:#}").and_then(|()| err.flush()).unwrap_or_default();
}

impl Talk<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        loop {
            let asked = self.calls.front().map(|call| format!("\nresult of {}\n", one_line(&call_text(call))));
            write(asked.as_deref().unwrap_or("\n"), "> ");
            match entry::next(&mut io::stdin().lock(), || write("", "… "), || self.replying.take_given_up()) {
                Ok(Entry::End) => {
                    screen::line("");
                    return Ok(());
                }
                Ok(Entry::Command(Command::Quit)) => return Ok(()),
                Ok(Entry::Command(Command::Help)) => HELP.lines().for_each(screen::line),
                Ok(Entry::Command(Command::Reset)) => self.reset(),
                Ok(Entry::Command(Command::Save(file))) => self.save(Path::new(&file)),
                Ok(Entry::Unknown(why)) => screen::line(why),
                Ok(Entry::Nothing) => self.leave_calls(),
                Ok(Entry::Message(text)) => self.hear(text)?,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    screen::line(format_args!("what you typed is not used: {error}"));
                }
                Err(error) => return Err(Failure::failed(format!("cannot read from the terminal: {error}"))),
            }
        }
    }

    fn reset(&mut self) {
        self.conversation = self.beginning.conversation(Vec::new());
        self.calls.clear();
        self.results.clear();
        self.saved.clear();
        self.without_calls.clear();
        screen::line("the conversation begins anew");
    }

    /// An empty line: the calls get no results.
    fn leave_calls(&mut self) {
        if !self.calls.is_empty() {
            self.calls.clear();
            self.results.clear();
            screen::line("the calls have no results");
        }
    }

    fn save(&mut self, file: &Path) {
        let shown = file.display();
        if self.conversation.messages.is_empty() {
            return screen::line("there is nothing to save yet");
        }
        let written = serde_json::to_string(&self.conversation).map_err(io::Error::from).and_then(|json| {
            let mut options = fs::File::options();
            // A file of another origin is never overwritten.
            match self.saved.contains(file) {
                true => options.write(true).truncate(true).create(true),
                false => options.write(true).create_new(true),
            };
            writeln!(options.open(file)?, "{json}")
        });
        match written {
            Ok(()) => {
                let count = counted(self.conversation.messages.len() as u64, "message");
                screen::line(format_args!("saved {count} to {shown}"));
                self.saved.insert(file.to_owned());
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                screen::line(format_args!("{shown} exists already, and is not overwritten: choose another name"));
            }
            Err(error) => screen::line(format_args!("cannot save to {shown}: {error}")),
        }
    }

    /// A message of the user, or the result of a call.
    fn hear(&mut self, text: String) -> Result<(), Failure> {
        let messages = match self.calls.pop_front() {
            None => vec![Message::user(text)],
            Some(call) => {
                let mut result = Message::new(Role::Tool, text);
                (result.tool_call_id, result.name) = (call.id, Some(call.name));
                self.results.push(result);
                if !self.calls.is_empty() {
                    return Ok(());
                }
                std::mem::take(&mut self.results)
            }
        };
        let before = self.conversation.messages.len();
        self.conversation.messages.extend(messages);
        let reply = self.reply();
        match reply {
            Ok(Some(reply)) => {
                self.app.output.raw(&Page::stdout().message(&reply.message))?;
                reply.note_end();
                self.conversation.messages.push(reply.message);
                self.ask_again();
                return Ok(());
            }
            Ok(None) => screen::line("stopped; what you typed is taken back"),
            Err(failure) => {
                let reset = "if the conversation has become too long, /reset begins a new one";
                let failure = failure.add_hint("what you typed is taken back");
                failure.add_hints((before > 0).then(|| reset.to_owned())).print(self.app.verbose);
            }
        }
        self.conversation.messages.truncate(before);
        self.ask_again();
        Ok(())
    }

    /// Asks again for the results of all calls of the last message.
    fn ask_again(&mut self) {
        let last = self.conversation.messages.last();
        self.calls = last.map(|message| message.tool_calls.iter().cloned().collect()).unwrap_or_default();
    }

    /// The reply to the conversation; `None` if it was stopped.
    fn reply(&mut self) -> Result<Option<ReadReply>, Failure> {
        let Partner { sampler, renderer, params, format } = &self.partner;
        let prompt = renderer.prompt(&self.conversation)?;
        let new = chat_format::without_calls(&prompt).filter(|message| self.without_calls.insert(*message));
        if let Some(what) = format.calls_left_out(new) {
            screen::line(what);
        }
        let request = SampleOptions::new(&prompt.input).sampling_params(params.clone());
        let shown = screen::start(Status { note: "waiting for the reply".to_owned(), ..Status::default() });
        let response = self.replying.wait(|| sampler.submit_sample_with(request));
        drop(shown);
        let Some(response) = response.transpose()? else { return Ok(None) };
        let sequence = response.sequences.first().ok_or_else(|| Failure::failed("the service has sent no reply"))?;
        Ok(Some(renderer.parse_reply(&prompt, &sequence.tokens).into()))
    }
}
