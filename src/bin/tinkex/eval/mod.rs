//! `tinkex eval`: how many tasks a model solves, and whether another one solves more.
//!
//! | file | contents |
//! |---|---|
//! | `contestant.rs` | a model, with the prompts that it gets and how its answers are read |
//! | `progress.rs` | progress on stderr |
//! | `report.rs` | the table, the document and the file of results |

mod contestant;
mod progress;
mod report;

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use tinkex::ErrorKind;
use tinkex::chat::Conversation;
use tinkex::eval::{Evaluated, Evaluation, GradedSample, Task, TaskOutcome, TaskPrompt};

use self::contestant::Contestant;
use self::progress::Progress;
use self::report::{Report, Row};
use crate::app::App;
use crate::conversation_options::{Beginning, ConversationOptions};
use crate::failure::Failure;
use crate::number::at_least;
use crate::sampling_options::{MAX_TOKENS, SamplingOptions};
use crate::screen;

/// Ask a model tasks, grade its answers, and compare it with another model.
///
/// TASKS is a file of JSON lines, such as {"id": "sum", "prompt": "2 + 2 =", "grade": {"number": 4}}; with --chat also with
/// "messages": [{"role": "user", "content": "..."}] in place of the prompt. The grade is one of {"exact": TEXT}, {"contains": TEXT},
/// {"regex": PATTERN}, {"number": N} or {"number": {"value": N, "within": D}} for the last number of the answer, {"json": VALUE},
/// {"json_subset": VALUE}, and {"command": [PROGRAM, ARGUMENT, ...]} or {"command": {"line": [...], "timeout": SECONDS}}: a command
/// that gets the answer on stdin and passes it with status 0. Commands run with your rights, so use files that you trust.
///
/// pass@k is the estimated probability that at least one of k samples passes, as a mean over the tasks with its standard error. With
/// --against, a task is won by the model with the higher pass rate; the p-value of the sign test says how likely so clear a result is
/// if both models are equally good. The exit code is 0 also if answers fail, and 1 if no answer of a model could be graded.
#[derive(Args, Debug)]
#[command(mut_group("ConversationOptions", |options| options.requires("chat")))]
pub(crate) struct Options {
    /// File with the tasks.
    tasks: PathBuf,
    /// Base model, or path of sampler weights, such as tinker://RUN_ID/sampler_weights/NAME.
    #[arg(short, long, alias = "base-model", value_name = "NAME|PATH", value_parser = NonEmptyStringValueParser::new())]
    model: String,
    /// Model to compare it with: another base model, or other sampler weights.
    #[arg(long, value_name = "NAME|PATH", value_parser = NonEmptyStringValueParser::new())]
    against: Option<String>,
    /// Number of samples for each task.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = at_least(1_u32))]
    samples: u32,
    /// The k of pass@k, separated by commas; each at most the number of samples.
    #[arg(long, value_name = "K", default_value = "1", value_delimiter = ',', num_args = 1, allow_negative_numbers = true,
        value_parser = at_least(1_u32))]
    pass_at: Vec<u32>,
    /// File to write, or replace, with a line of JSON for each sample: task, model, answer, passed and error.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Send each prompt as a user message in the model's own format, or the messages of the task; the answers are the contents of the
    /// assistant's replies.
    #[arg(long)]
    chat: bool,
    #[command(flatten)]
    conversation: ConversationOptions,
    #[command(flatten)]
    sampling: SamplingOptions,
    /// Tokenizer to use instead of each model's own: `bytes`, a tokenizer.json, its directory, or an ID on the Hugging Face Hub.
    #[arg(long, value_name = "PATH|ID")]
    tokenizer: Option<String>,
}

/// What the models are asked.
enum Questions {
    Texts(Vec<String>),
    Chats { conversations: Vec<Conversation>, beginning: Beginning },
}

