//! `tinkex eval`: the program as a child process.

use std::fs;

use tinkex::hyperparams::Schedule;
use tinkex::local::LocalServer;
use tinkex::toolkit::WeightedTokens;
use tinkex::types::{AdamParams, Batch, LoraConfig, LossFn};
use tinkex::{Config, Result, ServiceClient};

use super::*;
use crate::cli::program::{Volatile, golden};
use crate::support::KEY;
use crate::train_cli::place::Place;

const MODEL: &str = "tinkex/bytes-tiny";

/// What the trained model learns.
const PAIRS: [(&str, &str); 6] = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5"), ("f", "6")];

/// Trains until the model knows the pairs, and returns the path of its weights.
fn trained(server: &LocalServer) -> Result<String> {
    let config = Config::builder().base_url(server.base_url()).api_key(KEY).telemetry(false).build_with(|_| None)?;
    let service = ServiceClient::connect(config)?;
    let trainer = service.create_lora_training_client(MODEL, LoraConfig::new().seed(1))?;
    let tokenizer = trainer.tokenizer()?;
    let datum = |(letter, digit): &(&str, &str)| {
        let tokens = WeightedTokens::new().context(tokenizer.encode(&format!("{letter} ->"))?);
        tokens.trained(tokenizer.encode_continuation(&format!(" {digit}\n"))?).datum()
    };
    let batch: Batch = PAIRS.iter().map(datum).collect::<Result<Vec<_>>>()?.into();
    let schedule = Schedule::linear(1e-2, 60);
    for step in 1..=60 {
        trainer.forward_backward(&batch, LossFn::CrossEntropy)?;
        trainer.optim_step(AdamParams::new().learning_rate(schedule.rate(step)))?;
    }
    Ok(trainer.save_weights_for_sampler("trained")?.path)
}

#[test]
fn a_trained_model_beats_its_base() {
    let server = LocalServer::start().unwrap();
    let place = Place::new(&server.base_url());
    let task = |(letter, digit): &(&str, &str)| {
        json!({"id": letter, "prompt": format!("{letter} ->"), "grade": {"exact": digit}}).to_string() + "\n"
    };
    fs::write(place.file("tasks.jsonl"), PAIRS.iter().map(task).collect::<String>()).unwrap();
    let trained = trained(&server).unwrap();
    let options = ["--temperature", "0", "--max-tokens", "12", "--stop", "\n", "--output", "results.jsonl"];
    let words = [&["eval", "tasks.jsonl", "--model", &trained, "--against", MODEL], options.as_slice()].concat();
    let document = place.run(&[&words, ["-f", "json"].as_slice()].concat()).document();
    let rate = |row: usize| document["models"][row]["pass_at"][0]["mean"].as_f64();
    assert_eq!((rate(0), rate(1)), (Some(1.0), Some(0.0)), "{document}");
    let comparison = json!({
        "model": trained, "against": MODEL, "wins": 6, "losses": 0, "ties": 0, "left_out": 0, "p_value": 0.03125
    });
    assert_eq!(document["comparison"], comparison);
    let results = place.lines("results.jsonl");
    assert_eq!(results.len(), 12);
    for (result, (letter, digit)) in results.iter().zip(&PAIRS) {
        let answer = result["answer"].as_str().unwrap();
        assert_eq!((answer.trim(), &result["task"], &result["passed"]), (*digit, &json!(letter), &json!(true)));
        assert_eq!((&result["model"], &result["error"]), (&json!(trained), &json!(null)));
    }
    let table = place.run(&words);
    let line = "6 won, 0 lost, 0 tied; sign test p = 0.0312\n";
    assert!(table.code == Some(0) && table.stdout.ends_with(line), "{table:?}");
}

