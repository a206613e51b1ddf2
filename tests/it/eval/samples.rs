//! `Evaluation`: what is sampled, how it is graded, and what becomes of failures.

use std::convert::Infallible;
use std::sync::Mutex;

use tinkex::eval::{Evaluated, Evaluation, Task};
use tinkex::types::{ModelInput, SampledSequence, SamplingParams};
use tinkex::{ErrorKind, SamplingClient, ServiceClient, Tokenizer};

use super::*;

fn sampler(service: &Service) -> SamplingClient {
    let client = ServiceClient::connect(service.config().build_with(|_| None).unwrap()).unwrap();
    client.create_sampling_client("tinkex/bytes-tiny").unwrap()
}

fn prompts(tasks: &[Task]) -> Vec<ModelInput> {
    let input = |task: &Task| ModelInput::from_text(&Tokenizer::bytes(), task.prompt.text().unwrap()).unwrap();
    tasks.iter().map(input).collect()
}

fn decoded(_: usize, sequence: &SampledSequence) -> tinkex::Result<String> {
    Tokenizer::bytes().decode(&sequence.tokens)
}

/// The grades of each task: passed, failed, or none.
fn grades(evaluated: &Evaluated) -> Vec<String> {
    let mark = |grade: &tinkex::Result<bool>| match grade {
        Ok(true) => '+',
        Ok(false) => '-',
        Err(_) => '?',
    };
    evaluated.tasks.iter().map(|task| task.samples.iter().map(|sample| mark(&sample.grade)).collect()).collect()
}

#[test]
fn outcomes_have_the_order_of_the_tasks() {
    let service = parrot();
    let client = sampler(&service);
    let numbers: Vec<String> = (0..20).map(|number| format!("it is {number}")).collect();
    // The even ones are right.
    let list: Vec<_> = numbers.iter().zip(0..).map(|(text, n)| (&**text, json!({"number": n / 2 * 2}))).collect();
    let tasks = tasks(&list);
    let seen = Mutex::new(Vec::new());
    let params = SamplingParams::new().max_tokens(16).seed(7);
    let evaluation = Evaluation::new(&client).samples(3).sampling_params(params).max_in_flight(5).threads(4);
    let evaluation = evaluation.on_progress(|progress| seen.lock().unwrap().push(progress));
    let evaluated = evaluation.run(&tasks, &prompts(&tasks), decoded).unwrap();
    for (index, task) in evaluated.tasks.iter().enumerate() {
        assert_eq!(task.id, (index + 1).to_string());
        let answers: Vec<_> = task.samples.iter().map(|sample| sample.answer.as_deref()).collect();
        assert_eq!(answers, [Some(&*numbers[index]); 3]);
        assert_eq!((task.graded(), task.pass_rate()), (3, Some(if index % 2 == 0 { 1.0 } else { 0.0 })));
    }
    assert_eq!(evaluated.pass_at_k(1).unwrap().mean, 0.5);
    let last = *seen.lock().unwrap().last().unwrap();
    assert_eq!((last.done, last.passed, last.ungraded, last.total), (60, 30, 0, 60));
    let sent = service.requests_to("asample");
    assert!(sent.len() == 20 && sent.iter().all(|request| request.body["sampling_params"]["seed"] == 7));
}

#[test]
fn failures_have_no_grade() {
    let service = parrot();
    let client = sampler(&service);
    let tasks = tasks(&[
        ("a", json!({"exact": "a"})),
        (UNLUCKY, json!({"exact": "a"})),
        ("b", json!({"command": ["/no/such/grader"]})),
        ("c", json!({"exact": "c"})),
        ("d", json!({"exact": "c"})),
    ]);
    let seen = Mutex::new(Vec::new());
    let evaluation = Evaluation::new(&client).samples(2).on_progress(|now| seen.lock().unwrap().push(now));
    let evaluated = evaluation.run(&tasks, &prompts(&tasks), |task, sequence| match task {
        3 => Err("not readable".to_owned()),
        _ => decoded(task, sequence).map_err(|error| error.to_string()),
    });
    let evaluated = evaluated.unwrap();
    assert_eq!(grades(&evaluated), ["++", "??", "??", "??", "--"]);
    assert_eq!((evaluated.samples(), evaluated.ungraded()), (10, 6));
    let first = |task: usize| evaluated.tasks[task].samples[0].clone();
    assert_eq!(first(2).answer.as_deref(), Some("b"));
    assert_eq!((first(1).answer, first(3).answer), (None, None));
    let kinds = [1, 2, 3].map(|task| first(task).grade.unwrap_err().kind());
    assert_eq!(kinds, [ErrorKind::RequestFailed, ErrorKind::Io, ErrorKind::Callback]);
    let last = *seen.lock().unwrap().last().unwrap();
    assert_eq!((last.done, last.passed, last.ungraded), (10, 2, 6));
    // Two tasks count, one of which passes.
    let estimate = evaluated.pass_at_k(2).unwrap();
    assert_eq!((estimate.mean, estimate.count), (0.5, 2));
}

#[test]
fn a_panic_costs_one_answer() {
    let service = parrot();
    let client = sampler(&service);
    let tasks = tasks(&[("a", json!({"exact": "a"})), ("b", json!({"exact": "b"}))]);
    let evaluated = Evaluation::new(&client).run(&tasks, &prompts(&tasks), |task, _| match task {
        0 => panic!("bug"),
        _ => Ok::<_, Infallible>("b".to_owned()),
    });
    let evaluated = evaluated.unwrap();
    assert_eq!(grades(&evaluated), ["?", "+"]);
    assert_eq!(evaluated.tasks[0].samples[0].grade.as_ref().unwrap_err().kind(), ErrorKind::Panicked);
}

#[test]
fn each_task_needs_its_prompt() {
    let service = parrot();
    let client = sampler(&service);
    let tasks = tasks(&[("a", json!({"exact": "a"})), ("b", json!({"exact": "b"}))]);
    let error = Evaluation::new(&client).run(&tasks, &prompts(&tasks[..1]), decoded).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::InvalidInput, "there are 2 tasks and 1 prompts"));
    assert!(service.requests_to("asample").is_empty());
}
