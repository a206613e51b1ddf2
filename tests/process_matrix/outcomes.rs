//! The file with the outcomes: for each operation, each outcome and the faults that have it.

use std::collections::BTreeMap;
use std::fs;

use crate::Place;
use crate::cell::Times;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/process_matrix/outcomes.txt");

const TIMES: [(&str, Times); 2] = [("once", Times::Once), ("for ever", Times::Ever)];

/// Of a line of faults.
const WIDTH: usize = 120;

const HEAD: &str = "\
# What comes of each fault of each operation. Written by `UPDATE_GOLDEN=1 cargo test --features cli --test process_matrix`.
# Each outcome is followed by the faults that have it. An error is given by its kind, with its status if that is not the fault's.
";

/// Writes the outcomes of all cells, in their order.
pub fn write(cells: &[(Place, String)]) {
    let mut text = HEAD.to_owned();
    for (operation, cells) in grouped(cells, |cell| cell.0.0.clone()) {
        text.push_str(&format!("\n== {operation}\n"));
        for (name, times) in TIMES {
            let cells: Vec<_> = cells.iter().filter(|cell| cell.0.1 == times).cloned().collect();
            for (outcome, cells) in grouped(&cells, |cell| cell.1.clone()) {
                text.push_str(&format!("{name}: {outcome}\n"));
                let mut line = String::new();
                for ((_, _, fault), _) in cells {
                    if line.chars().count() + fault.chars().count() > WIDTH {
                        text.push_str(&format!("   {line}\n"));
                        line.clear();
                    }
                    line.push_str(&format!(" {fault};"));
                }
                text.push_str(&format!("   {line}\n"));
            }
        }
    }
    fs::write(FILE, text).unwrap();
}

/// Groups by a key, in the order of their first members.
fn grouped<T: Clone>(items: &[T], key: impl Fn(&T) -> String) -> Vec<(String, Vec<T>)> {
    let mut groups = Vec::<(String, Vec<T>)>::new();
    for item in items {
        let key = key(item);
        match groups.iter_mut().find(|group| group.0 == key) {
            Some(group) => group.1.push(item.clone()),
            None => groups.push((key, vec![item.clone()])),
        }
    }
    groups
}

/// Reads the outcome of each cell.
pub fn read() -> BTreeMap<Place, String> {
    let (mut cells, mut operation, mut outcome) = (BTreeMap::new(), String::new(), (Times::Once, String::new()));
    for line in fs::read_to_string(FILE).unwrap_or_default().lines() {
        if let Some(name) = line.strip_prefix("== ") {
            operation = name.to_owned();
        } else if let Some(faults) = line.strip_prefix("    ") {
            for fault in faults.split_terminator(';') {
                cells.insert((operation.clone(), outcome.0, fault.trim().to_owned()), outcome.1.clone());
            }
        } else if let Some((name, text)) = line.split_once(": ").filter(|_| !line.starts_with('#')) {
            let (_, times) = TIMES.into_iter().find(|(known, _)| *known == name).unwrap();
            outcome = (times, text.to_owned());
        }
    }
    cells
}
