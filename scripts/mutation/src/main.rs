//! Builds all mutants of cargo-mutants into one copy of the crate, each behind a switch, so that one build serves all of them.
//!
//! `mutation switch ROOT WITHOUT` reads the list of `cargo mutants --list --json` from the standard input and rewrites its files
//! below ROOT. The environment variable `TINKEX_MUTANT` then switches one mutant on by its number, the place in the list. Those whose
//! numbers are in the file WITHOUT are left out. Prints each number and its mutant, with `-` for the number where no switch can stand.
//!
//! `mutation refused ROOT` reads cargo's messages as JSON and prints the numbers of the mutants that do not compile.

mod switches;

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;
use std::path::Path;

use serde_json::Value;
use switches::{Mutant, Position};

/// At the beginning of the library: what a switch needs, and what stood there before, may be more than enough.
const ALLOWED: &str = "#![allow(unused_parens, unused_braces)]\n";

/// What a switch asks, and what a function of a hidden type returns; at the end of the library.
const MODULE: &str = r#"
pub(crate) mod mutant {
    pub(crate) enum Either<L, R> { Left(L), Right(R) }

    impl<T, L: Iterator<Item = T>, R: Iterator<Item = T>> Iterator for Either<L, R> {
        type Item = T;

        fn next(&mut self) -> Option<T> {
            match self {
                Either::Left(left) => left.next(),
                Either::Right(right) => right.next(),
            }
        }
    }

    pub(crate) fn on(number: usize) -> bool {
        static NUMBER: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
        *NUMBER.get_or_init(|| {
            std::env::var("TINKEX_MUTANT").ok().and_then(|text| text.parse().ok()).unwrap_or(usize::MAX)
        }) == number
    }
}
"#;

/// The code of rustc's error for a match that does not cover everything: arms with a guard do not count.
const NOT_EXHAUSTIVE: &str = "E0004";

/// How many lines above an error its switch may be.
const LINES_OF_A_SWITCH: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["switch", root, without] => switch(Path::new(root), Path::new(without)),
        ["refused", root] => refused(Path::new(root)),
        _ => panic!("usage: mutation switch ROOT WITHOUT | mutation refused ROOT"),
    }
}

fn switch(root: &Path, without: &Path) {
    let without = std::fs::read_to_string(without).unwrap_or_default();
    let without: BTreeSet<usize> = without.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    let list: Vec<Value> = serde_json::from_reader(std::io::stdin()).expect("the list of cargo mutants");
    let mut files: BTreeMap<&str, Vec<Mutant>> = BTreeMap::new();
    for (number, entry) in list.iter().enumerate().filter(|(number, _)| !without.contains(number)) {
        files.entry(text(entry, "file")).or_default().push(mutant(number, entry));
    }
    let mut switched = BTreeSet::new();
    for (file, mutants) in files {
        let path = root.join(file);
        let source = std::fs::read_to_string(&path).expect("a source file");
        let (source, numbers) = switches::rewrite(&source, mutants);
        std::fs::write(&path, source).expect("the file can be written");
        switched.extend(numbers);
    }
    for (number, entry) in list.iter().enumerate().filter(|(number, _)| !without.contains(number)) {
        let number = if switched.contains(&number) { number.to_string() } else { "-".to_owned() };
        println!("{number} {}", text(entry, "name"));
    }
    let lib = root.join("src/lib.rs");
    let source = std::fs::read_to_string(&lib).expect("the library's source");
    std::fs::write(&lib, format!("{ALLOWED}{source}{MODULE}")).expect("the library can be written");
}

fn mutant(number: usize, entry: &Value) -> Mutant {
    let start = &entry["span"]["start"];
    let place = |name: &str| start[name].as_u64().expect("a place") as usize;
    Mutant {
        number,
        genre: text(entry, "genre").to_owned(),
        replacement: text(entry, "replacement").to_owned(),
        start: Position { line: place("line"), column: place("column") },
    }
}

fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry[key].as_str().unwrap_or_else(|| panic!("the list has no {key}"))
}

fn refused(root: &Path) {
    let mut numbers = BTreeSet::new();
    for line in std::io::stdin().lock().lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line.expect("text")) else { continue };
        let message = &message["message"];
        if message["level"] != "error" {
            continue;
        }
        for span in message["spans"].as_array().into_iter().flatten() {
            let Ok(source) = std::fs::read_to_string(root.join(text(span, "file_name"))) else { continue };
            let line = |key: &str| span[key].as_u64().expect("a line") as usize;
            if message["code"]["code"] == NOT_EXHAUSTIVE {
                numbers.extend(arms(source.lines().skip(line("line_start") - 1)));
                continue;
            }
            let lines: Vec<&str> = source.lines().take(line("line_end")).collect();
            let (above, own) = lines.split_at(line("line_start") - 1);
            let own: Vec<usize> = own.iter().flat_map(|line| switches_in(line)).collect();
            let nearest =
                above.iter().rev().take(LINES_OF_A_SWITCH).map(|line| switches_in(line)).find(|n| !n.is_empty());
            numbers.extend(if own.is_empty() { nearest.unwrap_or_default() } else { own });
        }
    }
    for number in numbers {
        println!("{number}");
    }
}

/// The switches in the guards of a match, whose first line comes first.
fn arms<'a>(mut lines: impl Iterator<Item = &'a str>) -> Vec<usize> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let Some(first) = lines.next() else { return Vec::new() };
    let inner = lines.take_while(|line| indent(line) > indent(first));
    inner.filter(|line| line.contains(" if !crate::mutant::on(")).flat_map(switches_in).collect()
}

/// The numbers of the switches in a line.
fn switches_in(line: &str) -> Vec<usize> {
    let after = line.split("mutant::on(").skip(1);
    after.filter_map(|rest| rest.split("usize").next()?.parse().ok()).collect()
}