#[test]
fn tables_and_progress_of_an_evaluation() {
    let service = parrot();
    let place = Place::new(&service.url());
    let list = lines(&[
        ("four", json!({"contains": "our"})),
        ("five", json!({"regex": "^f.v$"})),
        (UNLUCKY, json!({"exact": "x"})),
        ("[1]", json!({"command": ["grep", "-q", "1"]})),
    ]);
    fs::write(place.file("tasks.jsonl"), list).unwrap();
    let words = ["eval", "tasks.jsonl", "-m", MODEL, "-n", "2", "--pass-at", "2,1,2"];
    let compared = [&words, ["--against", MODEL].as_slice()].concat();
    let runs = [place.run(&words), place.run(&compared), place.run(&[&compared, ["-f", "json"].as_slice()].concat())];
    // Which answers come first is not certain, but how many lines there are.
    let lines = runs.map(|mut done| {
        let progress = done.stderr.lines().filter(|line| line.contains("/8 ")).count();
        done.stderr =
            done.stderr.lines().filter(|line| !line.contains("/8 ")).map(|line| format!("{line}\n")).collect();
        (done, progress)
    });
    assert!(lines.iter().all(|(_, progress)| (1..=16).contains(progress)), "{lines:?}");
    golden("eval", &lines.map(|(done, _)| done), &Volatile::default());
}

#[test]
fn chats_are_written_in_the_format() {
    let service = parrot();
    let place = Place::new(&service.url());
    let line = |ask: serde_json::Value| {
        let mut task = ask;
        task["grade"] = json!({"contains": "Be brief."});
        task.to_string() + "\n"
    };
    let list = [json!({"prompt": "Hi"}), json!({"messages": [{"role": "user", "content": "Hi"}]})].map(line).concat();
    fs::write(place.file("tasks.jsonl"), list).unwrap();
    let options = ["--chat", "--template", "plain", "--system", "Be brief.", "-f", "json"];
    let document = place.run(&[&["eval", "tasks.jsonl", "-m", MODEL], options.as_slice()].concat()).document();
    let asked: Vec<String> = service.requests_to("asample").iter().map(asked).collect();
    assert!(asked.len() == 2 && asked.iter().all(|text| text.ends_with("User: Hi\n\nAssistant:")), "{asked:?}");
    let pass_at = json!([{"k": 1, "mean": 1.0, "standard_error": 0.0, "tasks": 2}]);
    assert_eq!(document["models"][0]["pass_at"], pass_at);
}

#[test]
fn bad_tasks_are_refused_before_requests() {
    let service = parrot();
    let place = Place::new(&service.url());
    let chat = r#"{"id": "c", "messages": [{"role": "user", "content": "Hi"}], "grade": {"exact": "x"}}"#;
    fs::write(place.file("chat.jsonl"), chat).unwrap();
    fs::write(place.file("odd.jsonl"), chat.replace("\"Hi\"", "1")).unwrap();
    fs::write(place.file("bad.jsonl"), "{\"prompt\": \"a\", \"grade\": {\"exakt\": \"x\"}}").unwrap();
    fs::write(place.file("good.jsonl"), lines(&[("a", json!({"exact": "x"}))])).unwrap();
    for (words, why) in [
        (["bad.jsonl", "-n", "1"], "bad.jsonl: line 1: there is no grade \"exakt\""),
        (["chat.jsonl", "-n", "1"], "task c has messages"),
        (["odd.jsonl", "--chat", "--seed=1"], "task c: message 1 is not valid"),
        (["good.jsonl", "--pass-at=2", "-v"], "pass@2 needs at least 2 samples"),
        (["good.jsonl", "--output", "."], "--output: . is a directory"),
        (["good.jsonl", "--system", "x"], "--chat"),
        (["none.jsonl", "-n", "1"], "cannot read the tasks none.jsonl"),
    ] {
        let done = place.run(&[&["eval", "--model", MODEL], words.as_slice()].concat());
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{done:?}");
        assert!(done.stderr.contains(why), "{}", done.stderr);
    }
    assert!(service.requests().is_empty());
}

#[test]
fn an_evaluation_without_grades_fails() {
    let service = parrot();
    let place = Place::new(&service.url());
    let list = [("a", json!({"command": ["/no/such/grader"]})), (UNLUCKY, json!({"exact": "x"}))];
    fs::write(place.file("tasks.jsonl"), lines(&list)).unwrap();
    let done = place.run(&["eval", "tasks.jsonl", "-m", MODEL, "-o", "results.jsonl"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{done:?}");
    assert!(done.stderr.contains("error: no answer of tinkex/bytes-tiny could be graded"), "{}", done.stderr);
    let results = place.lines("results.jsonl");
    assert_eq!((&results[0]["answer"], &results[1]["answer"]), (&json!("a"), &json!(null)));
    for (result, why) in results.iter().zip(["/no/such/grader", "out of luck"]) {
        assert!(result["passed"].is_null() && result["error"].as_str().unwrap().contains(why), "{result}");
    }
}
