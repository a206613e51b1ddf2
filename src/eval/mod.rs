//! Evaluation: tasks with graders, pass@k, and two models side by side.
//!
//! | to | use |
//! |---|---|
//! | read tasks from a file of JSON lines | [`Task::open`], [`Task::from_jsonl`] |
//! | grade an answer | [`Grader`] |
//! | sample the answers to all tasks, and grade them in parallel | [`Evaluation`] |
//! | know how good a model is | [`Evaluated::pass_at_k`] |
//! | know whether one model is better than another | [`Evaluated::against`] |
//! | calculate with counts of your own | [`pass_at_k()`], [`sign_test`], [`Estimate`] |
//!
//! A task is a line such as `{"id": "sum-1", "prompt": "2 + 2 =", "grade": {"number": 4}}`. The grades are
//!
//! | grade | an answer passes if |
//! |---|---|
//! | `{"exact": "4"}` | it is this text; white space at both ends does not count |
//! | `{"contains": "four"}` | it has this text in it |
//! | `{"regex": "(?i)four\|4"}` | it has a match of this regular expression (of the crate `regex`) in it |
//! | `{"number": 4}`, `{"number": {"value": 3.14, "within": 0.01}}` | its last number is this one, or as near as that |
//! | `{"json": {"sum": 4}}` | it is equal to this JSON by value: 4 is 4.0, and the order of fields does not count |
//! | `{"json_subset": {"sum": 4}}` | it is JSON that has these fields with these values, and perhaps others |
//! | `{"command": ["python3", "check.py"]}`, `{"command": {"line": […], "timeout": 10}}` | this command ends with status 0; it gets the answer on stdin |
//!
//! ```no_run
//! use tinkex::eval::{Evaluation, Task};
//! use tinkex::types::{ModelInput, SamplingParams};
//! use tinkex::{Config, ServiceClient};
//!
//! let tasks = Task::open("tasks.jsonl")?;
//! let service = ServiceClient::connect(Config::from_env()?)?;
//! let evaluate = |model: &str| {
//!     let sampler = service.create_sampling_client(model)?;
//!     let tokenizer = sampler.tokenizer()?;
//!     let prompts = tasks.iter().map(|task| ModelInput::from_text(&tokenizer, task.prompt.text().unwrap_or_default()));
//!     let prompts = prompts.collect::<tinkex::Result<Vec<_>>>()?;
//!     let evaluation = Evaluation::new(&sampler).samples(8).sampling_params(SamplingParams::new().max_tokens(64));
//!     evaluation.run(&tasks, &prompts, |_, sequence| tokenizer.decode(&sequence.tokens))
//! };
//! let base = evaluate("Qwen/Qwen3-8B")?;
//! let tuned = evaluate("tinker://RUN/sampler_weights/0100")?;
//! if let (Some(base), Some(tuned)) = (base.pass_at_k(1), tuned.pass_at_k(1)) {
//!     println!("pass@1: {base} before, {tuned} after");
//! }
//! let comparison = tuned.against(&base)?;
//! println!("{} wins, {} losses, p = {:.3}", comparison.wins, comparison.losses, comparison.p_value);
//! # Ok::<(), tinkex::Error>(())
//! ```

mod command;
mod evaluation;
mod grader;
mod json;
mod number;
mod outcome;
mod statistics;
mod task;

pub use evaluation::{Evaluation, EvaluationProgress};
pub use grader::Grader;
pub use outcome::{Comparison, Evaluated, GradedSample, TaskOutcome};
pub use statistics::{Estimate, pass_at_k, sign_test};
pub use task::{Task, TaskPrompt};
