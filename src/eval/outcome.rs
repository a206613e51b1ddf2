//! What became of an evaluation.

use super::statistics::{Estimate, pass_at_k, sign_test};
use crate::error::{Error, Result};

/// The result of an [`Evaluation`](super::Evaluation).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Evaluated {
    /// What became of each task, in their order.
    pub tasks: Vec<TaskOutcome>,
}

/// What became of a task.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskOutcome {
    /// The id of the task.
    pub id: String,
    /// Its samples, in their order.
    pub samples: Vec<GradedSample>,
}

/// An answer, and its grade.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GradedSample {
    /// The text that was graded; `None` if there is none, because it could not be sampled or read.
    pub answer: Option<String>,
    /// Whether the answer passed, or why it has no grade: it could not be sampled, read or graded.
    pub grade: Result<bool>,
}

/// Two evaluations of the same tasks, side by side.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Comparison {
    /// The number of tasks in which the first has the higher pass rate.
    pub wins: u32,
    /// The number of tasks in which the other one has the higher pass rate.
    pub losses: u32,
    /// The number of tasks in which both have the same pass rate.
    pub ties: u32,
    /// The number of tasks of which one of them has no graded sample.
    pub left_out: u32,
    /// The p-value of wins and losses: see [`sign_test`].
    pub p_value: f64,
}

impl TaskOutcome {
    /// The number of samples that have a grade.
    #[must_use]
    pub fn graded(&self) -> u32 {
        self.count(|grade| grade.is_ok())
    }

    /// The number of samples that passed.
    #[must_use]
    pub fn passed(&self) -> u32 {
        self.count(|grade| matches!(grade, Ok(true)))
    }

    /// The fraction of the graded samples that passed; `None` without any.
    #[must_use]
    pub fn pass_rate(&self) -> Option<f64> {
        pass_at_k(self.graded(), self.passed(), 1)
    }

    fn count(&self, is_counted: impl Fn(&Result<bool>) -> bool) -> u32 {
        self.samples.iter().map(|sample| u32::from(is_counted(&sample.grade))).sum()
    }
}

impl Evaluated {
    /// The mean of [`pass_at_k`] over the tasks that have at least `k` graded samples, with its standard error over the tasks; `None`
    /// if no task has. Samples without a grade do not count, neither as passed nor as failed.
    #[must_use]
    pub fn pass_at_k(&self, k: u32) -> Option<Estimate> {
        Estimate::of(self.tasks.iter().filter_map(|task| pass_at_k(task.graded(), task.passed(), k)))
    }

    /// The number of samples.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.tasks.iter().map(|task| task.samples.len()).sum()
    }

    /// The number of samples that have no grade.
    #[must_use]
    pub fn ungraded(&self) -> usize {
        self.tasks.iter().map(|task| task.samples.len() - task.graded() as usize).sum()
    }

    /// Compares the pass rates of each task with those of another evaluation of the same tasks.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the other one has other tasks, or in another order.
    pub fn against(&self, other: &Evaluated) -> Result<Comparison> {
        let ids = |evaluated: &Evaluated| evaluated.tasks.iter().map(|task| task.id.clone()).collect::<Vec<_>>();
        if ids(self) != ids(other) {
            return Err(Error::invalid_input("the evaluations to compare are not of the same tasks")
                .with_hint("evaluate both models with the same tasks in the same order"));
        }
        let mut comparison = Comparison { wins: 0, losses: 0, ties: 0, left_out: 0, p_value: 1.0 };
        for (task, other) in self.tasks.iter().zip(&other.tasks) {
            let count = match (task.pass_rate(), other.pass_rate()) {
                (Some(rate), Some(other)) if rate > other => &mut comparison.wins,
                (Some(rate), Some(other)) if rate < other => &mut comparison.losses,
                (Some(_), Some(_)) => &mut comparison.ties,
                _ => &mut comparison.left_out,
            };
            *count += 1;
        }
        comparison.p_value = sign_test(comparison.wins, comparison.losses);
        Ok(comparison)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples that passed (`+`), failed (`-`) or have no grade (`?`), a word for each task.
    fn evaluated(words: &str) -> Evaluated {
        let sample = |mark| GradedSample {
            answer: None,
            grade: if mark == '?' { Err(Error::closed()) } else { Ok(mark == '+') },
        };
        let tasks = words
            .split(' ')
            .enumerate()
            .map(|(index, marks)| TaskOutcome { id: index.to_string(), samples: marks.chars().map(sample).collect() });
        Evaluated { tasks: tasks.collect() }
    }

    #[test]
    fn samples_without_grade_do_not_count() {
        let evaluated = evaluated("++ +- ?+ ??");
        assert_eq!((evaluated.samples(), evaluated.ungraded()), (8, 3));
        let one = evaluated.pass_at_k(1).unwrap();
        assert!((one.mean - 2.5 / 3.0).abs() < 1e-12 && one.count == 3, "{one:?}");
        let two = evaluated.pass_at_k(2).unwrap();
        assert!(two.mean == 1.0 && two.count == 2, "{two:?}");
        assert_eq!(evaluated.pass_at_k(3), None);
    }

    #[test]
    fn tasks_are_won_or_lost() {
        let comparison = evaluated("++ +- -- ++ ?+ ??").against(&evaluated("+- ++ -- +++ ++ ++")).unwrap();
        let Comparison { wins, losses, ties, left_out, p_value } = comparison;
        assert_eq!((wins, losses, ties, left_out, p_value), (1, 1, 3, 1, 1.0));
        let clear = evaluated("+ + + + +").against(&evaluated("- - - - -")).unwrap();
        assert_eq!((clear.wins, clear.p_value), (5, 0.0625));
        assert!(evaluated("+").against(&evaluated("+ +")).is_err());
    }
}
