//! What an evaluation prints, and the file that it writes.

use std::fmt;
use std::path::Path;

use serde::Serialize;
use tinkex::eval::{Comparison, Estimate, Evaluated};
use tinkex::fs::write_atomically;

use super::samples_of;
use crate::failure::Failure;
use crate::output::Table;
use crate::text::one_line;

/// A model, and what became of it.
pub(super) struct Row {
    pub(super) model: String,
    pub(super) evaluated: Evaluated,
}

pub(super) struct Report {
    title: String,
    rows: Vec<Row>,
    pass_at: Vec<u32>,
    comparison: Option<Comparison>,
}

#[derive(Serialize)]
pub(super) struct Document<'a> {
    models: Vec<ModelDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<ComparisonDocument<'a>>,
}

#[derive(Serialize)]
struct ModelDocument<'a> {
    model: &'a str,
    tasks: usize,
    samples: usize,
    without_grade: usize,
    pass_at: Vec<PassAt>,
}

#[derive(Serialize)]
struct PassAt {
    k: u32,
    /// Null if no task has so many graded samples.
    mean: Option<f64>,
    /// Null also for a single task.
    standard_error: Option<f64>,
    /// The number of tasks that have so many graded samples.
    tasks: usize,
}

#[derive(Serialize)]
struct ComparisonDocument<'a> {
    model: &'a str,
    against: &'a str,
    wins: u32,
    losses: u32,
    ties: u32,
    left_out: u32,
    p_value: f64,
}

/// A line of the file.
#[derive(Serialize)]
struct Line<'a> {
    task: &'a str,
    model: &'a str,
    answer: Option<&'a str>,
    passed: Option<bool>,
    error: Option<String>,
}

impl Report {
    /// The report on one model, or on two to compare.
    pub(super) fn new(tasks: &Path, rows: Vec<Row>, pass_at: Vec<u32>) -> Result<Self, Failure> {
        let comparison = match &*rows {
            [first, second] => Some(first.evaluated.against(&second.evaluated)?),
            _ => None,
        };
        Ok(Report { title: format!("Evaluation: {}", tasks.display()), rows, pass_at, comparison })
    }

    /// Fails if a model has no grade at all.
    pub(super) fn check_grades(&self) -> Result<(), Failure> {
        match self.rows.iter().find(|row| row.evaluated.ungraded() == row.evaluated.samples()) {
            None => Ok(()),
            Some(row) => Err(Failure::failed(format!("no answer of {} could be graded", row.model))
                .hint("see above why not; --output writes the reason for each answer")),
        }
    }

    /// Writes a line for each sample: those of the first model, then those of the second.
    pub(super) fn write(&self, file: &Path) -> Result<(), Failure> {
        let mut text = String::new();
        for Row { model, evaluated } in &self.rows {
            for (task, sample) in samples_of(evaluated) {
                let (passed, error) = match &sample.grade {
                    Ok(passed) => (Some(*passed), None),
                    Err(error) => (None, Some(error.to_string())),
                };
                let line = Line { task: &task.id, model, answer: sample.answer.as_deref(), passed, error };
                let line = serde_json::to_string(&line);
                let line =
                    line.map_err(|error| Failure::failed(format!("a result cannot be written as JSON: {error}")))?;
                text.push_str(&line);
                text.push('\n');
            }
        }
        write_atomically(file, text.as_bytes()).map_err(|error| Failure::unwritable(file.display(), &error))
    }

    pub(super) fn document(&self) -> Document<'_> {
        let comparison = self.compared().map(|(first, second, comparison)| {
            let Comparison { wins, losses, ties, left_out, p_value, .. } = *comparison;
            ComparisonDocument { model: first, against: second, wins, losses, ties, left_out, p_value }
        });
        Document { models: self.rows.iter().map(|row| self.model(row)).collect(), comparison }
    }

    fn model<'a>(&self, Row { model, evaluated }: &'a Row) -> ModelDocument<'a> {
        let pass_at = |&k: &u32| {
            let estimate = evaluated.pass_at_k(k);
            PassAt {
                k,
                mean: estimate.map(|estimate| estimate.mean),
                standard_error: estimate.and_then(|estimate| estimate.standard_error),
                tasks: estimate.map_or(0, |estimate| estimate.count),
            }
        };
        ModelDocument {
            model,
            tasks: evaluated.tasks.len(),
            samples: evaluated.samples(),
            without_grade: evaluated.ungraded(),
            pass_at: self.pass_at.iter().map(pass_at).collect(),
        }
    }

    /// The names of two models, and how they compare.
    fn compared(&self) -> Option<(&str, &str, &Comparison)> {
        match (&*self.rows, &self.comparison) {
            ([first, second], Some(comparison)) => Some((&first.model, &second.model, comparison)),
            _ => None,
        }
    }

    fn table(&self) -> Table {
        let pass_at: Vec<String> = self.pass_at.iter().map(|k| format!("pass@{k}")).collect();
        let columns = ["Model", "Tasks", "Samples"].into_iter().chain(pass_at.iter().map(String::as_str));
        let mut table = Table::with_columns(self.title.clone(), columns.chain(["Without grade"]).collect());
        for Row { model, evaluated } in &self.rows {
            let estimate = |k: &u32| evaluated.pass_at_k(*k).as_ref().map(Estimate::to_string).unwrap_or_default();
            let counts = [evaluated.tasks.len(), evaluated.samples()].map(|count| count.to_string());
            let cells = [model.clone()].into_iter().chain(counts).chain(self.pass_at.iter().map(estimate));
            table.cells(cells.chain([evaluated.ungraded().to_string()]));
        }
        table
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table().fmt(f)?;
        let Some((first, second, comparison)) = self.compared() else { return Ok(()) };
        let Comparison { wins, losses, ties, left_out, p_value, .. } = comparison;
        let left_out = if *left_out > 0 { format!(", {left_out} left out") } else { String::new() };
        let counts = format!("{wins} won, {losses} lost, {ties} tied{left_out}; sign test p = {p_value:.4}");
        write!(f, "\nTasks of {} against {}: {counts}", one_line(first), one_line(second))
    }
}