pub(crate) fn run(app: &App, options: &Options) -> Result<(), Failure> {
    let params = options.sampling.params(Some(MAX_TOKENS))?;
    if let Some(k) = options.pass_at.iter().find(|k| **k > options.samples) {
        return Err(Failure::usage(format!("pass@{k} needs at least {k} samples for each task"))
            .hint(format!("pass --samples {k} or more, or a smaller --pass-at")));
    }
    let tasks = Task::open(&options.tasks).map_err(|error| match error.kind() {
        ErrorKind::Io => Failure::usage(error.message()).hint(error.hint().unwrap_or_default()),
        _ => error.into(),
    })?;
    let questions = questions(options, &tasks)?;
    options.output.as_deref().map_or(Ok(()), check_output)?;
    let config = app.config()?;
    app.require_service(&config)?;
    let rows = App::in_session(config, |service| {
        let models = [Some(&options.model), options.against.as_ref()].into_iter().flatten();
        let contestants = models.map(|model| Contestant::new(app, service, options, model, &questions, &params));
        // All prompts are made before the first sample.
        let contestants = contestants.collect::<Result<Vec<_>, _>>()?;
        let rows = contestants.iter().map(|contestant| {
            let evaluated = evaluate(contestant, &tasks, options.samples)?;
            Ok(Row { model: contestant.model.clone(), evaluated })
        });
        rows.collect::<Result<Vec<_>, Failure>>()
    })?;
    let mut pass_at = options.pass_at.clone();
    pass_at.sort_unstable();
    pass_at.dedup();
    let report = Report::new(&options.tasks, rows, pass_at)?;
    if let Some(file) = &options.output {
        report.write(file)?;
    }
    report.check_grades()?;
    app.output.report(&report, &report.document())
}

/// The questions of the tasks, in the form that the options want.
fn questions(options: &Options, tasks: &[Task]) -> Result<Questions, Failure> {
    let beginning = options.conversation.read()?;
    if options.chat {
        let chats = tasks.iter().map(|task| Ok(beginning.complete(task.conversation()?)));
        let conversations = chats.collect::<Result<Vec<_>, Failure>>()?;
        return Ok(Questions::Chats { conversations, beginning });
    }
    let text = |task: &Task| match &task.prompt {
        TaskPrompt::Text(text) => Ok(text.clone()),
        _ => Err(Failure::usage(format!("task {} has messages, which need the format of a chat model", task.id))
            .hint("pass --chat, or give the task a prompt")),
    };
    tasks.iter().map(text).collect::<Result<_, _>>().map(Questions::Texts)
}

/// Refuses a file that could not be written in the end.
fn check_output(file: &Path) -> Result<(), Failure> {
    if file.is_dir() {
        return Err(Failure::usage(format!("--output: {} is a directory", file.display())).hint("pass a file"));
    }
    Ok(())
}

/// All samples, each with its task, in their order.
fn samples_of(evaluated: &Evaluated) -> impl Iterator<Item = (&TaskOutcome, &GradedSample)> {
    evaluated.tasks.iter().flat_map(|task| task.samples.iter().map(move |sample| (task, sample)))
}

fn evaluate(contestant: &Contestant, tasks: &[Task], samples: u32) -> Result<Evaluated, Failure> {
    let mut progress = Progress::new(&contestant.model);
    let evaluation = Evaluation::new(&contestant.sampler).samples(samples).sampling_params(contestant.params.clone());
    let evaluation = evaluation.on_progress(|now| progress.show(now));
    let evaluated = evaluation.run(tasks, &contestant.inputs, |task, sequence| contestant.answer(task, sequence))?;
    note_ungraded(&contestant.model, &evaluated);
    Ok(evaluated)
}

/// Says on stderr how many answers have no grade, and why the first has none.
fn note_ungraded(model: &str, evaluated: &Evaluated) {
    let mut errors = samples_of(evaluated).filter_map(|(task, sample)| Some((&task.id, sample.grade.as_ref().err()?)));
    if let Some((task, error)) = errors.next() {
        let count = 1 + errors.count();
        let what = if count == 1 { "answer" } else { "answers" };
        let why = Failure::from(error.clone());
        screen::line(format_args!("{count} {what} of {model} without a grade; task {task}: {}", why.message()));
    }
}
